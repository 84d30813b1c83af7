//! The control plane and the gateway over one store, from start to end.

use super::settings::{ServerError, ServerSettings, admin_token_file, key_file};
use crate::base::secret::{MasterKey, SecretError, token_hash};
use crate::base::shutdown::{CancellationToken, Shutdown};
use crate::base::{ids, paths};
use crate::control::builds::Builds;
use crate::control::{Control, Parts};
use crate::egress::Resolver;
use crate::engine::Engine;
use crate::gateway::committer::chain;
use crate::gateway::{Gateway, lease};
use crate::registry::{Registry, RegistrySettings};
use crate::runtime::Runtime;
use crate::runtime::docker::DockerRuntime;
use crate::runtime::folders::RunDir;
use crate::runtime::kept::KeptLogs;
use crate::store::Store;
use crate::store::postgres::ConnectOptions;
use crate::store::postgres::passage::Passages;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long a replica may take to end.
const REPLICA_GRACE: Duration = Duration::from_secs(5);
/// How long tasks may take to end at last.
const TASK_GRACE: Duration = Duration::from_secs(5);

/// What looks after agents and their runs.
pub struct ControlPlane {
    pub control: Control,
    pub gateway: Gateway,
    pub store: Store,
    pub registry: Registry,
    /// Seals secrets and tokens.
    pub key: MasterKey,
    /// Ends all tasks.
    pub shutdown: Shutdown,
    /// Ends those that look after replicas.
    reconcilers: Shutdown,
    /// Ends the task that keeps Postgres alive.
    pub keeper: Shutdown,
}

impl ControlPlane {
    /// Opens the store and makes all that stands on it; replicas are not looked after yet. With `takes_over` runs get
    /// their places from the server before until it says that it gives none any more.
    pub async fn start(
        settings: &ServerSettings,
        docker: Engine,
        options: ConnectOptions,
        agents_url: String,
        takes_over: bool,
        stop: &CancellationToken,
    ) -> Result<Self, ServerError> {
        let data_dir = &settings.data_dir;
        let data_error = |source| ServerError::DataDir { path: data_dir.display().to_string(), source };
        let passages = Passages::to(&options);
        let store = stop.run_until_cancelled(Store::open(options)).await.ok_or(ServerError::Interrupted)??;
        let server = store.server_id().await?;
        let key = master_key(&store, &key_file(data_dir)).await?;
        ensure_admin_token(&store, data_dir).await?;
        tokio::task::spawn_blocking(crate::run::cost::load_prices);

        let shutdown = Shutdown::default();
        let (reconcilers, keeper) = (shutdown.child(), shutdown.child());
        let gateway = begin_gateway(&store, &shutdown, takes_over).await?;
        let builds = Builds::start(&docker, data_dir, settings.build_jobs).await.map_err(data_error)?;
        let runtime: Arc<dyn Runtime> = Arc::new(DockerRuntime::new(docker, server, &reconcilers));
        let registry = Registry::open(RegistrySettings::new(data_dir.join("registry")))?;
        let control = Control::new(Parts {
            server,
            store: store.clone(),
            gateway: gateway.clone(),
            registry: registry.clone(),
            runtime,
            run_dir: RunDir::ensure(server)?,
            key: key.clone(),
            providers: settings.providers.clone(),
            resolver: Arc::new(Resolver::new(settings.resolve.clone())),
            passages,
            agents_url,
            keep_images: settings.keep_images,
            logs: KeptLogs::new(data_dir),
            builds,
            shutdown: reconcilers.clone(),
        });
        Ok(Self { control, gateway, store, registry, key, shutdown, reconcilers, keeper })
    }

    /// Stops replicas and tasks. Runs that have not ended go on when the server is back.
    pub async fn stop(self) {
        self.reconcilers.cancel();
        self.keeper.cancel();
        if let Err(error) = self.control.stop_replicas(REPLICA_GRACE).await {
            tracing::warn!(error = %chain(&error), "replicas may still run");
        }
        self.gateway.dismiss();
        self.gateway.settle(TASK_GRACE).await;
        self.end_tasks().await;
        self.store.close().await;
    }

    /// Gives the lease back and ends all tasks; the replicas live on.
    pub async fn end_tasks(&self) {
        let _ = self.store.drop_lease(self.gateway.id()).await;
        self.shutdown.finish(TASK_GRACE).await;
    }
}

async fn begin_gateway(store: &Store, shutdown: &Shutdown, takes_over: bool) -> Result<Gateway, ServerError> {
    let gateway = Gateway::new(store.clone(), shutdown);
    if takes_over {
        gateway.wait_for_places();
    }
    lease::begin(&gateway).await?;
    let leased = gateway.clone();
    shutdown.supervise("lease", move || lease::keep(leased.clone()));
    Ok(gateway)
}

/// The key of before; a new one only where nothing was ever sealed.
async fn master_key(store: &Store, path: &Path) -> Result<MasterKey, ServerError> {
    let shown = || path.display().to_string();
    let (found, known) = (MasterKey::find(path)?, store.key_check().await?);
    let key = match (found, known) {
        (Some(key), Some(known)) if key.check() != known => return Err(SecretError::KeyChanged(shown()).into()),
        (Some(key), _) => key,
        (None, None) if !store.has_secrets().await? => MasterKey::create(path)?,
        (None, _) => return Err(SecretError::KeyLost(shown()).into()),
    };
    store.set_key_check(&key.check()).await?;
    Ok(key)
}

/// The administrator's token: its value in a private file, its hash in the store.
async fn ensure_admin_token(store: &Store, data_dir: &Path) -> Result<(), ServerError> {
    let path = admin_token_file(data_dir);
    let error = |source| ServerError::DataDir { path: path.display().to_string(), source };
    let token = match paths::read_private(&path).map_err(error)? {
        Some(text) if !text.trim().is_empty() => text.trim().to_owned(),
        _ => {
            let token = ids::random_token("rcadmin").map_err(|_| SecretError::Random)?;
            paths::write_private(&path, token.as_bytes()).map_err(error)?;
            token
        }
    };
    store.set_admin_token(&token_hash(&token)).await?;
    Ok(())
}
