//! The database of an agent's own (`rapidclaw.database`): a role and a database of the same name in the
//! server's Postgres, apart from everything else in it.
//!
//! The role owns what is in the database and not the database: who owns one may make it a template, close it
//! to connections or lock its row, and then it can be neither backed up nor dropped.

pub mod watch;

use super::agents::Agent;
pub use super::postgres::agent_databases::{CONNECTIONS, password};
use super::postgres::agent_databases::{ensure, name_of, remove};
use super::{Store, StoreError};
use crate::base::secret::SecretString;

/// The name of an agent's role and database. Part of the id is in it: an agent that is made again under
/// the same name gets another.
pub fn database_name(agent: &Agent) -> String {
    name_of(agent.id, &agent.schema_name)
}

impl Store {
    /// Makes the agent's database as far as it is not there yet, and gives its role this password.
    pub async fn ensure_database(&self, agent: &Agent, password: &SecretString) -> Result<(), StoreError> {
        let mut connection = self.pool().acquire().await?;
        Ok(ensure(&mut connection, &self.pool().connect_options(), &database_name(agent), password).await?)
    }

    /// Removes the agent's database with all that is in it, and its roles, where they are there.
    pub async fn drop_database(&self, agent: &Agent) -> Result<(), StoreError> {
        let mut connection = self.pool().acquire().await?;
        Ok(remove(&mut connection, &self.pool().connect_options(), &database_name(agent)).await?)
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
