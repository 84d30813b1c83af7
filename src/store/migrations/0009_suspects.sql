-- Runs whose replica died with them: which of several did it is found out by giving one a replica for itself.
-- A binary from before claims such a run like any other.
ALTER TABLE runs
  -- How many replicas have died under it, in company or not.
  ADD COLUMN deaths integer NOT NULL DEFAULT 0,
  -- Whether its next attempt is to have a replica for itself.
  ADD COLUMN alone boolean NOT NULL DEFAULT false;
CREATE INDEX runs_alone ON runs (agent_id) WHERE alone AND status = 'pending';
