//! The connection of a replica from beginning to end: what is asked, heard and made again, and that its runs
//! are given back however it ends.

use super::{Active, Replica};
use crate::base::tasks::panic_text;
use crate::gateway::outcome::Outcome;
use crate::runner::connection::{ConnectError, Connection, Endpoint, FrameReader, Said};
use crate::runner::protocol::{FromReplica, Refused};
use crate::runner::session::{Held, Version};
use futures_util::FutureExt as _;
use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How often a replica is asked whether it lives, and whether its loop moves.
const PING_EVERY: Duration = Duration::from_millis(500);
/// A replica that has not answered for so long gets no new runs while another does.
const UNRESPONSIVE: Duration = Duration::from_secs(2);
/// How long a replica may be silent, though pinged, before its supervisor is asked whether it lives; and how
/// long one whose connection broke may take to give its runs up (DESIGN.md 3).
const SILENCE: Duration = Duration::from_secs(10);
/// How often a session is tried to be gone on with.
const RESUME_EVERY: Duration = Duration::from_millis(50);

/// What a runner of version 1 cannot do.
const VERSION_1: &str = "the image's runner speaks version 1 of its contract: runs whose connection breaks begin \
    their step again, values above 64 MiB are refused, and a large value delays others; a deploy builds it anew";

/// What faults of this program in their tasks, or with what they brought, are told under.
const TASK: &str = "connections of replicas";

/// Why a socket is not read any more.
#[derive(PartialEq, Eq)]
enum Over {
    /// It broke: the session may go on.
    Broken,
    /// The replica is silent, and so is its supervisor.
    Silent,
}

/// What must be true however the task of a connection ends, even where it is dropped.
struct Departure<'a>(&'a Replica);

impl Drop for Departure<'_> {
    fn drop(&mut self) {
        self.0.alive.store(false, Ordering::Release);
        self.0.session.close();
        // Nothing is left here after an end in order. Whoever waits for these learns that it is not told.
        self.0.active().clear();
    }
}

impl Replica {
    pub(super) async fn serve(
        self: Arc<Self>,
        endpoint: Endpoint,
        connection: Connection,
        ready: oneshot::Sender<Vec<u8>>,
        dead: CancellationToken,
    ) {
        let _departure = Departure(&self);
        let conversation = self.converse(&endpoint, connection, ready, &dead);
        let over = AssertUnwindSafe(conversation).catch_unwind().await;
        self.alive.store(false, Ordering::Release);
        if let Err(panic) = &over {
            self.count_fault(panic.as_ref());
            tracing::error!(replica = %self.id, "the task of a replica's connection failed: its runs go on elsewhere");
        }
        if let Some(offence) = self.session.offence() {
            tracing::warn!(replica = %self.id, %offence, "a replica's connection was ended");
        }
        self.session.close();
        let has_given_up = over.is_ok_and(|has_given_up| has_given_up);
        if self.in_flight() > 0 && !has_given_up {
            let _ = tokio::time::timeout(SILENCE, dead.cancelled()).await;
        }
        self.lose_all().await;
    }

    /// Serves one socket after the other. Says whether the replica's runs can go on elsewhere at once.
    async fn converse(
        &self,
        endpoint: &Endpoint,
        connection: Connection,
        ready: oneshot::Sender<Vec<u8>>,
        dead: &CancellationToken,
    ) -> bool {
        let (mut connection, mut ready) = (connection, Some(ready));
        let mut n = 0;
        loop {
            let (mut reader, write) = connection.split();
            let broken = CancellationToken::new();
            let written = async {
                write.await;
                broken.cancel();
            };
            let pings = async {
                while !broken.is_cancelled() {
                    n += 1;
                    self.session.ping(n);
                    let _ = tokio::time::timeout(PING_EVERY, broken.cancelled()).await;
                }
            };
            let read = async {
                let over = self.listen(endpoint, &mut reader, &mut ready, &broken).await;
                broken.cancel();
                over
            };
            // What was read is always dealt with to its end: only the others may be dropped.
            let mut others = std::pin::pin!(async { tokio::join!(written, pings) });
            let mut read = std::pin::pin!(read);
            let over = tokio::select! {
                over = &mut read => over,
                _ = &mut others => read.await,
            };
            if over == Over::Silent {
                return true;
            }
            self.responsive.store(false, Ordering::Release);
            match self.resume(endpoint, dead).await {
                Ok(next) => connection = next,
                Err(has_given_up) => return has_given_up,
            }
        }
    }

    /// A new socket for the session. Where there is none: whether the replica has given its runs up.
    async fn resume(&self, endpoint: &Endpoint, dead: &CancellationToken) -> Result<Connection, bool> {
        if self.session.version() == Version::One || self.session.is_over() {
            return Err(false);
        }
        let broke = Instant::now();
        let resumed = async {
            loop {
                match endpoint.resume(&self.session).await {
                    Ok(Some(connection)) => return Ok(connection),
                    Ok(None) => return Err(true),
                    Err(ConnectError::WrongPeer { .. } | ConnectError::NotASocket) => return Err(false),
                    Err(_) => tokio::time::sleep(RESUME_EVERY).await,
                }
            }
        };
        let resumed = tokio::select! {
            resumed = tokio::time::timeout(SILENCE, resumed) => resumed.unwrap_or(Err(true)),
            () = dead.cancelled() => Err(true),
        };
        if resumed.is_ok() {
            let after = broke.elapsed();
            tracing::info!(replica = %self.id, ?after, "a replica's connection broke and goes on where it was");
        }
        resumed
    }

    async fn listen(
        &self,
        endpoint: &Endpoint,
        reader: &mut FrameReader,
        ready: &mut Option<oneshot::Sender<Vec<u8>>>,
        broken: &CancellationToken,
    ) -> Over {
        let mut heard = Instant::now();
        let mut has_complained = false;
        loop {
            let next = tokio::select! {
                next = tokio::time::timeout(UNRESPONSIVE, reader.message()) => next,
                () = broken.cancelled() => return Over::Broken,
            };
            let message = match next {
                Ok(Some(message)) => message,
                Ok(None) => return Over::Broken,
                Err(_) => {
                    self.responsive.store(false, Ordering::Release);
                    if heard.elapsed() < SILENCE {
                        continue;
                    }
                    // A node that holds the interpreter (a long C call) answers no ping, and lives.
                    if !endpoint.supervisor_answers().await {
                        tracing::warn!(replica = %self.id, "the replica is silent: it counts as lost");
                        return Over::Silent;
                    }
                    heard = Instant::now();
                    continue;
                }
            };
            let said = reader.read(message).await;
            heard = Instant::now();
            self.liveness.heard();
            self.responsive.store(true, Ordering::Release);
            match said {
                Said::Frame(FromReplica::Ready(body), _) => {
                    if let Some(ready) = ready.take() {
                        let describe = body.describe.into_vec();
                        let is_old = self.session.version() == Version::One;
                        let _ = ready.send(if is_old { self.with_note(describe) } else { describe });
                    }
                }
                Said::Frame(frame, held) => self.take_carefully(frame, held).await,
                Said::Unknown(refused) => {
                    if !std::mem::replace(&mut has_complained, true) {
                        let Refused { kind, reason, .. } = &refused;
                        tracing::warn!(replica = %self.id, kind, reason, "a replica sent what is not understood");
                    }
                    self.answer_unknown(refused).await;
                }
                Said::Refused(refused) => self.refused(refused).await,
                Said::Nothing => {}
            }
        }
    }

    /// Names what a runner of version 1 cannot do: in the log, and with what else it notes of itself.
    fn with_note(&self, describe: Vec<u8>) -> Vec<u8> {
        tracing::warn!(replica = %self.id, "{VERSION_1}");
        let Ok(mut told) = serde_json::from_slice::<serde_json::Value>(&describe) else { return describe };
        match told.get_mut("notes").and_then(serde_json::Value::as_array_mut) {
            Some(notes) => notes.push(VERSION_1.into()),
            None => return describe,
        }
        told.to_string().into_bytes()
    }

    /// A frame that this program fails on ends its run and nothing else.
    async fn take_carefully(&self, frame: FromReplica, held: Held) {
        let named = frame.attempt().and_then(|(run, attempt)| Some((Uuid::try_parse(run).ok()?, attempt)));
        let Err(panic) = AssertUnwindSafe(self.take(frame, held)).catch_unwind().await else { return };
        self.count_fault(panic.as_ref());
        let Some((run, attempt)) = named else { return };
        tracing::error!(replica = %self.id, run_id = %run, "the gateway failed on what a run sent: the run ends");
        let outcome = Outcome::fault("GatewayFault", "the gateway failed on what the run sent");
        if !self.take_away(run, outcome.clone()).await {
            // Its entry went with the failure. If the attempt is not live any more, the committer says so.
            let attempt = i32::try_from(attempt).unwrap_or(i32::MAX);
            let (finish, _) = oneshot::channel();
            let active = Active {
                attempt,
                begun: 0,
                grant: super::Grant::AnyThread,
                graph: String::new(),
                state: super::StateSize::default(),
                used: crate::run::cost::Bill::default(),
                handed_over: false,
                finish,
            };
            self.finish(run, active, outcome).await;
        }
    }

    /// Has `status` and `doctor` tell of it.
    fn count_fault(&self, panic: &(dyn Any + Send)) {
        let tasks = self.committer.tasks();
        tasks.failed(TASK, &panic_text(panic));
        tasks.begins(TASK);
    }

    /// Who waits for a reply gets an error. A part of a run's state, or its end, that cannot be read ends the run:
    /// whoever waits for it would wait for ever. A kind of frame that a later version sends beside these does not.
    async fn answer_unknown(&self, refused: Refused) {
        const KNOWN: [&str; 3] = ["checkpoint", "writes", "end"];
        if refused.id != 0 {
            return self.fail(refused.id, &refused.reason);
        }
        if !KNOWN.contains(&refused.kind.as_str()) {
            return;
        }
        let run = refused.run.as_deref().and_then(|run| Uuid::try_parse(run).ok());
        let Some(run) = run.filter(|run| self.is_attempt(*run, refused.attempt)) else { return };
        tracing::warn!(replica = %self.id, run_id = %run, reason = refused.reason, "a run sent what cannot be read: it ends");
        self.take_away(run, Outcome::fault("FrameUnreadable", "the run sent what cannot be stored")).await;
    }

    /// The replica did not understand a frame of ours: a run that it would not start does not wait for it.
    async fn refused(&self, refused: Refused) {
        let Refused { kind, reason, run, attempt, .. } = refused;
        tracing::warn!(replica = %self.id, kind, reason, "a replica did not understand a frame");
        let run = run.and_then(|run| Uuid::try_parse(&run).ok());
        if let Some(run) = run.filter(|run| kind == "start" && self.is_attempt(*run, attempt)) {
            let why = "the replica's runner cannot execute such a run: build the image again";
            self.take_away(run, Outcome::fault("StartRefused", why)).await;
        }
    }

    fn is_attempt(&self, run: Uuid, attempt: u32) -> bool {
        self.active().get(&run).is_some_and(|active| u32::try_from(active.attempt) == Ok(attempt))
    }
}
