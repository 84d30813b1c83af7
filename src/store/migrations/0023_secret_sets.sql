-- Secret sets belong to releases (DESIGN.md 8): immutable but for `secrets rotate`, numbered by agent.
CREATE TABLE secret_sets (
    agent_id uuid NOT NULL REFERENCES agents ON DELETE CASCADE,
    number integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (agent_id, number)
);

CREATE TABLE secret_values (
    agent_id uuid NOT NULL,
    number integer NOT NULL,
    name text NOT NULL,
    sealed bytea NOT NULL,
    -- Keyed digest: equal values have equal ones.
    mac bytea NOT NULL,
    -- Set by `secrets set`: a deploy whose .env does not name it leaves it alone.
    by_hand boolean NOT NULL DEFAULT false,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (agent_id, number, name),
    FOREIGN KEY (agent_id, number) REFERENCES secret_sets ON DELETE CASCADE
);

-- Null: made by a server of before, during the takeover; `Store::adopt_secrets` gives it a set.
ALTER TABLE releases ADD COLUMN secret_set integer;
-- What the manifest resolved to when the release was made (`release::spec::ReleaseSpec`). Null: of before.
ALTER TABLE releases ADD COLUMN spec json;

-- A rolling rollout replaces the replicas of what serves one by one, by replicas of another release of the same image.
ALTER TABLE rollouts ADD COLUMN rolling boolean NOT NULL DEFAULT false;
-- The rollout that took its place: newer secrets came before it had ended.
ALTER TABLE rollouts ADD COLUMN superseded_by uuid;

-- Until now an agent had one set, which all of its releases shared. The tables and columns of before (`secrets`,
-- `secrets_changed_at`, `serving_secrets_at`, `secrets_at`) stay for one version: a server of before may still run.
INSERT INTO secret_sets (agent_id, number) SELECT id, 1 FROM agents;
INSERT INTO secret_values (agent_id, number, name, sealed, mac, by_hand, updated_at)
SELECT agent_id, 1, name, sealed, mac, by_hand, updated_at FROM secrets;
UPDATE releases SET secret_set = 1;
