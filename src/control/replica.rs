//! Supervises one replica: its folders and sockets, its container, its connection.

use super::Control;
use super::evidence::Fault;
use super::fleet::MemberState;
use super::replica_files::{EGRESS_SOCKET, Identity, MODELS_SOCKET, replica_files};
use super::settings::AgentSettings;
use crate::base::redact::Redactor;
use crate::base::secret::SecretString;
use crate::egress;
use crate::gateway::committer::chain;
use crate::gateway::replica::{Attachment, Hung, Replica};
use crate::models;
use crate::runner::connection::{ConnectError, Endpoint};
use crate::runtime::folders::{REPLICA_UID, bind};
use crate::runtime::{ReplicaFolders, ReplicaSpec, RuntimeError};
use crate::store::checkpoints::Schema;
use crate::store::postgres::passage;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, broadcast, oneshot, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How often a replica that is starting is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// How often one is that was there and refuses now.
const RECONNECT_EVERY: Duration = Duration::from_millis(250);

/// How often one that serves is looked at.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// How long one that was there may not be reached before another takes its place.
const UNREACHABLE: Duration = Duration::from_secs(20);

/// How long one whose socket is there may compute instead of answering it.
const LONGEST_COMPUTATION: Duration = Duration::from_secs(300);

/// How often an engine that is away is asked again to start one.
const START_AGAIN: Duration = Duration::from_millis(500);

/// What a supervisor needs to know.
pub struct Charge {
    /// The replica.
    pub id: Uuid,
    /// The agent's name.
    pub agent: String,
    /// Its checkpoints.
    pub schema: Arc<Schema>,
    /// The release.
    pub release: Uuid,
    /// Its number.
    pub version: i32,
    /// Its image.
    pub image: String,
    /// The rollout that makes the replica.
    pub generation: Uuid,
    /// What the manifest says.
    pub settings: Arc<AgentSettings>,
    /// The database and role of the agent's own, where its release asks for them.
    pub database: Option<String>,
    /// The agent's secrets.
    pub secrets: Arc<BTreeMap<String, SecretString>>,
    /// Whether its container runs already: it is adopted.
    pub adopt: bool,
}

/// Runs until the replica is over or `end` is cancelled. Each change of `state` wakes `kick`.
pub async fn supervise(
    control: Control,
    charge: Charge,
    state: watch::Sender<MemberState>,
    kick: Arc<Notify>,
    end: CancellationToken,
) {
    let mut exits = control.0.exits.subscribe();
    let tell = |new| {
        state.send_replace(new);
        kick.notify_one();
    };
    let shutdown = control.0.parts.shutdown.child();
    // However this ends, also when it is dropped: then the replica's runs need not wait for its silence.
    let dead = CancellationToken::new();
    let _dead_at_last = dead.clone().drop_guard();
    let connected = Mutex::new(None::<Arc<Replica>>);
    let lead = lead(&control, &charge, &shutdown, &dead, &connected, &tell);
    let fault = tokio::select! {
        fault = lead => Some(fault),
        exit = exit_of(charge.id, &mut exits) => Some(Fault::Exited(exit)),
        () = end.cancelled() => None,
    };
    let replica = connected.into_inner().unwrap_or_else(PoisonError::into_inner);
    let with_runs = replica.as_ref().is_some_and(|replica| replica.had_runs());
    // Said before its runs hear that it is dead.
    if let (Some(Fault::Exited(exit)), Some(replica)) = (&fault, &replica)
        && exit.is_by_itself()
    {
        replica.ended_by_itself();
    }
    shutdown.cancel();
    if let Some(fault) = fault {
        tracing::warn!(agent = charge.agent, replica = %charge.id, ?fault, "a replica is over");
        tell(MemberState::Over { fault, with_runs });
    }
}

async fn exit_of(
    id: Uuid,
    exits: &mut broadcast::Receiver<crate::runtime::ReplicaExit>,
) -> crate::runtime::ReplicaExit {
    loop {
        match exits.recv().await {
            Ok(exit) if exit.id == id => return exit,
            // What was missed is found again by listing.
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// Starts the replica and keeps it connected. Returns why it cannot be.
async fn lead(
    control: &Control,
    charge: &Charge,
    shutdown: &crate::base::shutdown::Shutdown,
    dead: &CancellationToken,
    connected_as: &Mutex<Option<Arc<Replica>>>,
    tell: &(impl Fn(MemberState) + Send + Sync),
) -> Fault {
    let endpoint = match prepare(control, charge, shutdown).await {
        Ok(endpoint) => endpoint,
        Err(why) => return Fault::NotStarted(why),
    };
    tell(MemberState::Loading);
    let mut was_ready = false;
    // Adopted or new: how long its graphs take to load the manifest says.
    let mut since = Instant::now();
    let mut has_socket = false;
    loop {
        let limit = if was_ready { UNREACHABLE } else { charge.settings.ready_timeout };
        let waited = since.elapsed();
        if waited >= limit && control.runtime().away_since().is_none() {
            if !was_ready {
                return Fault::NotReady(limit);
            }
            // One that computes answers nothing, and its supervisor says so.
            if !has_socket || waited >= LONGEST_COMPUTATION || !endpoint.supervisor_answers().await {
                return Fault::Hung(format!("it could not be reached for {} s", waited.as_secs()));
            }
        }
        let connection = match endpoint.connect().await {
            Ok(connection) => connection,
            Err(
                error @ (ConnectError::NoSocket
                | ConnectError::TimedOut
                | ConnectError::Io(_)
                | ConnectError::Handshake(_)),
            ) => {
                has_socket = !matches!(error, ConnectError::NoSocket);
                tokio::time::sleep(if was_ready { RECONNECT_EVERY } else { LOOK_EVERY }).await;
                continue;
            }
            Err(refused) => return Fault::Refused(chain(&refused)),
        };
        let (ready, described) = oneshot::channel();
        let (replica, connected) = Replica::attach(Attachment {
            id: charge.id,
            capacity: charge.settings.runs_per_replica,
            schema: Arc::clone(&charge.schema),
            committer: control.gateway().committer().clone(),
            redactor: Redactor::new(&charge.secrets),
            endpoint: endpoint.clone(),
            connection,
            ready,
            dead: dead.clone(),
        });
        *connected_as.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&replica));
        // Runs in flight end in order even when this supervisor is dropped: the connection has its own task.
        let task = shutdown.spawn(connected);
        let left = if was_ready { LONGEST_COMPUTATION } else { charge.settings.ready_timeout.saturating_sub(waited) };
        match tokio::time::timeout(left, described).await {
            Ok(Ok(describe)) => {
                was_ready = true;
                // A server that is being replaced may still have runs on it.
                if let Err(error) = control.gateway().count_places(Some(&replica)).await {
                    tracing::warn!(error = %chain(&error), "the places that are taken on a replica could not be counted");
                }
                tell(MemberState::Ready(Arc::clone(&replica), Arc::new(describe)));
            }
            Ok(Err(_)) => {}
            Err(_) => return Fault::NotReady(charge.settings.ready_timeout),
        }
        let hung = tokio::select! {
            _ = task => None,
            hung = hung(&replica) => Some(hung),
        };
        if let Some(hung) = hung {
            tracing::error!(agent = charge.agent, replica = %charge.id, run_id = ?hung.run, %hung, "a replica is hung and is replaced");
            // Before its runs go on: then their last attempt is the one that held it.
            if let Some(run) = hung.run
                && let Err(error) = control.store().note_attempt(run, &hung.to_string()).await
            {
                tracing::warn!(run_id = %run, error = %chain(&error), "nothing but the log says what held the replica");
            }
            replica.give_up(hung.run).await;
            return Fault::Hung(hung.to_string());
        }
        if was_ready {
            since = Instant::now();
        }
        tell(MemberState::Loading);
    }
}

/// Returns when nothing moves in the replica any more, with why.
async fn hung(replica: &Replica) -> Hung {
    loop {
        tokio::time::sleep(WATCH_EVERY).await;
        if let Some(hung) = replica.hung() {
            return hung;
        }
    }
}

/// Lays in what the replica needs, serves its sockets, starts its container.
async fn prepare(
    control: &Control,
    charge: &Charge,
    shutdown: &crate::base::shutdown::Shutdown,
) -> Result<Endpoint, String> {
    let parts = &control.0.parts;
    let identity = Identity { replica: charge.id, agent: &charge.agent, version: charge.version };
    let files = replica_files(identity, &charge.settings, &charge.secrets, &parts.providers, &parts.key)
        .map_err(|error| chain(&error))?;
    let folders: ReplicaFolders = parts.run_dir.prepare(charge.id, &files.json).map_err(|error| chain(&error))?;
    let mut is_bound = !charge.adopt && parts.run_dir.bound(charge.id);
    if is_bound && !control.runtime().sees(&folders.replica).await {
        parts.run_dir.unbind(charge.id);
        is_bound = false;
    }
    let egress_socket = bind(&folders, EGRESS_SOCKET).map_err(|error| chain(&error))?;
    let models_socket = bind(&folders, MODELS_SOCKET).map_err(|error| chain(&error))?;
    let whose = egress::Replica { agent: charge.agent.clone(), replica: charge.id.to_string() };
    let policy = Arc::new(charge.settings.policy.clone());
    let open = control.connections();
    egress::serve(egress_socket, whose, policy, Arc::clone(&parts.resolver), open, shutdown);
    models::serve(models_socket, Arc::new(files.route), Arc::clone(&control.0.clients), open, shutdown);
    if let Some(name) = &charge.database {
        let socket = bind(&folders, passage::SOCKET).map_err(|error| chain(&error))?;
        control.passages().serve(socket, name.clone(), &format!("{} of {}", charge.id, charge.agent), shutdown);
    }
    if !charge.adopt {
        let spec = ReplicaSpec {
            id: charge.id,
            agent: charge.agent.clone(),
            release: charge.release,
            version: charge.version,
            rollout: charge.generation,
            image: charge.image.clone(),
            cpu: charge.settings.cpu,
            memory_bytes: charge.settings.memory_bytes,
            open_network: charge.settings.policy.mode == egress::Mode::Open,
            hosts: files.hosts,
            folders: folders.clone(),
        };
        loop {
            match control.runtime().start(&spec).await {
                // It may come back. How long a rollout waits for that its reconciler says.
                Err(RuntimeError::Unreachable(_)) => tokio::time::sleep(START_AGAIN).await,
                started => break started.map_err(|error| chain(&error))?,
            }
        }
        // Who answered may have passed the call on to an engine elsewhere: then what is mounted here hides the
        // folder that the replica has.
        if is_bound && control.runtime().has_folder(charge.id, &folders.replica).await == Some(false) {
            parts.run_dir.unbind(charge.id);
        }
    }
    Ok(Endpoint { folder: folders.replica, uid: REPLICA_UID, secret: files.secret })
}
