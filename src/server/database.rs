//! The server's Postgres: one that it manages in its data folder, or one that a URL names.

use super::settings::{ServerError, ServerSettings};
use crate::base::shutdown::Shutdown;
use crate::store::postgres::{self, ConnectOptions, Managed, Options};

/// A Postgres that answers.
pub struct Database {
    /// How to connect to the server's database in it.
    pub options: ConnectOptions,
    /// One that is managed, and what it is to be.
    managed: Option<(Managed, Options)>,
}

impl Database {
    /// Connects to the one that `url` names; without one, starts or adopts the managed one.
    pub async fn start(settings: &ServerSettings, url: Option<&str>) -> Result<Self, ServerError> {
        if let Some(url) = url {
            return Ok(Self { options: postgres::connect(url).await?, managed: None });
        }
        let wanted = Options { image: settings.postgres_image.clone(), ..Options::new(&settings.data_dir) };
        let managed = Managed::ensure(&wanted).await?;
        Ok(Self { options: managed.connect_options(), managed: Some((managed, wanted)) })
    }

    /// Keeps a managed one alive until `keeper` ends.
    pub fn keep(&self, keeper: &Shutdown) {
        if let Some((_, wanted)) = self.managed.clone() {
            keeper.supervise("Postgres", move || postgres::keep(wanted.clone()));
        }
    }

    /// Stops a managed one; one that a URL names goes on.
    pub async fn stop(self) -> Result<(), ServerError> {
        match self.managed {
            Some((managed, _)) => Ok(managed.stop().await?),
            None => Ok(()),
        }
    }
}
