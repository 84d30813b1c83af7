-- `status` counts an agent's failures of the last hour without reading its other runs.
CREATE INDEX runs_failed_lately ON runs (agent_id, ended_at) WHERE status IN ('error', 'timeout');
