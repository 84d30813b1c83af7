//! What can be typed.

mod manifest;
mod operations;

pub use manifest::ManifestArg;
pub use operations::{
    DoctorArgs, HistoryArgs, LogsArgs, Replicas, RolloutsArgs, RunsArgs, RunsCommand, ScaleArgs, SecretsArgs,
    SecretsCommand, ThreadsArgs, ThreadsCommand, TokensArgs, TokensCommand, WaitArgs,
};

use crate::base::env;
use crate::egress::Override;
use crate::models::ProviderOverride;
use crate::server::PublicUrl;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;
use uuid::Uuid;

/// Takes a LangGraph project from a laptop or CI to production.
#[derive(Debug, Parser)]
#[command(name = "rapidclaw", version, about, max_term_width = 100, disable_help_subcommand = true)]
pub struct Cli {
    /// For all commands.
    #[command(flatten, next_help_heading = "For all commands")]
    pub global: Global,
    /// Which command.
    #[command(subcommand)]
    pub command: Command,
}

/// For all commands.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Print JSON on stdout
    #[arg(long, global = true)]
    pub json: bool,
    /// Print no progress and no hints
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Say more; twice: everything
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Never ask
    #[arg(long, global = true)]
    pub no_input: bool,
    /// Answer yes to every question
    #[arg(long, short, global = true)]
    pub yes: bool,
    /// The server to talk to; else `RAPIDCLAW_SERVER`
    #[arg(long, global = true, value_name = "URL", conflicts_with = "context")]
    pub server: Option<String>,
    /// The login to use; else `RAPIDCLAW_CONTEXT`, else the current one
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// Trust these authorities beside the system's (PEM); else `RAPIDCLAW_CA_FILE`
    #[arg(long, global = true, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check the manifest and the project behind it
    Validate(ValidateArgs),
    /// Make the image
    Build(BuildArgs),
    /// Print the JSON Schema of langgraph.json, for editors
    Schema,
    /// Log in to a server
    Login(LoginArgs),
    /// Forget a login
    Logout,
    /// Say who is logged in, and where
    Whoami,
    /// List, choose and forget logins
    Context(ContextArgs),
    /// Build, roll out, and wait until the new release serves
    Deploy(DeployArgs),
    /// Go back to the release that served before, or to any
    Rollback(RollbackArgs),
    /// Show agents: replicas, p95, cost per turn
    Status(StatusArgs),
    /// List an agent's releases
    Releases(HistoryArgs),
    /// List an agent's rollouts; watch or cancel the one under way
    Rollouts(RolloutsArgs),
    /// Show what an agent's replicas wrote
    Logs(LogsArgs),
    /// List an agent's runs, or show one
    Runs(RunsArgs),
    /// List an agent's threads, or show one
    Threads(ThreadsArgs),
    /// Set, list and forget an agent's secrets
    Secrets(SecretsArgs),
    /// Say how many replicas an agent shall have
    Scale(ScaleArgs),
    /// Create, list and revoke an agent's keys
    Keys(KeysArgs),
    /// Create, list and revoke tokens of the control API, for people and CI
    Tokens(TokensArgs),
    /// Remove an agent with its releases, keys, secrets and threads
    Destroy(DestroyArgs),
    /// Run, start and stop the server on this machine
    Server(ServerArgs),
    /// Say what is missing on this machine, and how to mend it
    Doctor(DoctorArgs),
    /// Print a shell's completions
    Completions(CompletionsArgs),
}

/// `validate`.
#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// Where it is.
    #[command(flatten)]
    pub manifest: ManifestArg,
    /// Check the manifest alone, not the files it names
    #[arg(long)]
    pub manifest_only: bool,
}

/// What builds share.
#[derive(Debug, Clone, Args)]
pub struct BuildOptions {
    /// Where it is.
    #[command(flatten)]
    pub manifest: ManifestArg,
    /// The image to build on; else the one that the manifest names, else python:X-slim
    #[arg(long, value_name = "IMAGE", env = env::BASE_IMAGE)]
    pub base_image: Option<String>,
    /// The processor that the image is for; it must be the server's
    #[arg(long, value_name = "OS/ARCH", value_parser = ["linux/amd64", "linux/arm64"])]
    pub platform: Option<String>,
    /// Fetch the base image anew
    #[arg(long)]
    pub pull: bool,
    /// Build even when nothing changed, every layer
    #[arg(long)]
    pub no_cache: bool,
}

/// `build`.
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// How.
    #[command(flatten)]
    pub build: BuildOptions,
    /// Print the Dockerfile and build nothing
    #[arg(long, conflicts_with = "push")]
    pub print_dockerfile: bool,
    /// Push the image, into the server's registry unless --registry names another
    #[arg(long)]
    pub push: bool,
    /// Another registry, with this machine's Docker login
    #[arg(long, value_name = "HOST/PATH", requires = "push")]
    pub registry: Option<String>,
}

/// `login`.
#[derive(Debug, Args)]
pub struct LoginArgs {
    /// The server's address; this machine's when it is not given and nobody can be asked
    #[arg(value_name = "SERVER")]
    pub address: Option<String>,
    /// The server on this machine, with the administrator's token
    #[arg(long, conflicts_with_all = ["address", "token_stdin"])]
    pub local: bool,
    /// Read the token from stdin
    #[arg(long)]
    pub token_stdin: bool,
    /// Where the token shall rest
    #[arg(long, value_name = "WHERE", value_enum, default_value_t = TokenStore::Auto)]
    pub store: TokenStore,
    /// The data folder of the server on this machine
    #[arg(long, value_name = "DIR", env = env::DATA_DIR)]
    pub data_dir: Option<PathBuf>,
}

/// Where a token shall rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TokenStore {
    /// In the OS keyring where it answers within two seconds, else in the file
    Auto,
    /// In the OS keyring
    Keyring,
    /// In a file that only you may read
    File,
}

/// `context`.
#[derive(Debug, Args)]
pub struct ContextArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ContextCommand,
}

/// What can be done with logins.
#[derive(Debug, Subcommand)]
pub enum ContextCommand {
    /// List logins
    List,
    /// Use this one in commands that are not told
    Use {
        /// Its name
        name: String,
    },
    /// Forget one, and its token
    Remove {
        /// Its name
        name: String,
    },
}

/// Where an image is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BuildPlace {
    /// With this machine's Docker Engine
    Local,
    /// With the server's, which gets the project
    Server,
}

/// `deploy`.
#[derive(Debug, Args)]
pub struct DeployArgs {
    /// How.
    #[command(flatten)]
    pub build: BuildOptions,
    /// Where to build, local or server; else here where a Docker Engine for the server's processor answers
    #[arg(long = "build", value_name = "WHERE", value_enum, hide_possible_values = true)]
    pub place: Option<BuildPlace>,
    /// Read secrets from this file, not from the manifest's `env`
    #[arg(long, value_name = "FILE")]
    pub env_file: Option<PathBuf>,
    /// Push the image into this registry, too, with this machine's Docker login
    #[arg(long, value_name = "HOST/PATH")]
    pub registry: Option<String>,
    /// Print what a deploy would do, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// With --dry-run: exit 8 when something would change
    #[arg(long, requires = "dry_run")]
    pub exit_code: bool,
    /// Do not wait for the switch
    #[arg(long)]
    pub detach: bool,
    /// Wait this long for the switch, in seconds
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// Wait for a rollout of the agent that is under way (within --timeout), then deploy
    #[arg(long)]
    pub wait: bool,
}

/// `rollback`.
#[derive(Debug, Args)]
pub struct RollbackArgs {
    /// The release to go back to (`v3` or `3`)
    #[arg(value_parser = parse_version)]
    pub version: Option<i32>,
    /// The agent; else the one of the manifest here, else the only one
    #[arg(long, value_name = "NAME")]
    pub agent: Option<String>,
    /// Keep today's secrets instead of going back to those of the old release
    #[arg(long)]
    pub keep_secrets: bool,
    /// Do not wait for the switch
    #[arg(long)]
    pub detach: bool,
    /// Wait this long for the switch, in seconds
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
}

fn parse_version(text: &str) -> Result<i32, String> {
    let number = text.strip_prefix('v').unwrap_or(text).parse::<i32>().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "is no release (v3 or 3)".to_owned())
}

/// `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Only this agent; exit 1 when it is not healthy
    pub name: Option<String>,
    /// Go on showing it: in place on a terminal, a line on each change elsewhere
    #[arg(long, short)]
    pub watch: bool,
}

/// `keys`.
#[derive(Debug, Args)]
pub struct KeysArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: KeysCommand,
}

/// What can be done with keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key; it is shown this once
    Create {
        /// The agent
        agent: String,
        /// What it is for
        #[arg(long, default_value = "")]
        name: String,
    },
    /// List keys
    List {
        /// The agent
        agent: String,
    },
    /// Make a key open nothing any more
    Revoke {
        /// The agent
        agent: String,
        /// The key's id
        id: Uuid,
    },
}

/// `destroy`.
#[derive(Debug, Args)]
pub struct DestroyArgs {
    /// The agent
    pub name: String,
}

/// `server`.
#[derive(Debug, Args)]
pub struct ServerArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ServerCommand,
}

/// What can be done with the server.
#[derive(Debug, Subcommand)]
pub enum ServerCommand {
    /// Run the server in the foreground
    Run(Box<ServerOptions>),
    /// Start the server in the background, and wait until it answers
    Start(Box<ServerOptions>),
    /// Replace the server on this machine by this binary, without failing a request
    ///
    /// Options that are given take the place of those of their name that it was started with; all others stay.
    Restart(Box<RestartArgs>),
    /// Stop the server on this machine, its replicas and its Postgres; all data stay
    Stop(DataDirArg),
    /// Say whether a server runs on this machine
    Status(DataDirArg),
    /// Write all that the server keeps into one file: databases and registry, without the key of its secrets
    Backup(BackupArgs),
    /// Make a new data folder from a backup
    Restore(RestoreArgs),
}

/// Where a server's data are.
#[derive(Debug, Clone, Args)]
pub struct DataDirArg {
    /// The data folder; /var/lib/rapidclaw for root, the XDG data folder else
    #[arg(long, value_name = "DIR", env = env::DATA_DIR)]
    pub data_dir: Option<PathBuf>,
}

/// `server backup`.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// Where to write it
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Where the data are.
    #[command(flatten)]
    pub data_dir: DataDirArg,
}

/// `server restore`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// What `server backup` wrote
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Where the data shall be.
    #[command(flatten)]
    pub data_dir: DataDirArg,
    /// The key file of the server that was backed up; else the one beside the data folder
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Take the managed Postgres from this image
    #[arg(long, value_name = "IMAGE", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub postgres_image: Option<String>,
}

/// How a server is called, and how safely.
#[derive(Debug, Clone, Args)]
pub struct ReachOptions {
    /// How the control API is called from elsewhere
    #[arg(long, value_name = "URL")]
    pub public_url: Option<PublicUrl>,
    /// How agents are called from elsewhere; else by the host of --public-url and the port of --agents-listen
    #[arg(long, value_name = "URL")]
    pub agents_public_url: Option<PublicUrl>,
    /// Speak TLS with this certificate and those that lead to its authority's (PEM); read again when it changes
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Listen on other addresses than loopback's without TLS
    #[arg(long)]
    pub insecure: bool,
}

/// How a server runs.
#[derive(Debug, Clone, Args)]
pub struct ServerOptions {
    /// Where its data are.
    #[command(flatten)]
    pub data_dir: DataDirArg,
    /// Where the control API answers
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4120")]
    pub listen: SocketAddr,
    /// Where agents answer
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4121")]
    pub agents_listen: SocketAddr,
    /// Names and TLS.
    #[command(flatten)]
    pub reach: ReachOptions,
    /// A Postgres of yours, from the environment alone (a password is no argument)
    #[arg(skip = env::var(env::DATABASE_URL).map(crate::base::secret::SecretString::from))]
    pub database_url: Option<crate::base::secret::SecretString>,
    /// Take the managed Postgres from this image; else the machine's own is used, and where it has none postgres:17
    #[arg(long, value_name = "IMAGE", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub postgres_image: Option<String>,
    /// A model provider's address for all agents (openai=URL, anthropic=URL); it may be this machine
    #[arg(long = "provider", value_name = "NAME=URL")]
    pub providers: Vec<ProviderOverride>,
    /// An address for a name that agents reach, as curl has it
    #[arg(long, value_name = "NAME:PORT:ADDR")]
    pub resolve: Vec<Override>,
    /// How many releases of each agent keep their images, so that a rollback can go there
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub keep_images: u32,
    /// How many images to build at once for those who deploy, 0: none; else half as many as processors
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=64))]
    pub build_jobs: Option<u32>,
    /// Write the log as JSON
    #[arg(long)]
    pub log_json: bool,
    /// Begin a session of its own (`server start` does)
    #[arg(long, hide = true)]
    pub detached: bool,
    /// Take over from the server that runs (`server restart` does)
    #[arg(long, hide = true)]
    pub takeover: bool,
}

/// `server restart`.
#[derive(Debug, Clone, Args)]
pub struct RestartArgs {
    /// Where its data are.
    #[command(flatten)]
    pub data_dir: DataDirArg,
    /// Where the control API answers from now on
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Where agents answer from now on
    #[arg(long, value_name = "ADDR")]
    pub agents_listen: Option<SocketAddr>,
    /// Names and TLS.
    #[command(flatten)]
    pub reach: ReachOptions,
    /// Model providers' addresses for all agents (openai=URL, anthropic=URL), in place of all before
    #[arg(long = "provider", value_name = "NAME=URL")]
    pub providers: Vec<ProviderOverride>,
    /// Addresses for names that agents reach, as curl has them, in place of all before
    #[arg(long, value_name = "NAME:PORT:ADDR")]
    pub resolve: Vec<Override>,
    /// How many releases of each agent keep their images, so that a rollback can go there
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub keep_images: Option<u32>,
    /// How many images to build at once for those who deploy, 0: none
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=64))]
    pub build_jobs: Option<u32>,
    /// Write the log as JSON
    #[arg(long)]
    pub log_json: bool,
}

/// `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// Which shell
    pub shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests;
