//! What operators type from day to day.

use super::manifest::ManifestArg;
use crate::api::access::Role;
use crate::base::env;
use crate::manifest::units::parse_duration;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use std::path::PathBuf;
use std::time::Duration;
use uuid::Uuid;

/// How a command that starts a rollout waits for it.
#[derive(Debug, Clone, Args)]
pub struct WaitArgs {
    /// Do not wait until it is done
    #[arg(long)]
    pub detach: bool,
    /// Wait this long, in seconds
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
}

/// `secrets`.
#[derive(Debug, Args)]
pub struct SecretsArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: SecretsCommand,
}

/// What can be done with secrets. A change is a release of its own, whose replicas replace the others one by one.
#[derive(Debug, Subcommand)]
pub enum SecretsCommand {
    /// Set a secret; its value comes from stdin or a hidden prompt
    Set {
        /// The agent
        agent: String,
        /// The secret's name
        name: String,
        /// A value that was typed by mistake: taken here, so that nothing repeats it
        #[arg(hide = true, allow_hyphen_values = true)]
        value: Vec<String>,
        /// How to wait.
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// List names and when they changed; values are never shown
    List {
        /// The agent
        agent: String,
    },
    /// Forget secrets
    Unset {
        /// The agent
        agent: String,
        /// Their names
        #[arg(required = true)]
        names: Vec<String>,
        /// How to wait.
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Replace a secret's value wherever it is kept, so that no rollback brings the old one back
    Rotate {
        /// The agent
        agent: String,
        /// The secret's name
        name: String,
        /// A value that was typed by mistake: taken here, so that nothing repeats it
        #[arg(hide = true, allow_hyphen_values = true)]
        value: Vec<String>,
        /// How to wait.
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Set all secrets of a dotenv file; what it does not name stays
    Import {
        /// The agent
        agent: String,
        /// The file; `-` or nothing: stdin
        file: Option<PathBuf>,
        /// How to wait.
        #[command(flatten)]
        wait: WaitArgs,
    },
}

/// `scale`.
#[derive(Debug, Args)]
pub struct ScaleArgs {
    /// The agent
    pub agent: String,
    /// How many, 0 to the manifest's `max_replicas`; `auto`: the manifest's `min_replicas` again
    #[arg(value_name = "N|auto")]
    pub replicas: Replicas,
    /// How to wait.
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// A number of replicas, or the manifest's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replicas {
    /// As many.
    Count(u32),
    /// The manifest's.
    Auto,
}

impl std::str::FromStr for Replicas {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            number => number.parse().map(Self::Count).map_err(|_| "is neither a number of replicas nor `auto`"),
        }
    }
}

/// `logs`.
#[derive(Debug, Args)]
#[command(after_help = "Lines of replicas that are gone are kept for a week, or as long as rapidclaw.logs.retention \
says, 64 MiB at most. Secrets of the agent are blotted out.")]
pub struct LogsArgs {
    /// The agent
    pub agent: String,
    /// Go on with what is written from now on
    #[arg(long, short)]
    pub follow: bool,
    /// Only lines of this thread
    #[arg(long, value_name = "THREAD")]
    pub thread: Option<String>,
    /// Only lines of this run
    #[arg(long, value_name = "RUN")]
    pub run: Option<Uuid>,
    /// Only lines of this replica: its id, or the end of it
    #[arg(long, value_name = "ID")]
    pub replica: Option<String>,
    /// Only lines written since then: 15m, 2h, 3d ago, or a time by RFC 3339
    #[arg(long, value_name = "WHEN", value_parser = parse_since)]
    pub since: Option<Timestamp>,
    /// How many lines, the newest; 100 where --since is not given
    #[arg(long, short = 'n', value_name = "N")]
    pub lines: Option<usize>,
}

/// A time, or how long ago it was.
fn parse_since(text: &str) -> Result<Timestamp, String> {
    let ago = parse_duration(text).and_then(|ago| Timestamp::now().checked_sub(ago).ok());
    ago.or_else(|| text.parse().ok())
        .ok_or_else(|| "is no duration (15m, 2h, 3d) and no time (2026-01-31T12:00:00Z)".to_owned())
}

/// `releases` and `rollouts`.
#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// The agent
    pub agent: String,
    /// How many, newest first
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: u32,
}

/// `rollouts`.
#[derive(Debug, Args)]
pub struct RolloutsArgs {
    /// Whose, and how many.
    #[command(flatten)]
    pub history: HistoryArgs,
    /// Watch the rollout under way to its end, as deploy does
    #[arg(long, conflicts_with = "cancel")]
    pub watch: bool,
    /// End the rollout under way; what served before serves on
    #[arg(long)]
    pub cancel: bool,
}

/// `runs`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct RunsArgs {
    /// Show one.
    #[command(subcommand)]
    pub command: Option<RunsCommand>,
    /// The agent
    #[arg(required = true)]
    pub agent: Option<String>,
    /// Only runs of this thread
    #[arg(long, value_name = "THREAD")]
    pub thread: Option<String>,
    /// Only runs in this state
    #[arg(long, value_parser = ["pending", "running", "success", "error", "timeout"])]
    pub status: Option<String>,
    /// How many, newest first
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: u32,
}

/// What can be done with runs.
#[derive(Debug, Subcommand)]
pub enum RunsCommand {
    /// Show one run: what was asked, where it was executed, what came of it
    Show {
        /// The run's id
        run: Uuid,
    },
}

/// `threads`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct ThreadsArgs {
    /// Show one.
    #[command(subcommand)]
    pub command: Option<ThreadsCommand>,
    /// The agent
    #[arg(required = true)]
    pub agent: Option<String>,
    /// How many, those that ran last first
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: u32,
}

/// What can be done with threads.
#[derive(Debug, Subcommand)]
pub enum ThreadsCommand {
    /// Show one thread: its newest checkpoint and its runs
    ///
    /// Of the checkpoint its step, its channels and its metadata are shown. Its values are not: they are
    /// in LangGraph's own form, which only Python reads; a later version asks a replica for them.
    Show {
        /// The agent
        agent: String,
        /// The thread, as the client named it or by its id
        thread: String,
    },
}

/// `tokens`.
#[derive(Debug, Args)]
pub struct TokensArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: TokensCommand,
}

/// What can be done with tokens of the control API.
#[derive(Debug, Subcommand)]
pub enum TokensCommand {
    /// Create a token; it is shown this once
    ///
    /// admin may do everything; deployer may view, deploy, roll back, push images and call agents; viewer may view
    /// agents, their runs and logs, and pull images; invoke may call agents. Nobody creates a token with more rights
    /// than their own.
    Create {
        /// What it is called
        name: String,
        /// What it may do
        #[arg(long, value_name = "ROLE", value_parser = role())]
        role: Role,
        /// Limit it to this agent, which need not be deployed yet; may be repeated
        #[arg(long = "agent", value_name = "NAME")]
        agents: Vec<String>,
        /// How long it works (12h, 90d); else until it is revoked
        #[arg(long, value_name = "DURATION", value_parser = parse_expiry)]
        expires: Option<Duration>,
    },
    /// List tokens, those that work no more as well; values are never shown
    List,
    /// Revoke a token: it opens nothing from now on
    Revoke {
        /// Its name or id
        #[arg(value_name = "NAME|ID")]
        token: String,
    },
}

fn role() -> impl TypedValueParser<Value = Role> {
    PossibleValuesParser::new(Role::ALL.map(Role::as_str)).try_map(|text| text.parse::<Role>())
}

fn parse_expiry(text: &str) -> Result<Duration, String> {
    let given = parse_duration(text).filter(|given| given.as_secs() > 0);
    given.ok_or_else(|| "is not a duration of a second or more (12h, 90d)".to_owned())
}

/// `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The manifest whose Python decides about the base image
    #[command(flatten)]
    pub manifest: ManifestArg,
    /// The image that builds stand on
    #[arg(long, value_name = "IMAGE", env = env::BASE_IMAGE)]
    pub base_image: Option<String>,
    /// The data folder of the server on this machine
    #[arg(long, value_name = "DIR", env = env::DATA_DIR)]
    pub data_dir: Option<PathBuf>,
}
