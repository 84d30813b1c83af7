-- Control plane, runs and leases. Everything lives in the schema rapidclaw; each agent's
-- checkpoints live in a schema of their own (store/checkpoints).

CREATE TABLE settings (
    name text PRIMARY KEY,
    value text NOT NULL
);

CREATE TABLE tokens (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    role text NOT NULL,
    hash bytea NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);

CREATE TABLE agents (
    id uuid PRIMARY KEY,
    name text NOT NULL UNIQUE,
    schema_name text NOT NULL UNIQUE,
    serving_release uuid,
    -- The generation of the serving replicas: the rollout that made them. They are told apart by it, also
    -- under one release.
    serving_generation uuid,
    -- Generations that are older have read other secrets than today's.
    secrets_changed_at timestamptz NOT NULL DEFAULT now(),
    -- Replicas of the release before, kept for a rollback.
    standby_generation uuid,
    standby_release uuid,
    standby_until timestamptz,
    last_version integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    destroyed_at timestamptz
);

CREATE TABLE releases (
    id uuid PRIMARY KEY,
    agent_id uuid NOT NULL REFERENCES agents ON DELETE CASCADE,
    version integer NOT NULL,
    image text NOT NULL,
    inputs_digest text NOT NULL,
    manifest jsonb NOT NULL,
    folder text NOT NULL,
    secret_names text[] NOT NULL,
    source_revision text,
    -- The release that a rollback made this one from.
    copy_of uuid REFERENCES releases ON DELETE SET NULL,
    -- json, not jsonb: what a replica says may hold NUL characters, which jsonb cannot.
    describe json,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (agent_id, version)
);
ALTER TABLE agents ADD FOREIGN KEY (serving_release) REFERENCES releases;

CREATE TABLE rollouts (
    id uuid PRIMARY KEY,
    agent_id uuid NOT NULL REFERENCES agents ON DELETE CASCADE,
    release_id uuid NOT NULL REFERENCES releases ON DELETE CASCADE,
    from_release_id uuid REFERENCES releases ON DELETE CASCADE,
    -- Which replicas it brings to serve: its own, or those that a rollback finds on standby.
    generation uuid NOT NULL,
    state text NOT NULL,
    phase text NOT NULL,
    phases jsonb NOT NULL DEFAULT '[]',
    failure json,
    created_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz
);
CREATE UNIQUE INDEX rollouts_one_at_a_time ON rollouts (agent_id) WHERE state = 'running';
CREATE INDEX rollouts_by_agent ON rollouts (agent_id, created_at DESC);

CREATE TABLE rollout_events (
    rollout_id uuid NOT NULL REFERENCES rollouts ON DELETE CASCADE,
    seq integer NOT NULL,
    phase text NOT NULL,
    message text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (rollout_id, seq)
);

CREATE TABLE agent_keys (
    id uuid PRIMARY KEY,
    agent_id uuid NOT NULL REFERENCES agents ON DELETE CASCADE,
    name text NOT NULL,
    prefix text NOT NULL,
    hash bytea NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);
CREATE INDEX agent_keys_by_agent ON agent_keys (agent_id);

CREATE TABLE secrets (
    agent_id uuid NOT NULL REFERENCES agents ON DELETE CASCADE,
    name text NOT NULL,
    sealed bytea NOT NULL,
    mac bytea NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (agent_id, name)
);

-- A gateway that is alive renews its row each second; attempts point at it.
CREATE TABLE gateways (
    id uuid PRIMARY KEY,
    lease_until timestamptz NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE threads (
    agent_id uuid NOT NULL REFERENCES agents ON DELETE CASCADE,
    id uuid NOT NULL,
    given text NOT NULL,
    status text NOT NULL DEFAULT 'idle',
    metadata jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (agent_id, id)
);

CREATE TABLE runs (
    id uuid PRIMARY KEY,
    agent_id uuid NOT NULL REFERENCES agents ON DELETE CASCADE,
    release_id uuid REFERENCES releases ON DELETE SET NULL,
    thread_id uuid,
    graph text NOT NULL,
    turn boolean NOT NULL,
    status text NOT NULL,
    request jsonb NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}',
    attempt integer NOT NULL DEFAULT 0,
    -- Attempts that ended with their replica: a run that kills what it runs on is given up after some.
    losses integer NOT NULL DEFAULT 0,
    idempotency_key text,
    answer json,
    fault json,
    input_tokens bigint NOT NULL DEFAULT 0,
    output_tokens bigint NOT NULL DEFAULT 0,
    cost double precision,
    accepted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at timestamptz,
    ended_at timestamptz
);
-- No two runs write one thread.
CREATE UNIQUE INDEX runs_one_on_a_thread ON runs (agent_id, thread_id) WHERE status = 'running';
CREATE UNIQUE INDEX runs_by_key ON runs (agent_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX runs_waiting ON runs (agent_id, accepted_at) WHERE status = 'pending';
CREATE INDEX runs_ended ON runs (agent_id, ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX runs_of_thread ON runs (agent_id, thread_id, accepted_at);

CREATE TABLE attempts (
    run_id uuid NOT NULL REFERENCES runs ON DELETE CASCADE,
    number integer NOT NULL,
    gateway_id uuid NOT NULL,
    replica uuid NOT NULL,
    state text NOT NULL DEFAULT 'live',
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at timestamptz,
    PRIMARY KEY (run_id, number)
);
CREATE INDEX attempts_live ON attempts (gateway_id) WHERE state = 'live';
