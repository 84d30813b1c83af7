//! What the steps of a build may reach: what their agent may, and package indexes.

use super::Control;
use crate::api::builds::{BuildRequest, Recipe, RecipeKind};
use crate::base::secret::ExposeSecret as _;
use crate::egress::{self, Mode, Policy, Replica, Rule};
use crate::image::WAY_SOCKET;
use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::UnixListener;
use tokio_util::sync::DropGuard;

/// Where packages come from when nobody says: Python's index, and those of the distributions of base images, which
/// sign what they serve in clear.
const INDEXES: [&str; 13] = [
    "pypi.org",
    "files.pythonhosted.org",
    "deb.debian.org",
    "deb.debian.org:80",
    "security.debian.org",
    "security.debian.org:80",
    "archive.ubuntu.com:80",
    "security.ubuntu.com:80",
    "ports.ubuntu.com:80",
    "dl-cdn.alpinelinux.org",
    "dl-cdn.alpinelinux.org:80",
    "packages.wolfi.dev",
    "apk.cgr.dev",
];
/// The longest file that is looked through for addresses of indexes: locks are some megabytes.
const FILE_BYTES: u64 = 16 << 20;
/// The most hosts that a project's own files add.
const HOSTS: usize = 200;

/// The way out of one build, until it is dropped.
pub struct OpenWay {
    /// Where the proxy's socket lies.
    pub folder: PathBuf,
    _ends: DropGuard,
}

impl Control {
    /// Opens a way to these hosts, in the folder of a build.
    pub(super) fn open_way(&self, agent: &str, policy: Policy, scratch: &Path) -> io::Result<OpenWay> {
        let folder = scratch.join("way");
        // The relay's user passes through, to nothing but the socket.
        DirBuilder::new().mode(0o711).create(&folder)?;
        let held = File::open(&folder)?;
        held.set_permissions(Permissions::from_mode(0o711))?;
        // A socket's path is short, and the data folder's need not be.
        let short = PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd())).join(WAY_SOCKET);
        let listener = UnixListener::bind(&short)?;
        std::fs::set_permissions(&short, Permissions::from_mode(0o666))?;
        let parts = &self.0.parts;
        let shutdown = parts.shutdown.child();
        let whose = Replica { agent: agent.to_owned(), replica: "build".to_owned() };
        egress::serve(listener, whose, Arc::new(policy), Arc::clone(&parts.resolver), self.connections(), &shutdown);
        Ok(OpenWay { folder, _ends: shutdown.token().clone().drop_guard() })
    }
}

/// What the steps of a build may reach. Blocks: it looks through the files that say where packages come from.
pub fn policy(agents: &Policy, request: &BuildRequest, folder: &Path) -> Policy {
    if agents.mode == Mode::Open {
        return agents.clone();
    }
    let mut hosts: BTreeSet<String> = INDEXES.iter().map(|host| (*host).to_owned()).collect();
    let mut named = BTreeSet::new();
    if let Some(config) = &request.pip_config {
        find_hosts(config.0.expose_secret(), &mut named);
    }
    for recipe in [Some(&request.recipe), request.with_code.as_ref()].into_iter().flatten() {
        installed_from(recipe, folder, &mut named);
    }
    hosts.extend(named.into_iter().take(HOSTS));
    let rules = hosts.iter().filter_map(|host| host.parse::<Rule>().ok());
    let own = if agents.mode == Mode::Allowlist { agents.rules.clone() } else { Vec::new() };
    Policy { mode: Mode::Allowlist, rules: own.into_iter().chain(rules).collect() }
}

/// The hosts that requirements, locks and their settings name.
fn installed_from(recipe: &Recipe, folder: &Path, found: &mut BTreeSet<String>) {
    let names = [".txt", ".in", ".toml", ".lock", ".cfg", ".py"];
    for file in recipe.files.iter().filter(|file| file.path.starts_with(".rapidclaw/deps/")) {
        let RecipeKind::File { sha256, size } = &file.kind else { continue };
        if *size > FILE_BYTES || !names.iter().any(|name| file.path.ends_with(name)) {
            continue;
        }
        let mut text = String::new();
        let read = File::open(folder.join(sha256)).and_then(|mut file| file.read_to_string(&mut text));
        if read.is_ok() {
            find_hosts(&text, found);
        }
    }
}

/// The hosts of all addresses in a text, as rules of a policy.
fn find_hosts(text: &str, found: &mut BTreeSet<String>) {
    for (scheme, port) in [("https://", 443), ("http://", 80)] {
        for (at, _) in text.match_indices(scheme) {
            let rest = &text[at..];
            let is_end = |one: char| one.is_whitespace() || "\"'<>,;)}`\\".contains(one);
            let address = &rest[..rest.find(is_end).unwrap_or(rest.len()).min(rest.len())];
            let Ok(url) = reqwest::Url::parse(address) else { continue };
            if let Some(host) = url.host_str() {
                found.insert(format!("{host}:{}", url.port().unwrap_or(port)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_those_of_the_addresses_that_files_name() {
        let mut found = BTreeSet::new();
        find_hosts(
            "--index-url https://u:p@index.example.com/simple\nx @ git+https://github.com/a/b@main\n\
             url = \"http://10.0.0.5:8080/x.whl\", y='https://[fd12::7]/z' https:// and http://%zz/",
            &mut found,
        );
        let found: Vec<&str> = found.iter().map(String::as_str).collect();
        assert_eq!(found, ["10.0.0.5:8080", "[fd12::7]:443", "github.com:443", "index.example.com:443"]);
    }

    #[test]
    fn all_names_of_indexes_are_rules() {
        for index in INDEXES {
            index.parse::<Rule>().unwrap();
        }
    }
}
