//! The states of agents and rollouts, and the line that `status` prints.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt::{self, Display};
use std::time::Duration;

/// How an agent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AgentState {
    /// Its first release is being rolled out, or its replicas are beginning: with the server, or after a scale.
    Starting,
    /// As many replicas are ready as are wanted.
    Running,
    /// Fewer are ready than wanted, one at least; or most turns fail.
    Degraded,
    /// A release serves, another is being rolled out.
    Rolling,
    /// Scaled to nothing until somebody calls.
    Sleeping,
    /// Nothing serves and nothing is on its way.
    Failed,
    /// Stopped by hand.
    Stopped,
}

/// What an agent's state is derived from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent of each other")]
pub struct AgentFacts {
    /// Whether a release serves.
    pub serving: bool,
    /// Whether a rollout is under way.
    pub rolling: bool,
    /// Ready replicas of the release that serves.
    pub ready: u32,
    /// Wanted replicas of it.
    pub wanted: u32,
    /// Whether somebody scaled it to nothing.
    pub stopped: bool,
    /// Whether replicas of it are beginning, and none has crashed.
    pub beginning: bool,
    /// Whether most of its last turns failed.
    pub failing: bool,
}

/// Of the last turns, so few say nothing.
const FEW_TURNS: i64 = 5;

/// Whether most turns fail, by the last ones that ended and those among them that failed.
pub fn most_fail(turns: i64, failed: i64) -> bool {
    turns >= FEW_TURNS && failed * 2 > turns
}

/// The agent's state.
pub fn agent_state(facts: AgentFacts) -> AgentState {
    match facts {
        AgentFacts { serving: true, rolling: true, ready: 1.., .. } => AgentState::Rolling,
        AgentFacts { serving: true, stopped: true, .. } => AgentState::Stopped,
        AgentFacts { serving: false, rolling: true, .. }
        | AgentFacts { serving: true, ready: 0, beginning: true, .. } => AgentState::Starting,
        AgentFacts { serving: false, .. } | AgentFacts { ready: 0, .. } => AgentState::Failed,
        AgentFacts { ready, wanted, .. } if ready < wanted => AgentState::Degraded,
        AgentFacts { failing: true, .. } => AgentState::Degraded,
        AgentFacts { .. } => AgentState::Running,
    }
}

impl AgentState {
    /// Whether `status NAME` exits with 0.
    pub fn is_healthy(self) -> bool {
        matches!(self, Self::Running | Self::Rolling | Self::Sleeping | Self::Starting)
    }
}

/// The phases of a rollout, in their order (DESIGN.md 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The CLI makes the image.
    Build,
    /// The image goes to where replicas run.
    Push,
    /// Replicas are made.
    Start,
    /// Replicas load their graphs.
    Ready,
    /// Traffic moves.
    Switch,
}

/// Whether a rollout goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RolloutState {
    /// It goes on.
    Running,
    /// Traffic has moved.
    Succeeded,
    /// What served before still serves.
    Failed,
    /// Somebody ended it.
    Cancelled,
}

impl TryFrom<String> for Phase {
    type Error = UnknownPhase;

    fn try_from(text: String) -> Result<Self, UnknownPhase> {
        Self::parse(&text).ok_or(UnknownPhase(text))
    }
}

/// A word that names no phase.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no phase of a rollout")]
pub struct UnknownPhase(String);

macro_rules! text {
    ($kind:ty { $($variant:ident = $text:literal),+ $(,)? }) => {
        impl $kind {
            /// The word that tables, JSON and the database use.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
            /// The variant of that word.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)+ _ => None }
            }
        }
        impl Display for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

text!(AgentState {
    Starting = "starting",
    Running = "running",
    Degraded = "degraded",
    Rolling = "rolling",
    Sleeping = "sleeping",
    Failed = "failed",
    Stopped = "stopped",
});
text!(Phase { Build = "build", Push = "push", Start = "start", Ready = "ready", Switch = "switch" });
text!(RolloutState { Running = "running", Succeeded = "succeeded", Failed = "failed", Cancelled = "cancelled" });

/// `850ms`, `1.4s`, `95.0s`; `-` when not known.
pub fn latency(p95_ms: Option<f64>) -> String {
    match p95_ms {
        None => "-".to_owned(),
        Some(ms) if ms.round() < 1000.0 => format!("{:.0}ms", ms.max(0.0)),
        Some(ms) => format!("{:.1}s", ms / 1000.0),
    }
}

/// US dollars with five decimals; `-` when not known.
pub fn dollars(cost: Option<f64>) -> String {
    cost.map_or_else(|| "-".to_owned(), |cost| format!("{cost:.5}"))
}

/// `0% of 40`, `12% of 40`; `-` when nothing has ended.
pub fn error_rate(runs: i64, failed: i64) -> String {
    if runs <= 0 {
        return "-".to_owned();
    }
    // One in a thousand is not none.
    let percent = (failed * 100 + runs - 1) / runs;
    format!("{percent}% of {runs}")
}

/// `1 replica`, `3 replicas`.
pub fn replicas(ready: u32) -> String {
    if ready == 1 { "1 replica".to_owned() } else { format!("{ready} replicas") }
}

/// `v11 draining: 3 runs, oldest 6m12s`.
pub fn draining_line(version: i32, runs: u64, oldest_seconds: f64) -> String {
    let runs = if runs == 1 { "1 run".to_owned() } else { format!("{runs} runs") };
    let seconds = Duration::try_from_secs_f64(oldest_seconds).unwrap_or_default().as_secs();
    let oldest = match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds:02}s"),
        (hours, minutes, _) => format!("{hours}h{minutes:02}m"),
    };
    format!("v{version} draining: {runs}, oldest {oldest}")
}

/// The stable line of `status` when piped.
pub fn status_line(
    name: &str,
    version: i32,
    state: AgentState,
    ready: u32,
    p95_ms: Option<f64>,
    cost: Option<f64>,
) -> String {
    format!("{name} v{version} {state} {} p95={} ${}/turn", replicas(ready), latency(p95_ms), dollars(cost))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_line() {
        let line = status_line("agent", 12, AgentState::Running, 3, Some(1400.0), Some(0.00142));
        assert_eq!(line, "agent v12 running 3 replicas p95=1.4s $0.00142/turn");
    }

    #[test]
    fn what_is_not_known_is_a_dash_and_one_replica_is_one() {
        let line = status_line("agent", 1, AgentState::Degraded, 1, None, None);
        assert_eq!(line, "agent v1 degraded 1 replica p95=- $-/turn");
    }

    #[test]
    fn a_release_that_drains_has_a_line() {
        assert_eq!(draining_line(11, 3, 372.9), "v11 draining: 3 runs, oldest 6m12s");
        assert_eq!(draining_line(11, 1, 0.2), "v11 draining: 1 run, oldest 0s");
        assert_eq!(draining_line(2, 2, 3720.0), "v2 draining: 2 runs, oldest 1h02m");
    }

    #[test]
    fn latency_changes_its_unit_at_a_second() {
        assert_eq!(latency(Some(850.2)), "850ms");
        assert_eq!(latency(Some(999.4)), "999ms");
        assert_eq!(latency(Some(999.6)), "1.0s");
        assert_eq!(latency(Some(95_000.0)), "95.0s");
    }

    #[test]
    fn most_turns_fail_when_more_than_half_of_some_do() {
        assert!(most_fail(5, 3) && most_fail(20, 11) && most_fail(20, 20));
        assert!(!most_fail(4, 4) && !most_fail(20, 10) && !most_fail(0, 0));
    }

    #[test]
    fn the_state_follows_from_the_facts() {
        let facts = AgentFacts {
            serving: true,
            rolling: false,
            ready: 3,
            wanted: 3,
            stopped: false,
            beginning: false,
            failing: false,
        };
        assert_eq!(agent_state(facts), AgentState::Running);
        assert_eq!(agent_state(AgentFacts { ready: 2, ..facts }), AgentState::Degraded);
        assert_eq!(agent_state(AgentFacts { ready: 0, ..facts }), AgentState::Failed);
        // Its replicas are there, and the server has just begun.
        assert_eq!(agent_state(AgentFacts { ready: 0, beginning: true, ..facts }), AgentState::Starting);
        assert_eq!(agent_state(AgentFacts { ready: 1, beginning: true, ..facts }), AgentState::Degraded);
        assert_eq!(agent_state(AgentFacts { failing: true, ..facts }), AgentState::Degraded);
        assert_eq!(agent_state(AgentFacts { rolling: true, ..facts }), AgentState::Rolling);
        let nothing = AgentFacts { serving: false, ready: 0, ..facts };
        assert_eq!(agent_state(AgentFacts { rolling: true, ..nothing }), AgentState::Starting);
        assert_eq!(agent_state(nothing), AgentState::Failed);
        assert_eq!(agent_state(AgentFacts { ready: 0, wanted: 0, stopped: true, ..facts }), AgentState::Stopped);
    }
}
