//! The database of an agent's own (`"database": true`): a role and a database of the same name in the
//! server's Postgres, apart from everything else in it.

use super::agents::Agent;
use super::{Store, StoreError};
use crate::base::secret::{ExposeSecret as _, SecretString, scram_verifier};
use sqlx::AssertSqlSafe;

/// How many connections all replicas of an agent may have to their database.
const CONNECTIONS: u16 = 40;

/// The name of an agent's role and database. Part of the id is in it: an agent that is made again under
/// the same name gets another.
pub fn database_name(agent: &Agent) -> String {
    let id = agent.id.simple().to_string();
    format!("{}_{}", agent.schema_name, &id[id.len() - 8..])
}

impl Store {
    /// Makes the agent's database as far as it is not there yet, and gives its role this password.
    pub async fn ensure_database(&self, agent: &Agent, password: &SecretString) -> Result<(), StoreError> {
        let name = database_name(agent);
        // Postgres takes what it would store: the password itself never reaches its log.
        let verifier =
            scram_verifier(password.expose_secret()).map_err(|error| sqlx::Error::Protocol(error.to_string()))?;
        let mut connection = self.pool().acquire().await?;
        let role_exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = $1)")
            .bind(&name)
            .fetch_one(&mut *connection)
            .await?;
        let verb = if role_exists { "ALTER" } else { "CREATE" };
        let sql = format!("{verb} ROLE \"{name}\" LOGIN CONNECTION LIMIT {CONNECTIONS} PASSWORD '{verifier}'");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *connection).await?;
        let database_exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = $1)")
            .bind(&name)
            .fetch_one(&mut *connection)
            .await?;
        if database_exists {
            return Ok(());
        }
        let superuser: bool = sqlx::query_scalar("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
            .fetch_one(&mut *connection)
            .await?;
        if !superuser {
            // Who may make roles only has to be of one to give it a database.
            sqlx::raw_sql(AssertSqlSafe(format!("GRANT \"{name}\" TO CURRENT_USER"))).execute(&mut *connection).await?;
        }
        // Not in a transaction: Postgres makes databases in none. What a crash leaves is found by the next call.
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE \"{name}\" OWNER \"{name}\"")))
            .execute(&mut *connection)
            .await?;
        sqlx::raw_sql(AssertSqlSafe(format!("REVOKE ALL ON DATABASE \"{name}\" FROM PUBLIC")))
            .execute(&mut *connection)
            .await?;
        Ok(())
    }

    /// Removes the agent's database with all that is in it, and its role, where they are there.
    pub async fn drop_database(&self, agent: &Agent) -> Result<(), StoreError> {
        let name = database_name(agent);
        let role_exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = $1)")
            .bind(&name)
            .fetch_one(self.pool())
            .await?;
        if !role_exists {
            // The role is made first and removed last.
            return Ok(());
        }
        for sql in
            [format!("DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)"), format!("DROP ROLE IF EXISTS \"{name}\"")]
        {
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(self.pool()).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::test_database::TestDatabase;
    use sqlx::postgres::{PgConnectOptions, PgSslMode};
    use sqlx::{ConnectOptions as _, Connection as _};

    #[tokio::test]
    async fn an_agent_gets_its_own_database_and_enters_no_other() {
        let database = TestDatabase::new().await;
        let store = Store::open(database.options()).await.unwrap();
        let agent = store.ensure_agent("with-database").await.unwrap();
        let password = SecretString::from("correct horse");
        store.ensure_database(&agent, &SecretString::from("another")).await.unwrap();
        // Again, with another password: that one counts.
        store.ensure_database(&agent, &password).await.unwrap();
        let name = database_name(&agent);
        let options = |user: &str, database: &str, password: &str| {
            PgConnectOptions::new_without_pgpass()
                .socket(store.pool().connect_options().get_socket().unwrap())
                .username(user)
                .password(password)
                .database(database)
                .ssl_mode(PgSslMode::Disable)
        };
        let mut own = options(&name, &name, "correct horse").connect().await.unwrap();
        sqlx::raw_sql("CREATE TABLE t (n int)").execute(&mut own).await.unwrap();
        let super_user: bool = sqlx::query_scalar(
            "SELECT rolsuper OR rolcreatedb OR rolcreaterole FROM pg_roles WHERE rolname = current_user",
        )
        .fetch_one(&mut own)
        .await
        .unwrap();
        assert!(!super_user);
        assert!(options(&name, &name, "another").connect().await.is_err());
        assert!(options(&name, database.name(), "correct horse").connect().await.is_err());
        assert!(options(&name, "postgres", "correct horse").connect().await.is_err());

        // Destroyed with an open connection in it, and again.
        store.drop_database(&agent).await.unwrap();
        store.drop_database(&agent).await.unwrap();
        assert!(own.ping().await.is_err());
        let left: i64 =
            sqlx::query_scalar("SELECT count(*) FROM pg_database d, pg_roles r WHERE datname = $1 OR rolname = $1")
                .bind(&name)
                .fetch_one(store.pool())
                .await
                .unwrap();
        assert_eq!(left, 0);
    }
}
