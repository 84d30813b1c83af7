//! The database of an agent's own, as its replicas and the log's reader see it.

use super::settings::Database;
use super::{Control, ControlError};
use crate::base::disk;
use crate::base::redact::Redactor;
use crate::base::secret::{ExposeSecret as _, SecretString};
use crate::base::telemetry::chain;
use crate::manifest::database::VARIABLES;
use crate::runtime::folders::SERVER_SIDE;
use crate::store::agents::Agent;
use crate::store::databases::watch::SIZE_BYTES;
use crate::store::databases::{self, database_name};
use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::Duration;
use uuid::Uuid;

/// How often sessions in agents' databases are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How many of these looks there are between two at the databases' sizes.
const SIZES_EVERY: u32 = 6;

/// Keeps agents' own databases within their share of what all use, for as long as the server lives.
pub(super) async fn watch(control: Control) {
    let mut looks = 0_u32;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if *control.0.paused.borrow() {
            continue;
        }
        match control.store().end_greedy_sessions().await {
            Ok(ended) => {
                for one in ended {
                    tracing::warn!(
                        database = one.database,
                        why = one.why,
                        "a session in an agent's database was ended"
                    );
                }
            }
            Err(error) => tracing::warn!(error = %chain(&error), "agents' databases could not be looked at"),
        }
        if looks.is_multiple_of(SIZES_EVERY) {
            control.bound_databases().await;
        }
        looks = looks.wrapping_add(1);
    }
}

impl Control {
    async fn bound_databases(&self) {
        let full = match self.store().bound_databases(SIZE_BYTES).await {
            Ok(full) => full,
            Err(error) => {
                tracing::warn!(error = %chain(&error), "the sizes of agents' databases could not be looked at");
                return;
            }
        };
        let said = full.into_iter().map(|one| {
            let size = |bytes: i64| disk::size(u64::try_from(bytes).unwrap_or_default());
            let text = format!(
                "its own database takes {}, more than the {} it may: it is read-only",
                size(one.bytes),
                size(SIZE_BYTES)
            );
            if one.is_new {
                tracing::warn!(agent = one.name, "{text}");
            }
            (one.agent, text)
        });
        let said = said.collect();
        *self.0.full_databases.lock().unwrap_or_else(PoisonError::into_inner) = said;
    }

    /// What is said of an agent whose own database is too large.
    pub(super) fn full_database(&self, agent: Uuid) -> Option<String> {
        self.0.full_databases.lock().unwrap_or_else(PoisonError::into_inner).get(&agent).cloned()
    }

    /// Makes the agent's database where it is not there yet.
    pub(super) async fn ensure_database(&self, agent: &Agent) -> Result<(), ControlError> {
        self.store().ensure_database(agent, &self.database_password(agent)).await.map_err(ControlError::Database)
    }

    /// The secrets of a set as the agent's replicas get them: with the URL of its database, where its release asks for
    /// one. Says whether it does.
    pub(super) async fn variables(
        &self,
        agent: &Agent,
        set: i32,
        database: Database,
    ) -> Result<(BTreeMap<String, SecretString>, bool), ControlError> {
        let mut variables = self.secrets(agent.id, set).await?;
        let is_own = database.is_own(&variables);
        if is_own {
            let [usual, langgraphs] = VARIABLES;
            variables.insert(usual.to_owned(), self.database_url(agent));
            variables.entry(langgraphs.to_owned()).or_insert_with(|| self.database_url(agent));
        }
        Ok((variables, is_own))
    }

    /// Makes the agent's database where its release asks for one, and says what should be known of it.
    pub(super) async fn prepare_database(
        &self,
        agent: &Agent,
        database: Database,
        secrets: &BTreeMap<String, SecretString>,
    ) -> Result<Option<String>, ControlError> {
        if !database.is_own(secrets) {
            return Ok(None);
        }
        self.ensure_database(agent).await?;
        Ok(note(database, secrets))
    }

    /// Hides all that no log of the agent's may show: the secrets of all its sets, whichever a replica has read, and
    /// its database.
    pub(super) async fn redactor_of(&self, agent: &Agent) -> Result<Redactor, ControlError> {
        let mut redactor = Redactor::default();
        for one in self.store().list_all_secrets(agent.id).await? {
            redactor.learn(&self.open_secrets(agent.id, &[one])?);
        }
        redactor.learn(&BTreeMap::from([
            ("the database".to_owned(), self.database_url(agent)),
            ("its password".to_owned(), self.database_password(agent)),
        ]));
        Ok(redactor)
    }

    fn database_password(&self, agent: &Agent) -> SecretString {
        databases::password(&self.0.parts.key, agent.id)
    }

    fn database_url(&self, agent: &Agent) -> SecretString {
        let (name, password) = (database_name(agent), self.database_password(agent));
        format!("postgresql://{name}:{}@/{name}?host={SERVER_SIDE}", password.expose_secret()).into()
    }
}

/// What is said of an agent's own database before it is there.
pub(super) fn note(database: Database, secrets: &BTreeMap<String, SecretString>) -> Option<String> {
    let [usual, langgraphs] = VARIABLES;
    match database {
        Database::OwnUnlessNamed if database.is_own(secrets) => Some(format!(
            "the agent has a Postgres database of its own, as its code reads {usual} or {langgraphs} and no secret sets \
             it (rapidclaw.database)"
        )),
        Database::Own if secrets.contains_key(usual) => {
            Some(format!("{usual} among the secrets is not used: rapidclaw.database gives the agent one of its own"))
        }
        _ => None,
    }
}
