//! The database of an agent's own, as its replicas and the log's reader see it.

use super::{Control, ControlError};
use crate::base::secret::{ExposeSecret as _, SecretString};
use crate::runtime::folders::SERVER_SIDE;
use crate::store::agents::Agent;
use crate::store::databases::database_name;
use std::collections::BTreeMap;

/// The variable that graphs open their database by.
pub const VARIABLE: &str = "DATABASE_URL";

impl Control {
    /// Makes the agent's database where it is not there yet.
    pub(super) async fn ensure_database(&self, agent: &Agent) -> Result<(), ControlError> {
        self.store().ensure_database(agent, &self.database_password(agent)).await.map_err(ControlError::Database)
    }

    /// The agent's secrets as its replicas get them: with the URL of its database, where its release asks for one.
    pub(super) async fn variables(
        &self,
        agent: &Agent,
        database: bool,
    ) -> Result<BTreeMap<String, SecretString>, ControlError> {
        let mut variables = self.secrets(agent.id).await?;
        if database {
            variables.insert(VARIABLE.to_owned(), self.database_url(agent));
        }
        Ok(variables)
    }

    /// All that no log of the agent's may show.
    pub(super) async fn blotted(&self, agent: &Agent) -> Result<BTreeMap<String, SecretString>, ControlError> {
        let mut secrets = self.secrets(agent.id).await?;
        // No secret has such names: environment variables have no blanks.
        secrets.insert("the database".to_owned(), self.database_url(agent));
        secrets.insert("its password".to_owned(), self.database_password(agent));
        Ok(secrets)
    }

    fn database_password(&self, agent: &Agent) -> SecretString {
        self.0.parts.key.derive(&format!("database/{}", agent.id))
    }

    fn database_url(&self, agent: &Agent) -> SecretString {
        let (name, password) = (database_name(agent), self.database_password(agent));
        format!("postgresql://{name}:{}@/{name}?host={SERVER_SIDE}", password.expose_secret()).into()
    }
}
