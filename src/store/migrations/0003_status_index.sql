-- `status` reads the last hour's figures from the index alone.
CREATE INDEX runs_figures ON runs (agent_id, ended_at) INCLUDE (accepted_at, turn, cost) WHERE ended_at IS NOT NULL;
DROP INDEX runs_ended;
