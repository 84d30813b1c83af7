//! All that a managed Postgres holds, out and in again, by Postgres' own `pg_dump` and `pg_restore`: what an
//! older version wrote a newer one can read.
//!
//! The server's database is written and read by the server's role. What agents have put into databases of
//! their own is code that runs when it is read or written (functions in constraints, indexes, generated
//! columns; views in place of tables): there it runs with the agent's rights alone, and what goes wrong
//! concerns that one database.

use super::Managed;
use super::agent_databases::{self, backup_role, undisturbed, verifier};
use super::cluster::look;
use super::error::PostgresError;
use super::options::{Options, ROLE};
use super::pool::open;
use super::programs::Programs;
use crate::base::disk;
use crate::base::ids::random_token;
use crate::base::paths;
use crate::base::secret::{ExposeSecret as _, MasterKey, SecretString};
use crate::base::telemetry::chain;
use crate::store::limits;

use serde::{Deserialize, Serialize};
use sqlx::{Connection as _, PgConnection, Row as _};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use tokio::time::Instant;
use uuid::Uuid;

/// The roles, as statements, in dumps that older versions wrote. They are not run: an agent may set its role's
/// settings.
const ROLES: &str = "roles.sql";
/// Names its sessions, for whoever looks.
const APPLICATION: &str = "rapidclaw-backup";
/// Room on the disk that one agent's database leaves to everything else.
const RESERVE_BYTES: u64 = 256 << 20;
/// How much is kept of why a database is missing.
const WHY_CHARS: usize = 600;
/// What holds for a session in an agent's database, whatever is set there.
const SESSION: &str = "-c search_path=pg_catalog -c local_preload_libraries= -c statement_timeout=0 -c lock_timeout=0 \
    -c idle_in_transaction_session_timeout=0 -c row_security=off -c client_min_messages=warning";

/// What a dump holds beside its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dump {
    /// The version of the programs that wrote it.
    pub postgres: u32,
    /// Its databases, in the order of their files.
    pub databases: Vec<String>,
    /// Those that could not be written.
    pub missing: Vec<Missing>,
}

/// A database that could not be written or read whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// Its name.
    pub database: String,
    /// What Postgres' programs said, or what stopped them.
    pub why: String,
}

impl Missing {
    /// An agent has a say in what the programs say: it is shortened, and no terminal obeys it.
    fn new(database: String, error: &PostgresError) -> Self {
        let why: String = chain(error).chars().map(|one| if one.is_control() { ' ' } else { one }).collect();
        let end = why.char_indices().nth(WHY_CHARS).map_or(why.len(), |(end, _)| end);
        Self { database, why: why[..end].to_owned() }
    }
}

impl Dump {
    /// Names of its files, all in one folder.
    pub fn files(&self) -> Vec<String> {
        (0..self.databases.len()).map(file).collect()
    }

    /// Whether an archive may hold a file of that name: one of its own, or of an older version.
    pub fn may_hold(&self, name: &Path) -> bool {
        name == Path::new(ROLES) || (0..self.databases.len()).any(|index| name == Path::new(&file(index)))
    }
}

/// Databases bear names that need not be file names.
fn file(index: usize) -> String {
    format!("{index}.dump")
}

/// A database beside the server's.
struct Other {
    name: String,
    /// Whether it is an agent's: a role without rights bears its name.
    is_own: bool,
}

impl Managed {
    /// Writes all databases into `folder`, each as it is at one moment: the server's, or nothing; then those of
    /// agents' own, as far as they let themselves be read.
    pub async fn dump(&self, folder: &Path) -> Result<Dump, PostgresError> {
        let programs = self.programs().await?;
        let mut databases = vec![ROLE.to_owned()];
        let target = folder.join(file(0)).display().to_string();
        self.program(&programs, folder, "pg_dump", &["-Fc", "-f", &target, "-d", ROLE]).await?;
        let failed = |source| PostgresError::Statement { action: "list the databases", source };
        let mut connection = open(&self.options_for("postgres")).await.map_err(failed)?;
        let mut missing = Vec::new();
        for Other { name, is_own } in others(&mut connection).await.map_err(failed)? {
            let target = folder.join(file(databases.len()));
            let written = if is_own {
                self.dump_own(&programs, folder, &name, &target).await
            } else {
                // One that the operator has made.
                let path = target.display().to_string();
                self.program(&programs, folder, "pg_dump", &["-Fc", "-f", &path, "-d", &name]).await.map(drop)
            };
            match written {
                Ok(()) => databases.push(name),
                Err(error) => {
                    let _ = tokio::fs::remove_file(&target).await;
                    missing.push(Missing::new(name, &error));
                }
            }
        }
        let _ = connection.close().await;
        Ok(Dump { postgres: programs.major(), databases, missing })
    }

    /// Writes an agent's own database with the agent's rights.
    async fn dump_own(
        &self,
        programs: &Programs,
        folder: &Path,
        name: &str,
        target: &Path,
    ) -> Result<(), PostgresError> {
        let failed = |source| PostgresError::Statement { action: "let its backup in", source };
        let mut connection = open(&self.options_for("postgres")).await.map_err(failed)?;
        let role = backup_role(name);
        let password = random_token("backup").map_err(|error| failed(sqlx::Error::Protocol(error.to_string())))?;
        let password = SecretString::from(password);
        agent_databases::secure(&mut connection, &self.connect_options(), name).await.map_err(failed)?;
        let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = $1)")
            .bind(&role)
            .fetch_one(&mut connection)
            .await
            .map_err(failed)?;
        let verb = if exists { "ALTER" } else { "CREATE" };
        let verifier = verifier(&password).map_err(failed)?;
        for sql in [
            format!("{verb} ROLE \"{role}\" LOGIN INHERIT BYPASSRLS CONNECTION LIMIT 2 PASSWORD '{verifier}'"),
            format!("GRANT \"{name}\" TO \"{role}\""),
        ] {
            undisturbed(&mut connection, name, &sql).await.map_err(failed)?;
        }
        let session = Session { name, role: &role, password: &password, folder };
        let target_text = target.display().to_string();
        let words = ["-Fc", "-f", &target_text, "--lock-wait-timeout=10s"];
        let written = self.in_own(programs, session, "pg_dump", &words, "-c default_transaction_read_only=on").await;
        let closed = format!("ALTER ROLE \"{role}\" NOLOGIN PASSWORD NULL");
        if let Err(error) = undisturbed(&mut connection, name, &closed).await {
            tracing::warn!(name, error = %chain(&error), "the role of a backup stays open");
        }
        let _ = connection.close().await;
        written
    }

    /// Reads a dump's files from `folder` into this Postgres, which has just been made. `key` is the server's:
    /// agents' roles get their passwords again. Gives the databases that could not be read whole.
    pub async fn restore(&self, folder: &Path, dump: &Dump, key: &MasterKey) -> Result<Vec<Missing>, PostgresError> {
        let programs = self.programs().await?;
        let mut missing = Vec::new();
        // The server's own database is there, empty.
        let ours = dump.databases.iter().position(|database| database == ROLE);
        let ours = folder.join(file(ours.unwrap_or_default())).display().to_string();
        self.program(&programs, folder, "pg_restore", &["-e", "-d", ROLE, &ours]).await?;
        let failed = |source| PostgresError::Statement { action: "read the restored agents", source };
        let mut connection = open(&self.connect_options()).await.map_err(failed)?;
        let agents = agents(&mut connection).await.map_err(failed)?;
        for (index, database) in dump.databases.iter().enumerate().filter(|(_, database)| *database != ROLE) {
            let source = folder.join(file(index)).display().to_string();
            let read = if let Some(agent) = agents.get(database) {
                let password = agent_databases::password(key, *agent);
                self.restore_own(&programs, folder, database, &password, &source).await
            } else if looks_own(database) {
                // Its agent was being destroyed.
                continue;
            } else {
                let words = ["-e", "-O", "-C", "-d", "postgres", &source];
                self.program(&programs, folder, "pg_restore", &words).await.map(drop)
            };
            if let Err(error) = read {
                missing.push(Missing::new(database.clone(), &error));
            }
        }
        // An agent whose database is not in the dump gets an empty one: it was deployed with one.
        for one in &dump.missing {
            if let Some(agent) = agents.get(&one.database) {
                let password = agent_databases::password(key, *agent);
                let made =
                    agent_databases::ensure(&mut connection, &self.connect_options(), &one.database, &password).await;
                made.map_err(|source| PostgresError::Statement { action: "make an agent's database", source })?;
            }
        }
        // A server of its own: what still runs of the old one is not taken for its replicas.
        let failed = |source| PostgresError::Statement { action: "give the restored server its own id", source };
        let forgotten = "DELETE FROM rapidclaw.settings WHERE name = 'server_id'";
        sqlx::query(forgotten).execute(&mut connection).await.map_err(failed)?;
        let _ = connection.close().await;
        Ok(missing)
    }

    /// Reads an agent's own database as the agent's role, as far as that may.
    async fn restore_own(
        &self,
        programs: &Programs,
        folder: &Path,
        name: &str,
        password: &SecretString,
        source: &str,
    ) -> Result<(), PostgresError> {
        let failed = |source| PostgresError::Statement { action: "make it", source };
        let mut connection = open(&self.options_for("postgres")).await.map_err(failed)?;
        agent_databases::ensure(&mut connection, &self.connect_options(), name, password).await.map_err(failed)?;
        let session = Session { name, role: name, password, folder };
        let read = self.in_own(programs, session, "pg_restore", &["--no-owner", "--no-tablespaces", source], "").await;
        // Whatever it has done to its own role meanwhile.
        agent_databases::ensure(&mut connection, &self.connect_options(), name, password).await.map_err(failed)?;
        let _ = connection.close().await;
        read
    }

    /// Runs a program in an agent's database as one of its roles, within its time and its share of the disk.
    async fn in_own(
        &self,
        programs: &Programs,
        session: Session<'_>,
        program: &str,
        words: &[&str],
        settings: &str,
    ) -> Result<(), PostgresError> {
        let pass = session.folder.join("pass");
        // Letters, digits and hyphens: nothing to escape.
        paths::write_private(&pass, format!("*:*:*:*:{}\n", session.password.expose_secret()).as_bytes())
            .map_err(|source| PostgresError::Folder { path: pass.clone(), source })?;
        let quoted = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
        let way = [
            ("host", self.socket.display().to_string()),
            ("port", "5432".to_owned()),
            ("user", session.role.to_owned()),
            ("dbname", session.name.to_owned()),
            ("passfile", pass.display().to_string()),
            ("application_name", APPLICATION.to_owned()),
            ("options", format!("{SESSION} {settings}")),
        ];
        let way: Vec<String> = way.iter().map(|(key, value)| format!("{key}={}", quoted(value))).collect();
        let way = way.join(" ");
        let all = [&[program, "-w", "-d", &way], words].concat();
        let stopped = {
            let running = programs.client(&self.layout, session.folder, &all, limits::DUMP_OWN + limits::ENDED * 2);
            tokio::pin!(running);
            let watching = self.watch(&session);
            tokio::pin!(watching);
            tokio::select! {
                ended = &mut running => {
                    // What it leaves is gone before the next begins.
                    self.end_sessions(&session).await?;
                    return ended.map(drop);
                }
                stopped = &mut watching => {
                    // Without its sessions the program ends by itself, wherever it runs.
                    let _ = self.end_sessions(&session).await;
                    let _ = running.await;
                    stopped
                }
            }
        };
        Err(stopped)
    }

    /// Returns when a database of an agent's has had its time, or takes what others need of the disk.
    async fn watch(&self, session: &Session<'_>) -> PostgresError {
        let deadline = Instant::now() + limits::DUMP_OWN;
        loop {
            tokio::time::sleep(limits::DUMP_LOOK_EVERY).await;
            if Instant::now() > deadline {
                let (what, seconds) = ("its part of the backup", limits::DUMP_OWN.as_secs());
                return PostgresError::TimedOut { what, seconds, log: String::new() };
            }
            for place in [session.folder, &self.layout.root] {
                if let Some(free) = disk::free_bytes(place).filter(|free| *free < RESERVE_BYTES) {
                    return PostgresError::DiskFull { path: PathBuf::from(place), free, needed: None };
                }
            }
        }
    }

    /// Ends what the program may have left: its role has no other sessions now.
    async fn end_sessions(&self, session: &Session<'_>) -> Result<(), PostgresError> {
        let failed = |source| PostgresError::Statement { action: "end the backup's sessions", source };
        let mut connection = open(&self.options_for("postgres")).await.map_err(failed)?;
        let deadline = Instant::now() + limits::ENDED;
        let ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND usename = $2";
        loop {
            let found = sqlx::query(ended)
                .bind(session.name)
                .bind(session.role)
                .fetch_all(&mut connection)
                .await
                .map_err(failed)?;
            if found.is_empty() || Instant::now() > deadline {
                break;
            }
            tokio::time::sleep(limits::POLL).await;
        }
        let _ = connection.close().await;
        Ok(())
    }

    /// Those that run it: of the image where one does.
    async fn programs(&self) -> Result<Programs, PostgresError> {
        let options = Options::new(self.layout.root.parent().unwrap_or(&self.layout.root));
        Ok(Programs::find(&look(&self.layout).await?, &self.layout, &options).await?.1)
    }

    /// As ourselves, whom the server's role is for: the files are ours.
    async fn program(
        &self,
        programs: &Programs,
        folder: &Path,
        name: &str,
        args: &[&str],
    ) -> Result<String, PostgresError> {
        let socket = self.socket.display().to_string();
        let words = [&[name, "-h", &socket, "-p", "5432", "-U", ROLE, "-w"], args].concat();
        programs.client(&self.layout, folder, &words, limits::DUMP).await
    }
}

/// Who reads or writes an agent's database.
struct Session<'a> {
    name: &'a str,
    role: &'a str,
    password: &'a SecretString,
    /// Of the dump's files.
    folder: &'a Path,
}

/// The databases beside the server's, whatever flags they bear.
async fn others(connection: &mut PgConnection) -> Result<Vec<Other>, sqlx::Error> {
    let names = "SELECT datname, EXISTS (SELECT 1 FROM pg_roles WHERE rolname = datname AND NOT rolsuper) AS own
        FROM pg_database WHERE datname NOT IN ('template0', 'template1', 'postgres', $1) ORDER BY datname";
    let rows = sqlx::query(names).bind(ROLE).fetch_all(connection).await?;
    Ok(rows.iter().map(|row| Other { name: row.get("datname"), is_own: row.get("own") }).collect())
}

/// The agents of a restored server, by the name of the database that each would have.
async fn agents(connection: &mut PgConnection) -> Result<HashMap<String, Uuid>, sqlx::Error> {
    let rows: Vec<(Uuid, String)> =
        sqlx::query_as("SELECT id, schema_name FROM rapidclaw.agents WHERE destroyed_at IS NULL")
            .fetch_all(connection)
            .await?;
    Ok(rows.into_iter().map(|(id, schema)| (agent_databases::name_of(id, &schema), id)).collect())
}

/// Whether a name is one that agents' databases have.
fn looks_own(name: &str) -> bool {
    let end = name.strip_prefix("agent_").and_then(|rest| rest.rsplit_once('_'));
    end.is_some_and(|(_, id)| id.len() == 8 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
