//! Holds a rollout in a phase from outside: by a lock in the server's database, and by gates in the replicas.

use crate::machine::{Server, runtime, until};
use rapidclaw::store::postgres::Managed;
use sqlx::{ConnectOptions as _, Executor as _, PgConnection};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::Runtime;

/// The step out of a phase, which is held.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// From `start` to `ready`.
    Ready = 1,
    /// From `ready` to `switch`.
    Switch = 2,
    /// The end of `switch`: in the transaction that makes the new release serve.
    End = 3,
}

/// Before a rollout's row takes a step it waits for whoever holds that step's lock.
const TRIGGER: &str = "
CREATE FUNCTION rapidclaw.hold() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE step int := CASE
    WHEN NEW.state = 'succeeded' AND OLD.state = 'running' THEN 3
    WHEN NEW.phase = 'switch' AND OLD.phase <> 'switch' THEN 2
    WHEN NEW.phase = 'ready' AND OLD.phase <> 'ready' THEN 1 END;
BEGIN
    IF step IS NOT NULL THEN PERFORM pg_advisory_xact_lock_shared(hashtext(NEW.agent_id::text), step); END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER hold BEFORE UPDATE ON rapidclaw.rollouts FOR EACH ROW EXECUTE FUNCTION rapidclaw.hold()";

/// A connection to the server's database that starts no Postgres of its own.
pub struct Database {
    runtime: Runtime,
    connection: PgConnection,
}

impl Database {
    pub fn of(server: &Server) -> Self {
        let runtime = runtime();
        let connection = runtime.block_on(async {
            let managed = Managed::find(&server.machine.data_dir()).await.unwrap().expect("Postgres runs");
            let options = managed.connect_options().options([("search_path", "rapidclaw")]);
            options.connect().await.unwrap()
        });
        Self { runtime, connection }
    }

    /// Makes steps of rollouts wait for [`Database::hold`].
    pub fn install(&mut self) {
        self.runtime.block_on(self.connection.execute(sqlx::raw_sql(TRIGGER))).unwrap();
    }

    /// From now on the agent's rollout does not take this step.
    pub fn hold(&mut self, agent: &str, step: Step) {
        let sql = "SELECT pg_advisory_lock(hashtext(id::text), $2) FROM agents WHERE name = $1";
        let query = sqlx::query(sql).bind(agent).bind(step as i32);
        self.runtime.block_on(query.execute(&mut self.connection)).unwrap();
    }

    /// Waits until the agent's rollout wants to take a step.
    #[track_caller]
    pub fn until_held(&mut self, agent: &str, step: Step) {
        let sql = "SELECT count(*) FROM pg_locks l JOIN agents a ON a.name = $1
                     AND l.classid = (hashtext(a.id::text)::bigint & 4294967295)::oid AND l.objid = $2::oid
                   WHERE l.locktype = 'advisory' AND NOT l.granted";
        until(&format!("{agent} held before {step:?}"), || {
            let query = sqlx::query_scalar::<_, i64>(sql).bind(agent).bind(step as i64);
            let waiting = self.runtime.block_on(query.fetch_one(&mut self.connection)).unwrap();
            if waiting > 0 { Ok(()) } else { Err(self.rollout(agent)) }
        });
    }

    /// Lets all go. With `forget` the statements that wait are as if they had never been sent: their sender is dead.
    pub fn release(mut self, forget: bool) {
        if forget {
            let sql = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
            self.runtime.block_on(self.connection.execute(sql)).unwrap();
        }
        self.runtime.block_on(self.connection.execute("SELECT pg_advisory_unlock_all()")).unwrap();
    }

    /// State and phase of the agent's newest rollout.
    pub fn rollout(&mut self, agent: &str) -> String {
        let sql = "SELECT o.state || ' ' || o.phase FROM rollouts o JOIN agents a ON a.id = o.agent_id
                   WHERE a.name = $1 ORDER BY o.created_at DESC LIMIT 1";
        let query = sqlx::query_scalar::<_, String>(sql).bind(agent);
        self.runtime.block_on(query.fetch_one(&mut self.connection)).unwrap()
    }

    /// The generation that serves the agent, and the one of its newest rollout.
    pub fn generations(&mut self, agent: &str) -> [String; 2] {
        let sql =
            "SELECT a.serving_generation::text, o.generation::text FROM rollouts o JOIN agents a ON a.id = o.agent_id
                   WHERE a.name = $1 ORDER BY o.created_at DESC LIMIT 1";
        let query = sqlx::query_as::<_, (String, String)>(sql).bind(agent);
        self.runtime.block_on(query.fetch_one(&mut self.connection)).unwrap().into()
    }

    /// A number.
    pub fn count(&mut self, sql: &'static str) -> i64 {
        self.runtime.block_on(sqlx::query_scalar(sql).fetch_one(&mut self.connection)).unwrap()
    }

    /// As when the ten minutes are over for which replicas are kept.
    pub fn end_standby(&mut self, agent: &str) {
        let query = sqlx::query("UPDATE agents SET standby_until = now() WHERE name = $1").bind(agent);
        self.runtime.block_on(query.execute(&mut self.connection)).unwrap();
    }
}

/// Opens the gates of all replicas but those that are held: the files for which the graphs wait.
pub struct Gates {
    closed: Arc<Mutex<BTreeSet<(String, &'static str)>>>,
    run_dir: PathBuf,
}

pub const GATES: [&str; 2] = ["load", "go"];

impl Gates {
    pub fn of(server: &Server) -> Self {
        let closed: Arc<Mutex<BTreeSet<(String, &'static str)>>> = Arc::default();
        let gates = Self { closed: Arc::clone(&closed), run_dir: server.machine.run_dir().to_owned() };
        let (run_dir, alive) = (gates.run_dir.clone(), Arc::downgrade(&closed));
        drop(closed);
        std::thread::spawn(move || {
            while let Some(closed) = alive.upgrade() {
                {
                    let closed = closed.lock().unwrap();
                    for (agent, folder) in replicas(&run_dir) {
                        for gate in GATES.into_iter().filter(|gate| !closed.contains(&(agent.clone(), *gate))) {
                            let _ =
                                std::fs::File::options().create(true).append(true).open(folder.join("r").join(gate));
                        }
                    }
                }
                drop(closed);
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        gates
    }

    pub fn close(&self, agent: &str, gate: &'static str) {
        let mut closed = self.closed.lock().unwrap();
        closed.insert((agent.to_owned(), gate));
        for (_, folder) in replicas(&self.run_dir).into_iter().filter(|(one, _)| one == agent) {
            let _ = std::fs::remove_file(folder.join("r").join(gate));
        }
    }

    pub fn open(&self, gate: &str) {
        self.closed.lock().unwrap().retain(|(_, closed)| *closed != gate);
    }

    pub fn open_all(&self) {
        self.closed.lock().unwrap().clear();
    }
}

/// Each replica's agent and folder.
fn replicas(run_dir: &std::path::Path) -> Vec<(String, PathBuf)> {
    let own = std::fs::read_dir(run_dir).into_iter().flatten().flatten();
    let folders = own.flat_map(|own| std::fs::read_dir(own.path()).into_iter().flatten().flatten());
    let agent = |folder: PathBuf| {
        let text = std::fs::read(folder.join("s/replica.json")).ok()?;
        let said: serde_json::Value = serde_json::from_slice(&text).ok()?;
        Some((said["agent"].as_str()?.to_owned(), folder))
    };
    folders.filter_map(|folder| agent(folder.path())).collect()
}
