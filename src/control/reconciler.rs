//! Makes one agent's replicas what the database says, and drives its rollout.
//!
//! Each step reads what is wanted, compares it with what is there, acts, and waits for the next event: a
//! kick, a replica that changed, or a time that came. A step may be repeated; a server that starts again
//! goes on where the last one was killed.

mod drive;
mod turnover;

use self::drive::Progress;
use super::evidence::Fault;
use super::fleet::{Crashes, Member, MemberState, Snapshot};
use super::replica::{Charge, supervise};
use super::settings::{AgentSettings, Database};
use super::{Control, ControlError};
use crate::base::ids;
use crate::base::redact::Redactor;
use crate::base::tasks::{End, panic_text};
use crate::gateway::committer::chain;
use crate::gateway::replica::Replica;
use crate::gateway::route::{Route, ServedGraph, Serving};
use crate::release::plan::{Action, Desired, Observed, plan};
use crate::run::chat::{ChatInputError, ChatShape};
use crate::run::limits::ceiling;
use crate::runtime::{KnownReplica, Stage};
use crate::store::agents::Agent;
use crate::store::databases::database_name;
use crate::store::releases::Release;
use crate::store::rollouts::Rollout;
use futures_util::FutureExt as _;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The longest time without a look, whatever the events say.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// After a step that failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Between the end of a replica and its successor: doubled for each that follows soon.
const BACKOFF: Duration = Duration::from_millis(250);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);
/// A replica that lived longer did not crash at start.
const SETTLED: Duration = Duration::from_secs(60);
/// How long the replicas of the release before are kept, running and idle, so that a rollback is one switch.
const STANDBY: Duration = Duration::from_secs(600);
/// How long a run that is handed over may take to its next super-step.
const HAND_OVER: Duration = Duration::from_secs(60);
/// After a replica that could not be removed: its engine is away.
const REMOVE_AGAIN: Duration = Duration::from_secs(2);
/// How long a replica may take to end once it is asked.
const STOP_GRACE: Duration = Duration::from_secs(10);

struct Reconciler {
    control: Control,
    agent: Agent,
    route: Arc<Route>,
    kick: Arc<Notify>,
    publish: watch::Sender<Snapshot>,
    members: Vec<Member>,
    releases: HashMap<Uuid, Arc<Loaded>>,
    progress: Option<Progress>,
    /// By generation: one that crashes at its start holds no other up.
    backoffs: HashMap<Uuid, Backoff>,
    last_crash: Option<Crashes>,
    /// What the route was told last.
    told: Option<Told>,
    /// The generation and the release that the replicas that serve are to be of.
    target: Option<(Uuid, Uuid)>,
    /// Whether the next of them waits for memory.
    waits_for_memory: bool,
    /// Replicas that are out and end what they run.
    leaving: Arc<AtomicU32>,
}

/// Replicas of a generation that ended soon after their start, one after the other.
#[derive(Default)]
struct Backoff {
    crashes: u32,
    not_before: Option<Instant>,
}

/// Release and generation, and the connections to their ready replicas.
type Told = ((Uuid, Uuid), Vec<Arc<Replica>>);

struct Loaded {
    release: Release,
    settings: Arc<AgentSettings>,
    secret_set: i32,
}

/// Reconciles one agent until it is destroyed; `known` are its containers that run already.
pub async fn run(
    control: Control,
    agent: Agent,
    known: Vec<KnownReplica>,
    kick: Arc<Notify>,
    publish: watch::Sender<Snapshot>,
) -> End {
    let route = match control.gateway().ensure_route(&agent) {
        Ok(route) => route,
        Err(error) => {
            tracing::error!(agent = agent.name, error = %chain(&error), "the agent has no way to it");
            return End::Early;
        }
    };
    let mut reconciler = Reconciler {
        control,
        agent,
        route,
        kick,
        publish,
        members: Vec::new(),
        releases: HashMap::new(),
        progress: None,
        backoffs: HashMap::new(),
        last_crash: None,
        told: None,
        target: None,
        waits_for_memory: false,
        leaving: Arc::default(),
    };
    let mut known = known;
    let mut paused = reconciler.control.0.paused.subscribe();
    loop {
        if paused.wait_for(|paused| !paused).await.is_err() {
            return End::Done;
        }
        let control = reconciler.control.clone();
        let under_way = control.0.steps.read().await;
        if *paused.borrow() {
            continue;
        }
        let step = reconciler.step(&mut known).await;
        drop(under_way);
        let wait = match step {
            Ok(Some(wait)) => wait,
            Ok(None) => return End::Done,
            Err(error) => {
                tracing::error!(agent = reconciler.agent.name, error = %chain(&error), "the agent could not be reconciled");
                RETRY_AFTER
            }
        };
        let _ = tokio::time::timeout(wait, reconciler.kick.notified()).await;
    }
}

impl Drop for Reconciler {
    /// However it ends: whoever reconciles next adopts what runs.
    fn drop(&mut self) {
        self.members.iter().for_each(|one| one.end.cancel());
    }
}

impl Reconciler {
    /// One step. Says how long to wait for the next at most; nothing when the agent is gone.
    async fn step(&mut self, known: &mut Vec<KnownReplica>) -> Result<Option<Duration>, ControlError> {
        let Some(agent) = self.control.store().find_agent_by_id(self.agent.id).await? else { return Ok(None) };
        self.agent = agent;
        if self.agent.destroyed {
            self.end_all().await?;
            return Ok(None);
        }
        let rollout = self.control.store().running_rollout(self.agent.id).await?;
        let mut desired = self.desired(rollout.as_ref()).await?;
        if !known.is_empty() {
            self.adopt(known, &desired).await?;
            desired = self.desired(rollout.as_ref()).await?;
        }
        if let Some(rollout) = &rollout
            && self.drive(rollout).await?
        {
            // It has ended, or entered a phase: what is wanted may have changed.
            return Ok(Some(Duration::ZERO));
        }
        // First what has come, then without what goes: nobody is missed in between.
        self.tell().await?;
        let wait = self.act(&desired).await?;
        self.tell().await?;
        self.drain_standby();
        // Old releases are forgotten, but for those that replicas are of.
        let wanted = |id: &Uuid| desired.iter().any(|(_, release)| release == id);
        self.releases.retain(|id, _| wanted(id) || self.members.iter().any(|one| one.release == *id));
        let standby = self.agent.standby_generation.and(self.agent.standby_seconds).map(Duration::try_from_secs_f64);
        let standby = standby.and_then(Result::ok).unwrap_or(LOOK_EVERY);
        Ok(Some(wait.min(self.deadline(rollout.as_ref()).await?).min(standby.max(Duration::from_millis(10)))))
    }

    async fn desired(&mut self, rollout: Option<&Rollout>) -> Result<Vec<(Desired, Uuid)>, ControlError> {
        let mut desired = Vec::new();
        let replaces = self.aim(rollout);
        if let Some((target, release)) = self.target {
            let settings = Arc::clone(&self.load(release).await?.settings);
            let turnover = self.turnover(&settings, target).await;
            self.waits_for_memory = turnover.waits_for_memory();
            let (old, new) = turnover.next();
            desired.push((Desired { rollout: target, replicas: new }, release));
            desired.push((Desired { rollout: turnover::OLD, replicas: old }, release));
        }
        if let Some(rollout) = rollout.filter(|_| !replaces) {
            let settings = Arc::clone(&self.load(rollout.release_id).await?.settings);
            let replicas = self.tried(&settings, false);
            desired.push((Desired { rollout: rollout.generation, replicas }, rollout.release_id));
        }
        if let Some((standby, release)) = self.agent.standby_generation.zip(self.agent.standby_release)
            && desired.iter().all(|(wish, _)| wish.rollout != standby)
        {
            // What is there is kept, and none is started.
            let there = self.members.iter().filter(|one| one.generation == standby && one.is_alive()).count();
            let replicas = u32::try_from(there).unwrap_or(u32::MAX);
            desired.push((Desired { rollout: standby, replicas }, release));
        }
        Ok(desired)
    }

    async fn load(&mut self, release: Uuid) -> Result<Arc<Loaded>, ControlError> {
        if let Some(loaded) = self.releases.get(&release) {
            return Ok(Arc::clone(loaded));
        }
        let row = self.control.store().find_release(release).await?;
        let release_row = row.ok_or_else(|| ControlError::NoSuchAgent(self.agent.name.clone()))?;
        let settings = Arc::new(AgentSettings::of_release(&release_row, &self.agent.name)?);
        let secret_set = match release_row.secret_set {
            Some(set) => set,
            // A server of before has made it while this one took over.
            None => {
                self.control.store().adopt_secrets().await?;
                let again = self.control.store().find_release(release).await?;
                again.and_then(|release| release.secret_set).unwrap_or_default()
            }
        };
        let loaded = Arc::new(Loaded { release: release_row, settings, secret_set });
        self.releases.insert(release, Arc::clone(&loaded));
        Ok(loaded)
    }

    /// Takes over containers that run already and are wanted; removes the others. Those that are done with
    /// leave `known`: what fails half-way is gone on with.
    async fn adopt(&mut self, known: &mut Vec<KnownReplica>, desired: &[(Desired, Uuid)]) -> Result<(), ControlError> {
        while let Some(one) = known.last() {
            let wish = desired.iter().find(|(wish, _)| wish.rollout == one.rollout).map(|(_, release)| *release);
            let wish = match wish {
                Some(release) => Some(release),
                None => self.being_replaced(one).await?,
            };
            match wish.filter(|_| one.stage == Stage::Running) {
                Some(release) => {
                    tracing::info!(agent = self.agent.name, replica = %one.id, "a replica is adopted");
                    self.supervise(one.id, one.rollout, release, true).await?;
                }
                None if one.stage == Stage::Running => self.drain_unwanted(one).await?,
                None => self.control.discard_replica(one.id, Duration::ZERO).await?,
            }
            known.pop();
        }
        Ok(())
    }

    /// The release of a replica that is being replaced: it serves until its successor does.
    async fn being_replaced(&self, one: &KnownReplica) -> Result<Option<Uuid>, ControlError> {
        let Some(serving) = self.agent.serving_release else { return Ok(None) };
        if self.agent.serving_generation == Some(one.rollout) || serving == one.release {
            return Ok(Some(serving));
        }
        let beside = self.control.store().find_rolling_from(one.rollout).await?;
        Ok(beside.filter(|beside| *beside == serving).map(|_| one.release))
    }

    /// Removes a replica that the server before had taken out, once its runs have ended or its drain's time is over.
    async fn drain_unwanted(&mut self, one: &KnownReplica) -> Result<(), ControlError> {
        let drain = match self.control.store().find_release(one.release).await? {
            Some(_) => self.load(one.release).await.map_or(STOP_GRACE, |loaded| loaded.settings.drain_timeout),
            None => STOP_GRACE,
        };
        let (control, agent, id) = (self.control.clone(), self.agent.name.clone(), one.id);
        tracing::info!(agent, replica = %id, "a replica that nobody wants ends what it runs");
        let leaving = turnover::Leaving::new(&self.leaving, &self.kick);
        self.control.0.parts.shutdown.spawn_until_cancelled(async move {
            let _leaving = leaving;
            let since = Instant::now();
            while since.elapsed() < drain && control.store().live_attempts_on(id).await.is_ok_and(|runs| runs > 0) {
                tokio::time::sleep(RETRY_AFTER).await;
            }
            control.remove_surely(&agent, id).await;
        });
        Ok(())
    }

    async fn supervise(&mut self, id: Uuid, generation: Uuid, release: Uuid, adopt: bool) -> Result<(), ControlError> {
        let loaded = self.load(release).await?;
        let (secrets, has_database) =
            self.control.variables(&self.agent, loaded.secret_set, loaded.settings.database).await?;
        let beside = self.control.store().find_rolling_from(generation).await?;
        self.control.take_charge(id);
        self.control.worn().insert(id, (self.agent.id, Redactor::new(&secrets)));
        let charge = Charge {
            id,
            agent: self.agent.name.clone(),
            database: has_database.then(|| database_name(&self.agent)),
            schema: Arc::clone(&self.route.schema),
            release,
            version: loaded.release.version,
            image: loaded.release.image.clone(),
            generation,
            settings: Arc::clone(&loaded.settings),
            secrets: Arc::new(secrets),
            adopt,
        };
        let (tell, state) = watch::channel(MemberState::Starting);
        let end = CancellationToken::new();
        let (control, kick, over, agent) =
            (self.control.clone(), Arc::clone(&self.kick), tell.clone(), self.agent.name.clone());
        let task = supervise(self.control.clone(), charge, tell, Arc::clone(&self.kick), end.clone());
        self.control.0.parts.shutdown.spawn_until_cancelled(async move {
            if let Err(payload) = AssertUnwindSafe(task).catch_unwind().await {
                let how = panic_text(payload.as_ref());
                let name = format!("supervisor of a replica of {agent}");
                let tasks = control.0.parts.shutdown.tasks();
                tasks.failed(&name, &how);
                // Another replica takes its place, with another supervisor.
                tasks.begins(&name);
                over.send_replace(MemberState::Over { fault: Fault::Refused(how), with_runs: true });
                kick.notify_one();
            }
        });
        let since = Instant::now();
        self.members.push(Member {
            id,
            release,
            generation,
            beside,
            state,
            end,
            since,
            draining: false,
            was_ready: false,
        });
        Ok(())
    }

    /// Starts what is missing, retires what is too much. Says when to look again.
    async fn act(&mut self, desired: &[(Desired, Uuid)]) -> Result<Duration, ControlError> {
        // Those that are ready first: they are kept, where some are too many.
        self.members.sort_by_key(|one| one.ready().is_none());
        let rollout = |one: &Member| if self.is_old(one) { turnover::OLD } else { one.generation };
        let observed = self.members.iter();
        let observed: Vec<Observed> =
            observed.map(|one| Observed { replica: one.id, rollout: rollout(one), alive: one.is_alive() }).collect();
        let wishes: Vec<Desired> = desired.iter().map(|(wish, _)| *wish).collect();
        let mut wait = LOOK_EVERY;
        for action in plan(&wishes, &observed) {
            match action {
                Action::Remove(id) => self.retire(id),
                Action::Start(rollout) => {
                    let not_before = self.backoffs.get(&rollout).and_then(|backoff| backoff.not_before);
                    if let Some(left) = not_before.and_then(|time| time.checked_duration_since(Instant::now())) {
                        wait = wait.min(left);
                        continue;
                    }
                    let release = desired.iter().find(|(wish, _)| wish.rollout == rollout).map(|(_, release)| *release);
                    if let Some(release) = release {
                        if self.waits_for_first(rollout, release).await? {
                            continue;
                        }
                        self.supervise(ids::new_id(), rollout, release, false).await?;
                    }
                }
            }
        }
        Ok(wait)
    }

    /// Of an agent with a database of its own one replica becomes ready first: it makes the tables that all of them
    /// want when they start, and two at once may trip each other up.
    async fn waits_for_first(&mut self, generation: Uuid, release: Uuid) -> Result<bool, ControlError> {
        let has_database = self.load(release).await?.settings.database != Database::None;
        let mut alive = self.members.iter().filter(|one| one.generation == generation && one.is_alive()).peekable();
        Ok(has_database && alive.peek().is_some() && alive.all(|one| one.ready().is_none()))
    }

    /// Takes a replica out: it gets no new runs, ends when its runs have (or at the drain's end), and
    /// nothing of it stays.
    fn retire(&mut self, id: Uuid) {
        let Some(at) = self.members.iter().position(|one| one.id == id) else { return };
        let member = self.members.swap_remove(at);
        // One that is being replaced has no successor of its kind.
        if let MemberState::Over { fault, with_runs } = member.now()
            && !member.ended_with_engine()
            && !self.is_old(&member)
        {
            let (count, next_start) = self.back_off(&member, with_runs);
            self.last_crash = Some(Crashes { how: fault.in_words(), count, next_start });
        }
        let drain = self.drain_timeout(member.release);
        let ready = member.ready().map(|(replica, _)| replica);
        if let Some(replica) = &ready {
            replica.retire();
        }
        let (control, is_alive) = (self.control.clone(), member.is_alive());
        let agent = self.agent.name.clone();
        let leaving = turnover::Leaving::new(&self.leaving, &self.kick);
        self.control.0.parts.shutdown.spawn_until_cancelled(async move {
            let _leaving = leaving;
            let since = Instant::now();
            if let Some(replica) = ready {
                hand_over(&replica, drain).await;
            }
            if is_alive {
                control.others_end(id, drain.saturating_sub(since.elapsed())).await;
            }
            member.end.cancel();
            control.remove_surely(&agent, id).await;
        });
    }

    /// When the successor of one that has ended starts, and the how manieth in a row this was. What ended with runs
    /// on it was ended by one of them: its successor starts at once.
    fn back_off(&mut self, member: &Member, with_runs: bool) -> (u32, Instant) {
        let now = Instant::now();
        if with_runs {
            self.backoffs.remove(&member.generation);
            return (1, now);
        }
        let backoff = self.backoffs.entry(member.generation).or_default();
        backoff.crashes = if member.since.elapsed() > SETTLED { 0 } else { backoff.crashes + 1 };
        let next = now + BACKOFF.saturating_mul(1 << backoff.crashes.min(10)).min(LONGEST_BACKOFF);
        backoff.not_before = Some(next);
        (backoff.crashes.max(1), next)
    }

    /// Replicas on standby keep the runs they have for the drain's time, and stay.
    fn drain_standby(&mut self) {
        let Some(standby) = self.agent.standby_generation else { return };
        if self.agent.serving_generation == Some(standby) {
            return;
        }
        let drain = self.agent.standby_release.map_or(STOP_GRACE, |release| self.drain_timeout(release));
        for member in self.members.iter_mut().filter(|one| one.generation == standby && !one.draining) {
            let Some((replica, _)) = member.ready() else { continue };
            member.draining = true;
            self.control.0.parts.shutdown.spawn_until_cancelled(async move { hand_over(&replica, drain).await });
        }
    }

    /// How long the runs of a release's replicas have; it was loaded when they were started.
    fn drain_timeout(&self, release: Uuid) -> Duration {
        self.releases.get(&release).map_or(STOP_GRACE, |loaded| loaded.settings.drain_timeout)
    }

    /// Tells the gateway and `status` what is ready.
    async fn tell(&mut self) -> Result<(), ControlError> {
        let Some((generation, release)) = self.agent.serving_generation.zip(self.agent.serving_release) else {
            self.publish.send_replace(Snapshot { is_beginning: false, ..Snapshot::default() });
            return Ok(());
        };
        let loaded = self.load(release).await?;
        let ready: Vec<_> = self.members.iter().filter(|one| self.is_serving(one)).filter_map(Member::ready).collect();
        let count = u32::try_from(ready.len()).unwrap_or(u32::MAX);
        let wanted = loaded.settings.wanted(self.agent.scale);
        self.last_crash = self.last_crash.take().filter(|_| count < wanted);
        // Those that were there before the server, or are new: how long they may take the manifest says.
        let limit = loaded.settings.ready_timeout;
        let begins = |one: &Member| one.is_alive() && one.ready().is_none() && one.since.elapsed() < limit;
        let is_beginning =
            self.last_crash.is_none() && self.members.iter().any(|one| self.is_serving(one) && begins(one));
        self.publish.send_replace(Snapshot { ready: count, wanted, is_beginning, crashes: self.last_crash.clone() });
        self.route.set_wanted(wanted);
        let mut now: Vec<Arc<Replica>> = ready.iter().map(|(replica, _)| Arc::clone(replica)).collect();
        now.sort_unstable_by_key(|replica| replica.id);
        // A connection that was made anew is another one, though the replica is the same.
        let same =
            |known: &[Arc<Replica>]| known.len() == now.len() && known.iter().zip(&now).all(|(a, b)| Arc::ptr_eq(a, b));
        if self.told.as_ref().is_some_and(|(known, told)| *known == (release, generation) && same(told)) {
            return Ok(());
        }
        let describe = ready.first().map(|(_, describe)| serde_json::from_slice(describe).unwrap_or_default());
        let describe: serde_json::Value = describe.unwrap_or_default();
        self.route.serve(Some(Serving {
            release,
            version: loaded.release.version,
            limits: loaded.settings.limits,
            graphs: graphs(&describe, &loaded),
            replicas: ready.into_iter().map(|(replica, _)| replica).collect(),
        }));
        self.told = Some(((release, generation), now));
        Ok(())
    }

    async fn end_all(&mut self) -> Result<(), ControlError> {
        for member in &self.members {
            member.end.cancel();
        }
        for one in self.control.runtime().list().await?.iter().filter(|one| one.agent == self.agent.name) {
            self.control.discard_replica(one.id, Duration::ZERO).await?;
        }
        // Those whose container was not made yet.
        for member in std::mem::take(&mut self.members) {
            self.control.discard_replica(member.id, Duration::ZERO).await?;
        }
        self.control.runtime().remove_agent(&self.agent.name).await?;
        self.control.store().drop_database(&self.agent).await?;
        self.control.store().remove_agent(&self.agent).await?;
        self.control.forget_logs(self.agent.id).await;
        self.control.forget_reconciler(self.agent.id);
        tracing::info!(agent = self.agent.name, "an agent is gone");
        Ok(())
    }
}

impl Control {
    /// Returns when no other gateway runs anything on a replica, after `limit` at the latest: a server that was
    /// replaced ends there what it has begun.
    async fn others_end(&self, id: Uuid, limit: Duration) {
        let since = Instant::now();
        let own = self.gateway().id();
        let runs = async || self.store().places_of_others(own).await.is_ok_and(|all| all.iter().any(|one| one.0 == id));
        while runs().await && since.elapsed() < limit {
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }

    /// Ends a replica and removes it, when its engine is back at the latest. Where another server looks after the
    /// replicas by now, that one does.
    async fn remove_surely(&self, agent: &str, id: Uuid) {
        let mut paused = self.0.paused.subscribe();
        if paused.wait_for(|paused| !paused).await.is_err() {
            return;
        }
        while let Err(error) = self.discard_replica(id, STOP_GRACE).await {
            tracing::warn!(agent, replica = %id, error = %chain(&error), "a replica could not be removed; it is tried again");
            tokio::time::sleep(REMOVE_AGAIN).await;
        }
    }
}

/// Waits for the replica's runs, `drain` long; what still runs then goes on in the release that serves: from
/// its next super-step, or from its last checkpoint when that takes too long.
async fn hand_over(replica: &Replica, drain: Duration) {
    if tokio::time::timeout(drain, replica.idle()).await.is_ok() {
        return;
    }
    replica.hand_over("the release is being replaced");
    if tokio::time::timeout(HAND_OVER, replica.idle()).await.is_err() {
        replica.hand_over_now().await;
    }
}

/// The graphs, with what the replicas say of them.
fn graphs(describe: &serde_json::Value, loaded: &Loaded) -> Vec<ServedGraph> {
    let settings = &loaded.settings;
    let served = settings.graphs.iter().map(|id| {
        let said = &describe["graphs"][id];
        let own = said["recursion_limit"].as_u64().and_then(|limit| u32::try_from(limit).ok());
        let chat = ChatShape::of(&said["input"], settings.limits.tokens_per_run);
        ServedGraph {
            id: id.clone(),
            input: chat.as_ref().err().map(ChatInputError::keys).unwrap_or_default().to_vec(),
            chat: chat.map_err(|error| error.to_string()),
            is_document: said["stored_as"] == "document",
            recursion_limit: ceiling(settings.limits.recursion_limit, own),
        }
    });
    served.collect()
}
