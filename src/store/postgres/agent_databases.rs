//! Statements about the databases and roles of agents' own, in any Postgres. Nothing here waits for a lock that an
//! agent holds, but ends the sessions that hold it.

use crate::base::secret::{ExposeSecret as _, MasterKey, SecretError, SecretString, scram_verifier};
use crate::store::limits;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};
use tokio::time::Instant;
use uuid::Uuid;

/// How many connections all replicas of an agent may have to their database.
pub const CONNECTIONS: usize = 60;

/// What one connection of theirs may write to the disk for sorting and hashing, in kB.
const TEMP_FILES_KB: u32 = 512 << 10;

pub(in crate::store) fn name_of(agent: Uuid, schema_name: &str) -> String {
    let id = agent.simple().to_string();
    format!("{schema_name}_{}", &id[id.len() - 8..])
}

/// The password of an agent's role: nothing to store.
pub fn password(key: &MasterKey, agent: Uuid) -> SecretString {
    key.derive(&format!("database/{agent}"))
}

/// The role that writes an agent's database into a backup: it may what the agent may, and see the rows that
/// the agent's own policies hide from it. It can log in during a backup alone.
pub(in crate::store) fn backup_role(name: &str) -> String {
    format!("{name}_backup")
}

/// A password as Postgres stores it: the password itself never reaches its log.
pub(in crate::store) fn verifier(password: &SecretString) -> Result<String, sqlx::Error> {
    scram_verifier(password.expose_secret()).map_err(|error: SecretError| sqlx::Error::Protocol(error.to_string()))
}

/// Makes role and database `name` as far as they are not there yet. `connection` is to another database of
/// the same Postgres, `options` how to connect there.
pub(in crate::store) async fn ensure(
    connection: &mut PgConnection,
    options: &PgConnectOptions,
    name: &str,
    password: &SecretString,
) -> Result<(), sqlx::Error> {
    let verifier = verifier(password)?;
    let verb = if role_exists(connection, name).await? { "ALTER" } else { "CREATE" };
    let role = format!("{verb} ROLE \"{name}\" LOGIN CONNECTION LIMIT {CONNECTIONS} PASSWORD '{verifier}'");
    undisturbed(connection, name, &role).await?;
    let superuser: bool = sqlx::query_scalar("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        .fetch_one(&mut *connection)
        .await?;
    if superuser {
        let bound = format!("ALTER ROLE \"{name}\" SET temp_file_limit = {TEMP_FILES_KB}");
        undisturbed(connection, name, &bound).await?;
    } else {
        // Who may make roles only has to be of one to give it something.
        execute(connection, format!("GRANT \"{name}\" TO CURRENT_USER")).await?;
    }
    let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = $1)")
        .bind(name)
        .fetch_one(&mut *connection)
        .await?;
    if !exists {
        // Not in a transaction: Postgres makes databases in none. What a crash leaves is found by the next call.
        execute(connection, format!("CREATE DATABASE \"{name}\" TEMPLATE template0")).await?;
    }
    secure(connection, options, name).await
}

/// Makes a database of an agent's what it has to be, whatever has become of it: the server's own, open, no
/// template; the agent may work in it, and nobody else.
pub(in crate::store) async fn secure(
    connection: &mut PgConnection,
    options: &PgConnectOptions,
    name: &str,
) -> Result<(), sqlx::Error> {
    let is_right: bool = sqlx::query_scalar(
        "SELECT pg_get_userbyid(datdba) = current_user AND NOT datistemplate AND datallowconn AND datconnlimit = -1
           AND has_database_privilege($1::name, oid, 'CREATE') AND NOT has_database_privilege('public', oid, 'CONNECT')
         FROM pg_database WHERE datname = $1",
    )
    .bind(name)
    .fetch_optional(&mut *connection)
    .await?
    .unwrap_or(false);
    if !is_right {
        for sql in [
            format!("ALTER DATABASE \"{name}\" OWNER TO CURRENT_USER"),
            format!("ALTER DATABASE \"{name}\" WITH IS_TEMPLATE false ALLOW_CONNECTIONS true CONNECTION LIMIT -1"),
            format!("REVOKE ALL ON DATABASE \"{name}\" FROM PUBLIC"),
            format!("GRANT ALL ON DATABASE \"{name}\" TO \"{name}\""),
        ] {
            undisturbed(connection, name, &sql).await?;
        }
    }
    // What lies in it is the agent's: its own schema, too. Before Postgres 15 everybody may use that one.
    let mut inside = within(options, name).connect().await?;
    let outcome = async {
        let is_ours: Option<bool> = sqlx::query_scalar(
            "SELECT nspowner <> (SELECT oid FROM pg_roles WHERE rolname = $1) FROM pg_namespace WHERE nspname = 'public'",
        )
        .bind(name)
        .fetch_optional(&mut inside)
        .await?;
        if is_ours == Some(true) {
            match execute(&mut inside, format!("ALTER SCHEMA public OWNER TO \"{name}\"")).await {
                Err(error) if code(&error).as_deref() == Some("42501") => {}
                other => return other,
            }
        }
        Ok(())
    }
    .await;
    let _ = inside.close().await;
    outcome
}

/// Removes role and database, whatever the agent has made of them.
pub(in crate::store) async fn remove(
    connection: &mut PgConnection,
    options: &PgConnectOptions,
    name: &str,
) -> Result<(), sqlx::Error> {
    if !role_exists(connection, name).await? {
        // The role is made first and removed last.
        return Ok(());
    }
    // Nobody comes in any more. Then those who are in go, and with them all that they hold.
    undisturbed(connection, name, &format!("ALTER ROLE \"{name}\" NOLOGIN")).await?;
    for sql in [
        format!("ALTER DATABASE \"{name}\" OWNER TO CURRENT_USER"),
        format!("ALTER DATABASE \"{name}\" WITH IS_TEMPLATE false ALLOW_CONNECTIONS true"),
    ] {
        match undisturbed(connection, name, &sql).await {
            // It is gone already.
            Err(error) if code(&error).as_deref() == Some("3D000") => {}
            other => other?,
        }
    }
    terminate(connection, name).await?;
    // Both outlive their sessions, and hold the database back.
    let prepared: Vec<String> = sqlx::query_scalar("SELECT gid FROM pg_prepared_xacts WHERE database = $1")
        .bind(name)
        .fetch_all(&mut *connection)
        .await?;
    if !prepared.is_empty() {
        let mut inside = within(options, name).connect().await?;
        for gid in prepared {
            execute(&mut inside, format!("ROLLBACK PREPARED '{}'", gid.replace('\'', "''"))).await?;
        }
        let _ = inside.close().await;
    }
    sqlx::query(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = $1 AND NOT active",
    )
    .bind(name)
    .execute(&mut *connection)
    .await?;
    execute(connection, format!("DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)")).await?;
    for role in [backup_role(name), name.to_owned()] {
        execute(connection, format!("DROP ROLE IF EXISTS \"{role}\"")).await?;
    }
    Ok(())
}

/// A statement about an agent's role or database: where a session of the agent's holds its row, that session
/// is ended.
pub(in crate::store) async fn undisturbed(
    connection: &mut PgConnection,
    name: &str,
    sql: &str,
) -> Result<(), sqlx::Error> {
    let deadline = Instant::now() + limits::LOCK;
    loop {
        // In a transaction, for a setting that ends with it.
        let millis = limits::BRIEF_LOCK.as_millis();
        let mut transaction = connection.begin().await?;
        execute(&mut transaction, format!("SET LOCAL lock_timeout = {millis}")).await?;
        let outcome = match execute(&mut transaction, sql.to_owned()).await {
            Ok(()) => transaction.commit().await,
            Err(error) => {
                let _ = transaction.rollback().await;
                Err(error)
            }
        };
        match outcome {
            // Somebody holds the row (55P03), or has changed it at the same moment (XX000).
            Err(error)
                if matches!(code(&error).as_deref(), Some("55P03" | "XX000" | "40P01"))
                    && Instant::now() < deadline =>
            {
                tracing::warn!(name, "sessions in an agent's database stand in the way and are ended");
                terminate(connection, name).await?;
            }
            other => return other,
        }
    }
}

/// Ends all sessions in a database.
pub(in crate::store) async fn terminate(connection: &mut PgConnection, name: &str) -> Result<(), sqlx::Error> {
    let ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()";
    sqlx::query(ended).bind(name).execute(connection).await.map(drop)
}

/// How to connect to an agent's database as the server: nothing that the agent has left there is found before
/// Postgres' own, and its settings do not hold.
pub(in crate::store) fn within(options: &PgConnectOptions, name: &str) -> PgConnectOptions {
    options.clone().database(name).options([("search_path", "pg_catalog")])
}

async fn role_exists(connection: &mut PgConnection, name: &str) -> Result<bool, sqlx::Error> {
    let exists = "SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = $1)";
    sqlx::query_scalar(exists).bind(name).fetch_one(connection).await
}

pub(in crate::store) async fn execute(connection: &mut PgConnection, sql: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.map(drop)
}

fn code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error()?.code().map(std::borrow::Cow::into_owned)
}
