//! The names of all environment variables that rapidclaw reads, in one place.

/// The server the CLI talks to (CI); a flag or a stored login is what else names it.
pub const SERVER: &str = "RAPIDCLAW_SERVER";
/// A token for the control API (CI); stored nowhere.
pub const TOKEN: &str = "RAPIDCLAW_TOKEN";
/// The context of commands that are not told, before the current one.
pub const CONTEXT: &str = "RAPIDCLAW_CONTEXT";
/// Certificates of authorities (PEM) that the CLI trusts beside the system's.
pub const CA_FILE: &str = "RAPIDCLAW_CA_FILE";
/// The base image of builds, behind the flag and before the manifest.
pub const BASE_IMAGE: &str = "RAPIDCLAW_BASE_IMAGE";
/// The server's data folder.
pub const DATA_DIR: &str = "RAPIDCLAW_DATA_DIR";
/// Where the CLI keeps its logins.
pub const CONFIG_DIR: &str = "RAPIDCLAW_CONFIG_DIR";
/// The folder of replicas' sockets and secrets; best on a tmpfs.
pub const RUN_DIR: &str = "RAPIDCLAW_RUN_DIR";
/// Postgres, when the server shall not manage its own.
pub const DATABASE_URL: &str = "DATABASE_URL";
/// Where Docker Engine listens.
pub const DOCKER_HOST: &str = "DOCKER_HOST";
/// The folder of Docker's own configuration, in which its logins are.
pub const DOCKER_CONFIG: &str = "DOCKER_CONFIG";
/// Filter of the server's log (`info`, `rapidclaw=debug`).
pub const LOG: &str = "RAPIDCLAW_LOG";
/// Set by CI systems: no colour, no progress bars.
pub const CI: &str = "CI";
/// A file that gets events and results as JSON, a line each, whatever stdout gets.
pub const OUTPUT_FILE: &str = "RAPIDCLAW_OUTPUT_FILE";
/// `true` in a step of GitHub Actions.
pub const GITHUB_ACTIONS: &str = "GITHUB_ACTIONS";
/// Set by others that run its workflows.
pub const OTHER_RUNNERS: [&str; 3] = ["ACT", "GITEA_ACTIONS", "FORGEJO_ACTIONS"];
/// The checked-out repository there.
pub const GITHUB_WORKSPACE: &str = "GITHUB_WORKSPACE";
/// The file of a step's outputs there.
pub const GITHUB_OUTPUT: &str = "GITHUB_OUTPUT";
/// The file of a step's summary there.
pub const GITHUB_STEP_SUMMARY: &str = "GITHUB_STEP_SUMMARY";
/// <https://no-color.org>
pub const NO_COLOR: &str = "NO_COLOR";
/// What the terminal can do: `dumb` is one on which nothing moves.
pub const TERM: &str = "TERM";

/// The proxies of this machine, as curl and Docker know them.
pub const PROXIES: [&str; 6] = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"];

/// The variable's value, where it is set, not empty and UTF-8.
pub fn var(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
