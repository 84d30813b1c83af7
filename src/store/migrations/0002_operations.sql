-- What operators ask for: how many replicas, which runs, which rollouts.

-- Replicas asked for by hand, in place of the manifest's min_replicas; null: the manifest's.
ALTER TABLE agents ADD COLUMN scale integer;

CREATE INDEX runs_by_agent ON runs (agent_id, accepted_at DESC, id DESC);
CREATE INDEX runs_failed ON runs (agent_id, accepted_at DESC) WHERE status IN ('error', 'timeout');
CREATE INDEX rollouts_by_release ON rollouts (release_id, created_at);
-- Threads have no index by time: each run would have to keep it up.
