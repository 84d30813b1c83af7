//! The commands of the build's steps. For every shell and every builder: no heredocs, no mounts.

use crate::base::text::percent_decoded;
use crate::image::context::DEPS;
use crate::image::layout::UID;
use crate::image::requirement_set::{BUILD_DIR, Lock};
use crate::runner::embed;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::HashMap;

/// The environment of the steps that install. As many tries as pip makes: an index that is away for a minute
/// fails no build.
pub const QUIET: &str = "UV_NO_CACHE=1 UV_NO_PROGRESS=1 UV_PYTHON_DOWNLOADS=never UV_HTTP_RETRIES=5 NO_COLOR=1 \
     PYC_INVALIDATION_MODE=UNCHECKED_HASH";

/// Before uv: where the image has a CA bundle, that is what uv trusts, as pip does.
const TRUST: &str = "set -eu; [ ! -s /etc/ssl/certs/ca-certificates.crt ] || export UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1;";

/// Bytecode that is never checked against its source: it holds whatever happens to times on the way.
const UNCHECKED: &str = "--invalidation-mode unchecked-hash";

/// Where a step's secrets lie while it runs: in memory, and in no layer.
const SECRETS: &str = "/dev/shm/rapidclaw";

/// The arguments that bring a pip.conf to the steps. Without BuildKit no builder mounts secrets; what every
/// builder has are the predefined arguments for proxies, which are kept out of an image's history, its
/// environment and the cache (Dockerfile reference, "Predefined ARGs"). No step needs a proxy for FTP.
const ARGUMENTS: [&str; 2] = ["FTP_PROXY", "ftp_proxy"];

/// What [`unpack`] finds: the pip.conf, and what of it uv reads elsewhere: indexes in a requirements file, and
/// their logins, which a lock never holds, in a netrc.
pub fn secret_arguments(pip_config: &str) -> HashMap<String, String> {
    let options = index_options(pip_config);
    let logins: Vec<String> = options.iter().filter_map(|option| login(option.split_once(' ')?.1)).collect();
    let lines = format!("{}\n{APART}\n{}\n", options.join("\n"), logins.join("\n"));
    let values = [pip_config, &lines].map(|text| STANDARD.encode(text));
    ARGUMENTS.into_iter().map(ToOwned::to_owned).zip(values).collect()
}

/// What stands between the two parts of the second argument.
const APART: &str = "---";

/// The line of a netrc for an address that holds a login.
fn login(address: &str) -> Option<String> {
    let url = reqwest::Url::parse(address).ok()?;
    let plain =
        |text: &str| percent_decoded(text).filter(|text| !text.is_empty() && !text.contains(char::is_whitespace));
    let (user, password) = (plain(url.username())?, plain(url.password()?)?);
    Some(format!("machine {} login {user} password {password}", url.host_str()?))
}

/// Lays the secrets in; `$index` names them for uv. They go with the shell.
fn unpack() -> String {
    let [config, index] = ARGUMENTS;
    format!(
        "index=; mkdir -m 700 -p {SECRETS}; trap 'rm -rf {SECRETS}' EXIT; if [ -n \"${{{config}:-}}\" ]; then \
         printf %s \"${config}\" | base64 -d >{SECRETS}/pip.conf; printf %s \"${index}\" | base64 -d >{SECRETS}/lines; \
         sed '/^{APART}$/,$d' {SECRETS}/lines >{SECRETS}/index.txt; sed '1,/^{APART}$/d' {SECRETS}/lines >{SECRETS}/netrc; \
         export PIP_CONFIG_FILE={SECRETS}/pip.conf NETRC={SECRETS}/netrc; index='-r {SECRETS}/index.txt'; fi; unset {config} {index};"
    )
}

/// Where an environment's packages are.
const PACKAGES: &str = "'import sysconfig; print(sysconfig.get_path(\"purelib\"))'";

/// `installed.py`, where the installation finds it.
pub const INSTALLED: &str = "installed.py";
/// What locks override, where the installation finds it.
pub const OVERRIDES: &str = "overrides.txt";
/// What `installed.py` holds.
pub const INSTALLED_TEXT: &str = include_str!("installed.py");

/// A line of a `.pth` file (site, "site-specific hooks"): where `python3` is one of an environment, its packages are
/// found, too, as the system's are.
const ENVIRONMENT_BELOW: &str = "'import sys, sysconfig; \
     print(\"import site; site.addsitedir(%r)\" % sysconfig.get_path(\"purelib\") if sys.prefix != sys.base_prefix else \"\")'";

/// uv, the environment (whose programs find the project's packages, too), and the runner's own packages.
pub fn install_tools() -> String {
    let own = embed::REQUIREMENTS.map(|name| format!("'{name}'")).join(" ");
    let unpack = unpack();
    format!(
        "RUN {TRUST} {unpack} if python3 -m pip --version >/dev/null 2>&1; then python3 -m pip install --quiet --no-cache-dir \
         --disable-pip-version-check --root-user-action=ignore --no-compile --target /opt/uv 'uv>=0.9,<1' 2>&1; \
         elif command -v uv >/dev/null; then mkdir -p /opt/uv/bin && ln -s \"$(command -v uv)\" /opt/uv/bin/uv; \
         else echo 'rapidclaw: the base image has neither pip nor uv'; exit 9; fi; \
         /opt/uv/bin/uv venv --quiet --system-site-packages --python \"$(command -v python3)\" /opt/venv 2>&1; \
         echo \"import site; site.addsitedir('/opt/rapidclaw/meta')\" >\"$(/opt/venv/bin/python -c {PACKAGES})/rapidclaw-project.pth\"; \
         python3 -c {ENVIRONMENT_BELOW} >\"$(/opt/venv/bin/python -c {PACKAGES})/rapidclaw-below.pth\"; \
         /opt/uv/bin/uv pip install --quiet --python /opt/venv/bin/python --target /opt/rapidclaw/site \
         --compile-bytecode $index {own} 2>&1"
    )
}

/// Git, in this stage only.
pub fn install_git() -> String {
    "RUN set -eu; command -v git >/dev/null || { if command -v apt-get >/dev/null; then apt-get update -qq; \
     DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends git ca-certificates >/dev/null; \
     elif command -v apk >/dev/null; then apk add -q git; \
     else echo 'rapidclaw: the base image has no git, which the dependencies need'; exit 9; fi; } 2>&1"
        .to_owned()
}

/// What is installed, and from what.
#[derive(Debug, Default)]
pub struct Installation<'a> {
    /// Locks, which are installed as they stand.
    pub locks: Vec<&'a Lock>,
    /// Files that uv asks for dependencies itself, beside `requirements.in`.
    pub projects: Vec<&'a str>,
    /// Files of versions that hold.
    pub constraints: Vec<&'a str>,
    /// Whether the locks override something ([`OVERRIDES`]).
    pub has_overrides: bool,
    /// Whether nothing is asked for beside what is locked.
    pub asks_nothing: bool,
    /// Whether pip installs what no lock and no settings of uv decide (`pip_installer`).
    pub pip: bool,
}

impl Installation<'_> {
    /// The commands of a shell: first what is locked, then all else, which changes nothing of it.
    fn commands(&self) -> String {
        let installed = format!("python3 -s {BUILD_DIR}/{INSTALLED}");
        let packages = format!("\"$(/opt/venv/bin/python -c {PACKAGES})\"");
        let each = |option: &str, files: &[&str]| {
            files.iter().map(|file| format!(" {option} {file}")).collect::<Vec<_>>().concat()
        };
        if self.pip && !self.is_uvs() {
            // pip sees the packages below by itself.
            let constraints = each("--constraint", &self.constraints);
            return format!(
                "python3 -m pip --python /opt/venv/bin/python install --no-cache-dir --disable-pip-version-check \
                 --progress-bar off --root-user-action=ignore{constraints} -r {BUILD_DIR}/requirements.in"
            );
        }
        let locks: Vec<String> = self.locks.iter().map(|lock| lock.install() + " && ").collect();
        // A lock that brings LangGraph is all there is: what it holds together need not hold together by itself.
        let [freeze, locked, unless, end] = if self.locks.is_empty() {
            [const { String::new() }; 4]
        } else {
            let file = format!("{BUILD_DIR}/locked.txt");
            let freeze = format!("/opt/uv/bin/uv pip freeze --quiet --python /opt/venv/bin/python >{file} && ");
            let overrides = format!(" --overrides {BUILD_DIR}/{OVERRIDES}");
            let locked = format!(" --constraints {file}{}", if self.has_overrides { &overrides } else { "" });
            let has = "/opt/venv/bin/python -c 'import importlib.metadata as m; m.version(\"langgraph\")' 2>/dev/null";
            let is_all = self.asks_nothing && self.projects.is_empty();
            let [unless, end] = if is_all { [format!("{{ {has} || "), "; }".to_owned()] } else { Default::default() };
            [freeze, locked, unless, end]
        };
        // uv takes the settings of one project: where several have some, those of the first.
        let first = self.projects.first().and_then(|first| first.rsplit_once('/'));
        let settings = first.map(|(folder, _)| format!(" --project {folder}")).unwrap_or_default();
        format!(
            "{installed} note {packages} && {}{freeze}{unless}/opt/uv/bin/uv pip install --python /opt/venv/bin/python \
             --compile-bytecode{locked}{}{settings} -r {BUILD_DIR}/requirements.in{} $index{end} && {installed} forget {packages}",
            locks.concat(),
            each("--constraints", &self.constraints),
            each("-r", &self.projects),
        )
    }

    /// Whether a lock or settings say what only uv understands.
    pub fn is_uvs(&self) -> bool {
        !self.locks.is_empty() || !self.projects.is_empty()
    }
}

/// The project's dependencies. Where one has to be compiled and there is no compiler, it is installed, in this
/// stage only, and the installation tried again.
pub fn install_dependencies(installation: &Installation<'_>) -> String {
    let commands = installation.commands();
    let unpack = unpack();
    let compiler = "gcc|g\\+\\+|clang|[Cc]ompiler|[Cc]make|Python\\.h|linker .?cc";
    let has_headers = "import os, sysconfig; raise SystemExit(not os.path.exists(os.path.join(sysconfig.get_path(\"include\"), \"Python.h\")))";
    format!(
        "RUN {TRUST} {unpack} export SETUPTOOLS_SCM_PRETEND_VERSION=0 PDM_BUILD_SCM_VERSION=0 POETRY_DYNAMIC_VERSIONING_BYPASS=0; install() {{ {{ {{ {commands}; }} 2>&1 && echo 0 >{SECRETS}/code || echo 1 >{SECRETS}/code; }} | tee {SECRETS}/said; \
         [ \"$(cat {SECRETS}/code)\" = 0 ]; }}; \
         install || {{ grep -qE '{compiler}' {SECRETS}/said && command -v apt-get >/dev/null || exit 1; \
         echo 'rapidclaw: a dependency is compiled; this stage gets a compiler for it'; \
         headers=; python3 -c '{has_headers}' || headers=python3-dev; \
         {{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
         build-essential pkg-config $headers; }} >/dev/null 2>&1 || {{ echo 'rapidclaw: the compiler could not be installed'; exit 1; }}; \
         install || exit 1; }}"
    )
}

/// Packages that point to where their code will be. A version that comes from Git, which no image has, is 0.
pub fn install_described(targets: &[&str]) -> String {
    let unpack = unpack();
    let editable: Vec<String> =
        targets.iter().map(|target| format!(" -e '{}'", target.replace('\'', "'\\''"))).collect();
    let editable = editable.concat();
    format!(
        "RUN {TRUST} {unpack} export SETUPTOOLS_SCM_PRETEND_VERSION=0 PDM_BUILD_SCM_VERSION=0 POETRY_DYNAMIC_VERSIONING_BYPASS=0; \
         /opt/uv/bin/uv pip install --python /opt/venv/bin/python --no-deps{editable} $index 2>&1"
    )
}

/// The list of homes that `dockerfile_lines` and the base image may have put something into.
const HOMES: &str = "/opt/rapidclaw/homes";

/// The user, the folders that the code goes to (as plain as a layer's folders are), and bytecode of the
/// runner and (official Python images come without) of Python itself.
pub fn prepare() -> String {
    let stdlib = "\"$(python3 -c 'import sysconfig; print(sysconfig.get_path(\"stdlib\"))')\"";
    let cached = "\"$(python3 -c 'import os, importlib.util as u; print(u.cache_from_source(os.__file__))')\"";
    let skipped = "'/(test|tests|idlelib|ensurepip|turtledemo|site-packages|dist-packages)/'";
    // What was put below a home until now is found below the replica's (supervisor.py): only folders are opened, and
    // of the files in them those stay closed that were.
    let homes = format!(
        "for home in \"${{HOME:-/root}}\" $(cut -d: -f6 /etc/passwd | grep -E '^/(root|home/.+)$' | sort -u); do \
         case $home in /|/tmp) continue;; esac; [ -d \"$home\" ] && [ ! -L \"$home\" ] || continue; \
         grep -qxF \"$home\" {HOMES} 2>/dev/null && continue; echo \"$home\" >>{HOMES}; \
         for folder in \"$home\" \"$home/.cache\" \"$home/.config\" \"$home/.local\" \"$home/.local/share\" \"$home/.local/bin\"; do \
         [ ! -d \"$folder\" ] || chmod a+rx \"$folder\"; done; done;"
    );
    format!(
        "RUN set -eu; grep -q '^[^:]*:[^:]*:{UID}:' /etc/group || echo 'agent:x:{UID}:' >>/etc/group; \
         grep -q '^[^:]*:[^:]*:{UID}:' /etc/passwd || echo 'agent:x:{UID}:{UID}::/tmp:/usr/sbin/nologin' >>/etc/passwd; \
         for folder in /opt /opt/rapidclaw {DEPS}; do \
         if [ -L $folder ]; then echo \"rapidclaw: $folder is a symbolic link in the base image; a folder is needed\"; exit 9; fi; \
         mkdir -p $folder; chown 0:0 $folder; chmod 755 $folder; done; {homes} \
         [ -e {cached} ] || python3 -m compileall -q -j 0 {UNCHECKED} -x {skipped} {stdlib} || true; \
         python3 -m compileall -q {UNCHECKED} /opt/rapidclaw/runner"
    )
}

/// The index options of a pip.conf, which uv does not read, as lines of a requirements file.
fn index_options(text: &str) -> Vec<String> {
    let mut section = String::new();
    let mut key = String::new();
    let mut lines = Vec::new();
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = trimmed.strip_prefix('[') {
            name.trim_end_matches(']').clone_into(&mut section);
            key.clear();
            continue;
        }
        // A line that is set in goes on with the value above.
        let value = match trimmed.split_once(['=', ':']) {
            Some((name, value)) if !line.starts_with([' ', '\t']) => {
                key = name.trim().replace('_', "-");
                value.trim()
            }
            _ => trimmed,
        };
        let known = ["index-url", "extra-index-url", "find-links"].contains(&key.as_str());
        if known && ["global", "install"].contains(&section.as_str()) {
            lines.extend(value.split_whitespace().map(|value| format!("--{key} {value}")));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uv_gets_the_indexes_of_a_pip_conf() {
        let text = "[global]\nindex-url = https://u:p@h/simple\nextra_index_url =\n  https://a/s\n  https://b/s\n[freeze]\nfind-links = x\n";
        assert_eq!(
            index_options(text),
            ["--index-url https://u:p@h/simple", "--extra-index-url https://a/s", "--extra-index-url https://b/s"]
        );
    }

    #[test]
    fn logins_of_indexes_are_lines_of_a_netrc() {
        assert_eq!(login("https://ann:p%40%25ss@h:8080/simple").unwrap(), "machine h login ann password p@%ss");
        for none in
            ["https://h/simple", "https://ann@h/simple", "https://ann:a%20b@h/simple", "./wheels", "https://a:%ff@h/"]
        {
            assert_eq!(login(none), None, "{none}");
        }
    }
}
