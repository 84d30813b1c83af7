-- Secrets that changed are brought to replicas one after the other, and may change again meanwhile.

-- Which secrets a generation has read: those of that time, or newer ones.
ALTER TABLE rollouts ADD COLUMN secrets_at timestamptz;
UPDATE rollouts SET secrets_at = created_at;
ALTER TABLE rollouts ALTER COLUMN secrets_at SET DEFAULT now(), ALTER COLUMN secrets_at SET NOT NULL;
ALTER TABLE agents ADD COLUMN serving_secrets_at timestamptz;
UPDATE agents SET serving_secrets_at = (SELECT created_at FROM rollouts WHERE rollouts.id = serving_generation);

-- Set by hand (`secrets set`): a deploy whose .env does not name it leaves it alone.
ALTER TABLE secrets ADD COLUMN by_hand boolean NOT NULL DEFAULT false;
