-- What an attempt has used, so that a run that takes several costs what all of them did; and what is to be said of it.
-- A binary from before counts the last attempt alone.
ALTER TABLE attempts
  ADD COLUMN input_tokens bigint NOT NULL DEFAULT 0,
  ADD COLUMN output_tokens bigint NOT NULL DEFAULT 0,
  -- US dollars; null where they are not known.
  ADD COLUMN cost double precision DEFAULT 0,
  -- Why its replica was replaced, where it was for this attempt.
  ADD COLUMN note text,
  ADD COLUMN noted_at timestamptz;
CREATE INDEX attempts_noted ON attempts (noted_at) WHERE noted_at IS NOT NULL;
