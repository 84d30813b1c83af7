-- The queue: what a claim, an accept and an end cost depends on neither the queue's length nor the thread's.
-- The version before lives with it: whatever it writes, the triggers below keep `ready` right.

-- Of the runs that wait, the one of each thread whose turn it is. What runs keeps it: put back, it is next again.
ALTER TABLE runs ADD COLUMN ready boolean;

-- A claim reads these in order, several at once.
CREATE INDEX runs_ready ON runs (agent_id, accepted_at, id) WHERE status = 'pending' AND ready;
-- Who is next on a thread, and how many wait.
CREATE INDEX runs_behind ON runs (agent_id, thread_id, ready DESC NULLS LAST, accepted_at, id) WHERE status = 'pending';
DROP INDEX runs_waiting;

UPDATE runs r SET ready = NOT EXISTS (
  SELECT FROM runs o WHERE o.agent_id = r.agent_id AND o.thread_id = r.thread_id AND o.status = 'pending'
    AND (o.attempt = 0, o.accepted_at, o.id) < (r.attempt = 0, r.accepted_at, r.id)
)
WHERE status = 'pending' AND NOT EXISTS (
  SELECT FROM runs o WHERE o.agent_id = r.agent_id AND o.thread_id = r.thread_id AND o.status = 'running'
);
UPDATE runs SET ready = true WHERE status = 'running';

-- Where a new run goes: it begins, it is next on its thread, or it waits behind others. A function, because each
-- of its statements sees what is committed when it begins: the caller holds the thread's row, which he may have
-- waited for, and his own statement still sees what was before.
CREATE FUNCTION place_run(agent uuid, thread uuid, has_place boolean, queue_limit integer, OUT status text, OUT ready boolean)
LANGUAGE plpgsql AS $$
DECLARE
  -- Accepts that do not see each other are fewer than this: each holds a connection.
  margin CONSTANT integer := 256;
  waiting integer;
BEGIN
  ready := NOT EXISTS (
      SELECT FROM rapidclaw.runs r WHERE r.agent_id = agent AND r.thread_id = thread AND r.status = 'running'
    ) AND NOT EXISTS (
      SELECT FROM rapidclaw.runs r WHERE r.agent_id = agent AND r.thread_id = thread AND r.status = 'pending'
    );
  IF ready AND has_place THEN
    status := 'running';
    RETURN;
  END IF;
  status := 'pending';
  SELECT count(*) INTO waiting
  FROM (SELECT FROM rapidclaw.runs r WHERE r.agent_id = agent AND r.status = 'pending' LIMIT queue_limit) w;
  IF waiting >= queue_limit - margin THEN
    -- One after the other, so that no two take the last place.
    PERFORM pg_advisory_xact_lock(hashtext('rapidclaw.queue'), hashtext(agent::text));
    SELECT count(*) INTO waiting
    FROM (SELECT FROM rapidclaw.runs r WHERE r.agent_id = agent AND r.status = 'pending' LIMIT queue_limit) w;
    IF waiting >= queue_limit THEN
      RAISE EXCEPTION 'the queue is full' USING ERRCODE = 'RC001';
    END IF;
  END IF;
END $$;

-- A run that the version before has placed.
CREATE FUNCTION run_was_placed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.ready := NEW.status = 'running' OR NOT EXISTS (
      SELECT FROM rapidclaw.runs r WHERE r.agent_id = NEW.agent_id AND r.thread_id = NEW.thread_id AND r.status = 'running'
    ) AND NOT EXISTS (
      SELECT FROM rapidclaw.runs r WHERE r.agent_id = NEW.agent_id AND r.thread_id = NEW.thread_id AND r.status = 'pending'
    );
  RETURN NEW;
END $$;
CREATE TRIGGER runs_placed BEFORE INSERT ON runs FOR EACH ROW
WHEN (NEW.ready IS NULL AND NEW.status IN ('pending', 'running')) EXECUTE FUNCTION run_was_placed();

-- A thread has become free: its next run is ready. A trigger for the same reason as above.
CREATE FUNCTION thread_is_free() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE rapidclaw.runs SET ready = true
  WHERE ready IS NOT TRUE AND id = (
    SELECT r.id FROM rapidclaw.runs r
    WHERE r.agent_id = NEW.agent_id AND r.thread_id = NEW.thread_id AND r.status = 'pending'
    ORDER BY r.ready DESC NULLS LAST, r.accepted_at, r.id LIMIT 1
  ) AND NOT EXISTS (
    SELECT FROM rapidclaw.runs r WHERE r.agent_id = NEW.agent_id AND r.thread_id = NEW.thread_id AND r.status = 'running'
  );
  RETURN NULL;
END $$;
CREATE TRIGGER runs_freed AFTER UPDATE OF status ON runs FOR EACH ROW
WHEN (OLD.status IN ('pending', 'running') AND NEW.status <> OLD.status AND NEW.status <> 'running')
EXECUTE FUNCTION thread_is_free();

-- Each run locked the rows of its agent and its release to be sure that they are there: every accept of an agent
-- wrote to the same two rows. Nothing deletes them but the end of the agent.
ALTER TABLE attempts DROP CONSTRAINT attempts_run_id_fkey;
ALTER TABLE runs DROP CONSTRAINT runs_agent_id_fkey, DROP CONSTRAINT runs_release_id_fkey;
ALTER TABLE threads DROP CONSTRAINT threads_agent_id_fkey;
CREATE FUNCTION agent_is_gone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM rapidclaw.attempts a USING rapidclaw.runs r WHERE r.agent_id = OLD.id AND a.run_id = r.id;
  DELETE FROM rapidclaw.runs WHERE agent_id = OLD.id;
  DELETE FROM rapidclaw.threads WHERE agent_id = OLD.id;
  RETURN NULL;
END $$;
CREATE TRIGGER agents_gone AFTER DELETE ON agents FOR EACH ROW EXECUTE FUNCTION agent_is_gone();

-- The primary keys of the checkpoint tables begin with the same column.
DO $$
DECLARE
  found record;
BEGIN
  FOR found IN
    SELECT i.schemaname, i.indexname FROM pg_indexes i JOIN rapidclaw.agents a ON a.schema_name = i.schemaname
    WHERE i.indexname IN ('checkpoints_thread_id_idx', 'checkpoint_blobs_thread_id_idx', 'checkpoint_writes_thread_id_idx')
  LOOP
    EXECUTE format('DROP INDEX %I.%I', found.schemaname, found.indexname);
  END LOOP;
END $$;
