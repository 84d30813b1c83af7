-- Tokens of the control API with a role, a scope, an end and a last use. The version before knows only the roles
-- admin, deploy and read, and allows every other role nothing: so none of these tokens opens more there than here.
-- An admin's token with a scope or an end has the role admin-limited for the same reason.

-- {"agents": [NAME, …]}; null: everything.
ALTER TABLE tokens ADD COLUMN scope jsonb;
ALTER TABLE tokens ADD COLUMN expires_at timestamptz;
ALTER TABLE tokens ADD COLUMN last_used_at timestamptz;
