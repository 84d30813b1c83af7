//! The use cases of the control plane: deploy, status, keys, destroy; and the reconciler that makes what
//! runs what the database says.

pub mod access;
pub mod builds;
mod database;
pub mod deploy;
pub mod destroy;
mod error;
mod evidence;
mod fleet;
pub mod history;
pub mod images;
mod kept_logs;
mod leftovers;
pub mod logs;
mod plan;
mod proxies;
mod reconciler;
mod replica;
mod replica_files;
pub mod rollouts;
pub mod scale;
pub mod secrets;
mod settings;
pub mod status;
pub mod tokens;

pub use error::ControlError;
pub use settings::{AgentSettings, SettingsError, resolve};

use crate::base::open_connections::OpenConnections;
use crate::base::redact::Redactor;
use crate::base::secret::{MasterKey, SecretString};
use crate::base::shutdown::Shutdown;
use crate::base::telemetry;
use crate::egress::Resolver;
use crate::gateway::{Gateway, lease};
use crate::models::{Clients, ProviderOverride};
use crate::registry::Registry;
use crate::runtime::folders::RunDir;
use crate::runtime::kept::KeptLogs;
use crate::runtime::{ReplicaExit, Runtime, RuntimeError};
use crate::store::Store;
use crate::store::agents::Agent;
use crate::store::postgres::passage::{OpenPassage, Passages};
use crate::store::secrets::SealedSecret;
use fleet::Snapshot;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, RwLock, broadcast, watch};
use uuid::Uuid;

/// The control plane. Clones are the same one.
#[derive(Clone)]
pub struct Control(Arc<Inner>);

/// What a control plane is made of.
pub struct Parts {
    /// The server's id.
    pub server: Uuid,
    /// The store.
    pub store: Store,
    /// The gateway of this process.
    pub gateway: Gateway,
    /// Images.
    pub registry: Registry,
    /// Where replicas run.
    pub runtime: Arc<dyn Runtime>,
    /// Their folders.
    pub run_dir: RunDir,
    /// Seals secrets, derives replicas' secrets.
    pub key: MasterKey,
    /// `--provider`.
    pub providers: Vec<ProviderOverride>,
    /// `--resolve`, and the system's resolver.
    pub resolver: Arc<Resolver>,
    /// The ways of replicas to their agents' databases.
    pub passages: Passages,
    /// Base of the agents' URLs, without a slash at its end.
    pub agents_url: String,
    /// Of how many releases of an agent that served the images stay, so that a rollback can go there.
    pub keep_images: u32,
    /// Logs of replicas that are gone.
    pub logs: KeptLogs,
    /// Builds images.
    pub builds: builds::Builds,
    /// Ends all tasks.
    pub shutdown: Shutdown,
}

struct Inner {
    parts: Parts,
    tokens: access::Tokens,
    clients: Arc<Clients>,
    connections: OpenConnections,
    agents: Mutex<HashMap<Uuid, AgentHandle>>,
    exits: broadcast::Sender<ReplicaExit>,
    /// Those that somebody here looks after, until nothing of them is left.
    replicas: Mutex<HashSet<Uuid>>,
    /// Whose they are, and the secrets that they were started with, which may be others by now.
    worn: Mutex<HashMap<Uuid, Worn>>,
    /// Held for reading from the naming of an image to the release that wants it, for writing while those that no
    /// release wants lose their names.
    images: RwLock<()>,
    /// Counts changes of rollouts, for those who watch one.
    changes: watch::Sender<u64>,
    /// Whether another server looks after the replicas.
    paused: watch::Sender<bool>,
    /// Agents whose own databases are too large, and what is said of it.
    full_databases: Mutex<HashMap<Uuid, String>>,
    /// Held for reading while something is done about replicas, for writing by whoever pauses that.
    steps: RwLock<()>,
}

/// An agent, and what of its secrets no log may show.
type Worn = (Uuid, Redactor);

/// One agent's reconciler.
#[derive(Clone)]
struct AgentHandle {
    kick: Arc<Notify>,
    snapshot: watch::Receiver<Snapshot>,
}

/// How long a server that stops removes what replicas have left; the rest is the next one's.
const CLEAR: Duration = Duration::from_secs(10);
/// Between the ends of two replicas when all end, and the most that lies between the first and the last. Engines (seen
/// with 20.10.24) may wait for themselves for ever where many containers leave a network at one moment: libnetwork
/// takes the locks of network and controller in either order (`getSvcRecords`, `processEndpointDelete`).
const ENDS_APART: Duration = Duration::from_millis(75);
const ENDS_SPREAD: Duration = Duration::from_secs(3);
/// How long a step that is under way may take when the server is replaced.
const STEP: Duration = Duration::from_secs(15);
/// A server that was replaced may still be asked for something, over connections that were open: how often is looked
/// for runs that it has accepted, how often in all, and which of these looks are for deploys and the like as well.
const LISTEN_EVERY: Duration = Duration::from_millis(200);
const LAST_LOOKS: u32 = 20;
const KICK_EVERY: u32 = 5;
/// How often containers are compared with what is known of them.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

impl Control {
    /// The control plane; [`Control::begin`] makes it work.
    pub fn new(parts: Parts) -> Self {
        let clients = Arc::new(Clients::new(Arc::clone(&parts.resolver)));
        Self(Arc::new(Inner {
            tokens: access::Tokens::new(parts.store.clone(), parts.shutdown.clone()),
            clients,
            connections: OpenConnections::default(),
            agents: Mutex::default(),
            exits: broadcast::Sender::new(1024),
            replicas: Mutex::default(),
            worn: Mutex::default(),
            images: RwLock::default(),
            changes: watch::Sender::new(0),
            paused: watch::Sender::new(false),
            full_databases: Mutex::default(),
            steps: RwLock::default(),
            parts,
        }))
    }

    /// Starts to reconcile all agents: adopts what runs, removes what nobody wants.
    pub async fn begin(&self) -> Result<(), ControlError> {
        self.gateway().reload_keys().await?;
        self.spawn_exits();
        self.spawn_clear();
        let control = self.clone();
        self.0.parts.shutdown.supervise("leftovers", move || leftovers::clear(control.clone()));
        let control = self.clone();
        self.0.parts.shutdown.supervise("kept logs", move || control.clone().sweep_logs());
        let known = self.runtime().list().await?;
        for one in &known {
            self.take_charge(one.id);
        }
        self.store().adopt_secrets().await?;
        let agents = self.store().list_agents().await?;
        self.0.parts.run_dir.discard_all_but(&known.iter().map(|one| one.id).collect());
        for agent in &agents {
            // Before the doors open: no request is told that an agent is not there. Its reconciler says why,
            // where there can be no way to it.
            let _ = self.gateway().ensure_route(agent);
            let own = known.iter().filter(|one| one.agent == agent.name).cloned().collect();
            self.ensure_reconciler(agent, own);
        }
        for orphan in known.iter().filter(|one| agents.iter().all(|agent| agent.name != one.agent)) {
            self.discard_replica(orphan.id, Duration::ZERO).await?;
        }
        self.spawn_sweep();
        let control = self.clone();
        self.0.parts.shutdown.supervise("sizes of databases", move || database::watch(control.clone()));
        Ok(())
    }

    /// Ends all replicas: the server is being stopped. What they ran ends as an error.
    pub async fn stop_replicas(&self, grace: Duration) -> Result<(), RuntimeError> {
        let known = self.runtime().list().await?;
        let apart = ENDS_APART.min(ENDS_SPREAD / u32::try_from(known.len().max(1)).unwrap_or(u32::MAX));
        let mut ending = tokio::task::JoinSet::new();
        for one in known {
            if !ending.is_empty() {
                tokio::time::sleep(apart).await;
            }
            let control = self.clone();
            ending.spawn(async move {
                // One whose log cannot be kept now ends, and is left to the next server.
                let removed = match control.runtime().end(one.id, grace).await {
                    Ok(()) => match control.keep_log(one.id, grace).await {
                        Ok(()) => control.runtime().remove(one.id, grace).await,
                        kept => kept,
                    },
                    ended => ended,
                };
                control.0.parts.run_dir.discard(one.id).await;
                removed
            });
        }
        while let Some(removed) = ending.join_next().await {
            if let Ok(Err(error)) = removed {
                tracing::warn!(error = %crate::gateway::committer::chain(&error), "a replica could not be removed");
            }
        }
        let _ = tokio::time::timeout(CLEAR, self.0.parts.run_dir.clear()).await;
        self.0.parts.run_dir.leave();
        Ok(())
    }

    /// Stops to look after the replicas, or begins again. What serves them goes on all the while.
    pub async fn pause(&self, paused: bool) {
        self.0.paused.send_replace(paused);
        if paused && tokio::time::timeout(STEP, self.0.steps.write()).await.is_err() {
            tracing::warn!("a step of a reconciler takes long: another server goes on beside it");
        }
    }

    /// Gives runs their places, now that the server before gives none, and takes up what that one still accepts.
    pub async fn take_places(&self) {
        self.gateway().take_places().await;
        for look in 1..=LAST_LOOKS {
            tokio::time::sleep(LISTEN_EVERY).await;
            if let Err(error) = lease::find_waiting(self.gateway()).await {
                tracing::warn!(error = %crate::gateway::committer::chain(&error), "waiting runs could not be looked for");
            }
            if look % KICK_EVERY == 0 {
                let agents = self.0.agents.lock().unwrap_or_else(PoisonError::into_inner);
                agents.values().for_each(|agent| agent.kick.notify_one());
            }
        }
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.0.parts.store
    }

    /// The gateway.
    pub fn gateway(&self) -> &Gateway {
        &self.0.parts.gateway
    }

    /// The ways of replicas to their agents' databases.
    pub fn passages(&self) -> &Passages {
        &self.0.parts.passages
    }

    /// The replicas' connections to models and hosts that go through this process.
    pub fn connections(&self) -> &OpenConnections {
        &self.0.connections
    }

    /// Goes on with connections to agents' databases that the server before handed over.
    pub fn take_passages(&self, open: Vec<OpenPassage>) {
        for passage in open {
            if let Err(error) = self.passages().take(passage, &self.0.parts.shutdown) {
                tracing::warn!(%error, "a connection to an agent's database was lost");
            }
        }
    }

    /// The runtime.
    pub fn runtime(&self) -> &dyn Runtime {
        self.0.parts.runtime.as_ref()
    }

    /// The server's id.
    pub fn server(&self) -> Uuid {
        self.0.parts.server
    }

    /// Base of the agents' URLs.
    pub fn agents_url(&self) -> &str {
        &self.0.parts.agents_url
    }

    /// Where an agent answers.
    pub fn agent_url(&self, agent: &str) -> String {
        format!("{}/agents/{agent}", self.agents_url())
    }

    async fn find(&self, name: &str) -> Result<Agent, ControlError> {
        self.store().find_agent(name).await?.ok_or_else(|| ControlError::NoSuchAgent(name.to_owned()))
    }

    /// The secrets of one of the agent's sets, opened.
    async fn secrets(&self, agent: Uuid, set: i32) -> Result<BTreeMap<String, SecretString>, ControlError> {
        let sealed = self.store().list_secrets(agent, set).await?;
        self.open_secrets(agent, &sealed)
    }

    /// Opens sealed secrets. Where a name comes twice, the last one counts.
    fn open_secrets(
        &self,
        agent: Uuid,
        sealed: &[SealedSecret],
    ) -> Result<BTreeMap<String, SecretString>, ControlError> {
        let open = |one: &SealedSecret| {
            let value = self.0.parts.key.open(&secret_context(agent, &one.name), &one.sealed)?;
            Ok((one.name.clone(), value))
        };
        let secrets: BTreeMap<_, _> = sealed.iter().map(open).collect::<Result<_, ControlError>>()?;
        // Whatever fails from here on may say them: not in the log.
        telemetry::conceal(crate::base::redact::parts(&secrets).iter().map(AsRef::as_ref));
        Ok(secrets)
    }

    fn ensure_reconciler(&self, agent: &Agent, known: Vec<crate::runtime::KnownReplica>) -> AgentHandle {
        let mut agents = self.0.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = agents.get(&agent.id) {
            return handle.clone();
        }
        let kick = Arc::new(Notify::new());
        let (publish, snapshot) = watch::channel(Snapshot::default());
        let handle = AgentHandle { kick: Arc::clone(&kick), snapshot };
        agents.insert(agent.id, handle.clone());
        let (control, own, mut first) = (self.clone(), agent.clone(), Some(known));
        self.0.parts.shutdown.supervise(format!("reconciler of {}", agent.name), move || {
            let (control, agent, known) = (control.clone(), own.clone(), first.take());
            let (kick, publish) = (Arc::clone(&kick), publish.clone());
            async move {
                // One that begins again finds what runs as a server does that begins.
                let known = match known {
                    Some(known) => known,
                    None => control.replicas_of(&agent.name).await,
                };
                reconciler::run(control, agent, known, kick, publish).await
            }
        });
        handle
    }

    /// The agent's replicas, once the engine tells them.
    async fn replicas_of(&self, agent: &str) -> Vec<crate::runtime::KnownReplica> {
        loop {
            match self.runtime().list().await {
                Ok(known) => return known.into_iter().filter(|one| one.agent == agent).collect(),
                Err(error) => {
                    tracing::warn!(agent, error = %crate::gateway::committer::chain(&error), "replicas could not be listed");
                    tokio::time::sleep(SWEEP_EVERY).await;
                }
            }
        }
    }

    fn forget_reconciler(&self, agent: Uuid) {
        self.0.agents.lock().unwrap_or_else(PoisonError::into_inner).remove(&agent);
    }

    fn snapshot(&self, agent: Uuid) -> Option<Snapshot> {
        let agents = self.0.agents.lock().unwrap_or_else(PoisonError::into_inner);
        agents.get(&agent).map(|handle| handle.snapshot.borrow().clone())
    }

    fn rollout_changed(&self) {
        self.0.changes.send_modify(|count| *count += 1);
    }

    /// Hands the runtime's exits to whoever supervises the replica.
    fn spawn_exits(&self) {
        let from_runtime = Arc::new(tokio::sync::Mutex::new(self.runtime().exits()));
        let control = self.clone();
        self.0.parts.shutdown.supervise("exits of replicas", move || {
            let (control, from_runtime) = (control.clone(), Arc::clone(&from_runtime));
            async move {
                let mut from_runtime = from_runtime.lock().await;
                while let Some(exit) = from_runtime.recv().await {
                    let _ = control.0.exits.send(exit);
                }
            }
        });
    }

    /// Removes what replicas have left in their folders, beside everything else.
    fn spawn_clear(&self) {
        let run_dir = self.0.parts.run_dir.clone();
        self.0.parts.shutdown.supervise("removal of folders", move || clear(run_dir.clone()));
    }

    /// Removes what nobody here looks after: containers that a call to the engine whose answer was lost has left,
    /// and folders that a replica on its way out was still writing to when they were removed.
    fn spawn_sweep(&self) {
        let control = self.clone();
        self.0.parts.shutdown.supervise("sweep of replicas", move || control.clone().sweep());
    }

    async fn sweep(self) {
        let control = self;
        let mut suspects = HashSet::new();
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            if *control.0.paused.borrow() {
                // They are another server's now.
                suspects.clear();
                continue;
            }
            let Ok(known) = control.runtime().list().await else { continue };
            let _step = control.0.steps.read().await;
            if *control.0.paused.borrow() {
                continue;
            }
            let looked_after = control.looked_after();
            let known: HashSet<Uuid> = known.into_iter().map(|one| one.id).collect();
            control.0.parts.run_dir.discard_all_but(&known.union(&looked_after).copied().collect());
            let strange: HashSet<Uuid> = known.difference(&looked_after).copied().collect();
            for id in strange.intersection(&suspects) {
                tracing::warn!(replica = %id, "a container that nobody looks after is removed");
                let _ = control.discard_replica(*id, Duration::ZERO).await;
            }
            suspects = strange;
        }
    }

    fn worn(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, Worn>> {
        self.0.worn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn looked_after(&self) -> HashSet<Uuid> {
        self.0.replicas.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on somebody here looks after the replica, until [`Control::discard_replica`].
    fn take_charge(&self, replica: Uuid) {
        self.0.replicas.lock().unwrap_or_else(PoisonError::into_inner).insert(replica);
    }

    /// Ends a replica and removes all that there is of it, but for what it wrote.
    async fn discard_replica(&self, replica: Uuid, grace: Duration) -> Result<(), RuntimeError> {
        self.keep_log(replica, grace).await?;
        self.runtime().remove(replica, grace).await?;
        self.0.parts.run_dir.discard(replica).await;
        self.worn().remove(&replica);
        self.0.replicas.lock().unwrap_or_else(PoisonError::into_inner).remove(&replica);
        Ok(())
    }
}

/// Removes what is left of replicas' folders for as long as the server lives.
async fn clear(run_dir: RunDir) {
    loop {
        run_dir.is_left().await;
        run_dir.clear().await;
    }
}

/// What a sealed secret is bound to.
fn secret_context(agent: Uuid, name: &str) -> String {
    format!("{agent}/{name}")
}
