//! What the end-to-end tests stand on: a machine of their own, a server on it, projects, HTTP, Docker.
//!
//! Nothing is shared with the user's rapidclaw: each [`Machine`] has a home, a data folder and a run
//! folder of its own, and a [`Server`] takes its containers, networks and Postgres away when it is
//! dropped, also after a panic. Images stay: the same project makes the same image, so the next test
//! (or the next run) builds nothing. They bear the label `rapidclaw.agent=e2e-…`.

mod apart;
mod authority;
mod effects;
mod engine;
mod outside;
mod project;
mod terminal;

pub use apart::Apart;
pub use authority::Authority;
pub use effects::{EFFECT, Effects, bridge};
pub use engine::{Engine, dependencies_of};
pub use outside::*;
pub use project::{ECHO, Project};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
pub use terminal::Terminal;

/// What scripts/base-image.sh makes.
pub const BASE: &str = "rapidclaw-base:3.13";
/// The key that the model stub wants; no replica may ever see it.
pub const STUB_KEY: &str = "sk-e2e-0123456789abcdef-the-real-key";
/// How long something may take to come about.
pub const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The checked-out repository.
pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Looks until there is an answer; else fails with the last state seen.
#[track_caller]
pub fn until<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look() {
            Ok(found) => return found,
            Err(last) => assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}; last seen: {last}"),
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// What a command said.
#[derive(Debug, Clone)]
pub struct Said {
    command: String,
    code: Option<i32>,
    /// stdout
    pub out: String,
    /// stderr
    pub err: String,
}

impl Said {
    fn of(command: &Command, output: &Output) -> Self {
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self::new(&words.join(" "), output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    /// What a command said that the test has run in its own way.
    pub fn new(command: &str, code: Option<i32>, out: String, err: String) -> Self {
        let said = Self { command: command.to_owned(), code, out, err };
        for word in ["panicked", "RUST_BACKTRACE", STUB_KEY] {
            assert!(!said.out.contains(word) && !said.err.contains(word), "{word:?} in what was said: {said}");
        }
        said
    }

    /// Sees that it ended with this code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// The code it ended with; none when a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.code
    }

    /// Sees that it ended well.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.exits(0)
    }

    /// Sees that it failed as it should: with this code, nothing on stdout, exactly one error, and a hint.
    #[track_caller]
    pub fn fails(self, code: i32) -> Self {
        let said = self.exits(code);
        assert_eq!(said.out, "", "{said}");
        let count = |what: &str| said.err.lines().filter(|line| line.starts_with(what)).count();
        assert_eq!(count("error: "), 1, "one error is wanted: {said}");
        assert!(count("hint: ") >= 1, "a hint is wanted: {said}");
        said
    }

    /// Sees that stderr has this text.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.err.contains(text), "{text:?} is not in stderr: {self}");
        self
    }

    /// Sees that stdout has this text.
    #[track_caller]
    pub fn prints(self, text: &str) -> Self {
        assert!(self.out.contains(text), "{text:?} is not in stdout: {self}");
        self
    }

    /// Sees that this text is nowhere.
    #[track_caller]
    pub fn hides(self, text: &str) -> Self {
        assert!(!self.out.contains(text) && !self.err.contains(text), "{text:?} is in what was said: {self}");
        self
    }

    /// stdout as JSON: the document, or the last line of a stream.
    #[track_caller]
    pub fn json(&self) -> Value {
        let last = || self.out.lines().last().unwrap_or_default();
        serde_json::from_str(&self.out)
            .or_else(|_| serde_json::from_str(last()))
            .unwrap_or_else(|error| panic!("{error}: {self}"))
    }

    /// The agent's key in what `deploy` printed.
    #[track_caller]
    pub fn key(&self) -> String {
        let keys: Vec<&str> = self.out.lines().filter_map(|line| line.strip_prefix("key: ")).collect();
        assert_eq!(keys.len(), 1, "one key is wanted: {self}");
        keys[0].to_owned()
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { command, code, out, err } = self;
        write!(f, "\n$ rapidclaw {command}\nexit: {code:?}\n--- stdout\n{out}--- stderr\n{err}---")
    }
}

/// A machine of the test's own: home, data folder, run folder, a clean environment.
pub struct Machine {
    root: TempDir,
    run: TempDir,
    /// The engine it works with, as `DOCKER_HOST` says it; else that of the test.
    engine: Option<String>,
    /// Another one, for its server alone.
    server_engine: Option<String>,
    /// What its commands run within, where it is not the test's own surroundings: programs and their arguments.
    within: Vec<String>,
    /// What is in its environment beside the usual.
    environment: Vec<(String, String)>,
}

impl Machine {
    pub fn new() -> Self {
        Self::on(None)
    }

    /// With an engine of the test's own.
    pub fn on(engine: Option<String>) -> Self {
        let root = tempfile::Builder::new().prefix("rc-e2e-").tempdir().unwrap();
        // Postgres' user has to pass through.
        std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let run = tempfile::Builder::new().prefix("rc-e2e-").tempdir_in("/dev/shm").unwrap();
        std::fs::create_dir(root.path().join("home")).unwrap();
        Self { root, run, engine, server_engine: None, within: Vec::new(), environment: Vec::new() }
    }

    /// With an engine of its own, in that engine's network.
    pub fn beside(engine: &Engine) -> Self {
        let within = vec!["nsenter".to_owned(), format!("--net={}", engine.network().display())];
        Self { within, ..Self::on(Some(engine.host())) }
    }

    /// In a network of its own, with an engine or without.
    pub fn in_network(network: &Path, engine: Option<String>) -> Self {
        let within = vec!["nsenter".to_owned(), format!("--net={}", network.display())];
        Self { within, ..Self::on(engine) }
    }

    /// As if it had neither Postgres' programs nor its user.
    pub fn without_postgres(mut self) -> Self {
        let script = "for one in /usr/lib/postgresql /usr/libexec/postgresql; do \
             [ ! -d $one ] || mount -t tmpfs tmpfs $one || exit; done; \
             grep -v ^postgres: /etc/passwd >$HOME/passwd && mount --bind $HOME/passwd /etc/passwd && exec \"$0\" \"$@\"";
        self.within.extend(["unshare", "-m", "sh", "-c", script].map(str::to_owned));
        self
    }

    /// With more in its environment.
    pub fn with_environment(self, environment: Vec<(String, String)>) -> Self {
        Self { environment, ..self }
    }

    pub fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    pub fn data_dir(&self) -> PathBuf {
        self.root.path().join("data")
    }

    /// The folder of replicas' sockets and secrets.
    pub fn run_dir(&self) -> &Path {
        self.run.path()
    }

    /// The file of logins.
    pub fn credentials(&self) -> PathBuf {
        self.home().join(".config/rapidclaw/credentials.json")
    }

    /// The binary, with nothing of the test's environment but where Docker is.
    pub fn command(&self) -> Command {
        self.program(env!("CARGO_BIN_EXE_rapidclaw"))
    }

    /// Another program on this machine, in its environment and its network.
    pub fn program(&self, program: &str) -> Command {
        let mut words = self.within.iter().map(String::as_str).chain([program]);
        let mut command = Command::new(words.next().unwrap_or(program));
        command.args(words);
        self.clean(&mut command);
        command
    }

    /// Gives a command this machine's environment.
    pub fn clean(&self, command: &mut Command) {
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home())
            .env("LANG", "C.UTF-8")
            .env("RAPIDCLAW_DATA_DIR", self.data_dir())
            .env("RAPIDCLAW_RUN_DIR", self.run_dir())
            .env("RAPIDCLAW_BASE_IMAGE", BASE)
            // No keyring of the user's is asked.
            .env("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={}", self.home().join("no-bus").display()))
            .current_dir(self.root.path())
            .stdin(Stdio::null());
        if let Some(docker) = self.engine.as_ref().map(Into::into).or_else(|| std::env::var_os("DOCKER_HOST")) {
            command.env("DOCKER_HOST", docker);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
    }

    /// Runs docker on this machine's engine.
    pub fn docker(&self, arguments: &[&str]) -> Output {
        docker_at(self.engine.as_deref(), arguments)
    }

    /// The lines that docker prints.
    pub fn docker_lines(&self, arguments: &[&str]) -> BTreeSet<String> {
        let output = self.docker(arguments);
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
    }

    pub fn rapidclaw(&self, arguments: &[&str]) -> Said {
        said(self.command().args(arguments))
    }
}

/// Runs a command to its end.
pub fn said(command: &mut Command) -> Said {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    Said::of(command, &output)
}

/// [`said`], with something on stdin.
pub fn said_with_stdin(command: &mut Command, text: &str) -> Said {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // One that fails before it reads closes the pipe.
    let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
    let output = child.wait_with_output().unwrap();
    Said::of(command, &output)
}

/// `scripts/model_stub.py` on a port of its own.
pub struct Stub {
    child: Child,
    folder: TempDir,
    pub url: String,
}

impl Stub {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new("python3")
            .arg(repository().join("scripts/model_stub.py"))
            .args(["--port", "0", "--key-env", "E2E_STUB_KEY", "--log"])
            .arg(folder.path().join("log"))
            .env("E2E_STUB_KEY", STUB_KEY)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("the stub said {line:?}"));
        Self { url: url.to_owned(), child, folder }
    }

    /// What it was asked, in order.
    pub fn requests(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server of the test's own, logged in to, in front of a model stub of its own.
pub struct Server {
    pub machine: Machine,
    pub stub: Stub,
    arguments: Vec<String>,
    pub url: String,
    pub agents_url: String,
    pub id: String,
    pub pid: String,
}

impl Server {
    pub fn start() -> Self {
        Self::with(&[])
    }

    pub fn with(arguments: &[&str]) -> Self {
        need_docker();
        Self::on(Machine::new(), arguments, &[])
    }

    /// One whose replicas run on another Docker Engine than the one that commands see.
    pub fn on_engine(engine: &str) -> Self {
        need_docker();
        Self::on(Machine { server_engine: Some(engine.to_owned()), ..Machine::new() }, &[], &[])
    }

    /// One that speaks TLS for 127.0.0.1; commands trust it by what login remembers.
    pub fn with_tls(authority: &Authority, arguments: &[&str]) -> Self {
        let (cert, key) = authority.issue("server", &["IP:127.0.0.1", "DNS:localhost"]);
        let tls = ["--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
        need_docker();
        Self::on(Machine::new(), &[&tls, arguments].concat(), &["--ca-file", authority.certificate().to_str().unwrap()])
    }

    /// On a machine that is there already; `login` goes to the login's arguments.
    pub fn on(machine: Machine, arguments: &[&str], login: &[&str]) -> Self {
        Self::listening(machine, ["127.0.0.1:0"; 2], arguments, login)
    }

    /// At two addresses: of the control API, and of the agents.
    pub fn listening(machine: Machine, at: [&str; 2], arguments: &[&str], login: &[&str]) -> Self {
        let [url, agents_url] = at.map(|at| format!("http://{at}"));
        let mut server = Self {
            machine,
            stub: Stub::start(),
            arguments: arguments.iter().map(|&one| one.to_owned()).collect(),
            url,
            agents_url,
            id: String::new(),
            pid: String::new(),
        };
        server.start_again();
        server.rapidclaw(&[&["login", "--local"], login].concat()).ok();
        let who = server.rapidclaw(&["whoami", "--json"]).ok().json();
        who["server"]["id"].as_str().unwrap().clone_into(&mut server.id);
        server
    }

    /// Starts it where it was before.
    pub fn start_again(&mut self) {
        let address = |url: &str| url.split_once("://").unwrap().1.to_owned();
        let provider = format!("openai={}/v1", self.stub.url);
        let mut command = self.machine.command();
        command
            .args(["server", "start", "--json", "--listen", &address(&self.url)])
            .args(["--agents-listen", &address(&self.agents_url), "--provider", &provider])
            .args(&self.arguments);
        if let Some(engine) = &self.machine.server_engine {
            command.env("DOCKER_HOST", engine);
        }
        let file = said(&mut command).ok().json();
        file["url"].as_str().unwrap().clone_into(&mut self.url);
        file["agents_url"].as_str().unwrap().clone_into(&mut self.agents_url);
        self.pid = file["pid"].to_string();
    }

    /// SIGKILL, and until it is gone.
    pub fn kill(&self) {
        assert!(Command::new("kill").args(["-KILL", &self.pid]).status().unwrap().success());
        until("the killed server is gone", || match self.machine.rapidclaw(&["server", "status"]) {
            said if said.code == Some(1) => Ok(()),
            said => Err(said.to_string()),
        });
    }

    pub fn rapidclaw(&self, arguments: &[&str]) -> Said {
        self.machine.rapidclaw(arguments)
    }

    pub fn deploy(&self, project: &Project) -> Said {
        self.deploy_with(project, &[])
    }

    pub fn deploy_with(&self, project: &Project, arguments: &[&str]) -> Said {
        said(self.machine.command().arg("deploy").args(arguments).current_dir(project.path()))
    }

    /// The line that `status` prints when piped.
    pub fn status(&self, agent: &str) -> String {
        self.rapidclaw(&["status", agent]).out.trim_end().to_owned()
    }

    /// Waits until `status` begins so.
    #[track_caller]
    pub fn until_status(&self, agent: &str, begin: &str) {
        until("the status", || match self.status(agent) {
            line if line.starts_with(begin) => Ok(()),
            line => Err(line),
        });
    }

    /// Ids of the server's containers, running or not.
    pub fn containers(&self) -> BTreeSet<String> {
        self.machine.docker_lines(&[
            "ps",
            "-aq",
            "--no-trunc",
            "--filter",
            &format!("label=rapidclaw.server={}", self.id),
        ])
    }

    /// Ids of an agent's containers, running or not.
    pub fn containers_of(&self, agent: &str) -> BTreeSet<String> {
        let server = format!("label=rapidclaw.server={}", self.id);
        let agent = format!("label=rapidclaw.agent={agent}");
        self.machine.docker_lines(&["ps", "-aq", "--no-trunc", "--filter", &server, "--filter", &agent])
    }

    /// Names of the server's networks.
    pub fn networks(&self) -> BTreeSet<String> {
        let server = format!("label=rapidclaw.server={}", self.id);
        self.machine.docker_lines(&["network", "ls", "--format", "{{.Name}}", "--filter", &server])
    }

    /// Waits until so many containers of the agent are there, and no more.
    #[track_caller]
    pub fn until_containers(&self, agent: &str, count: usize) -> BTreeSet<String> {
        until("the number of containers", || match self.containers_of(agent) {
            found if found.len() == count => Ok(found),
            found => Err(format!("{found:?}")),
        })
    }

    /// The folders of replicas, each with `s` and `r` in it.
    pub fn replica_folders(&self) -> Vec<PathBuf> {
        let own = std::fs::read_dir(self.machine.run_dir()).unwrap().flatten();
        let folders = own.flat_map(|own| std::fs::read_dir(own.path()).into_iter().flatten().flatten());
        let is_hidden = |folder: &std::fs::DirEntry| folder.file_name().as_encoded_bytes().starts_with(b".");
        folders.filter(|folder| !is_hidden(folder)).map(|folder| folder.path()).collect()
    }

    /// `POST /agents/AGENT/v1/chat` with a key.
    pub fn chat(&self, agent: &str, key: &str, body: &Value) -> Answer {
        post(&format!("{}/agents/{agent}/v1/chat", self.agents_url), &[("x-api-key", key)], body)
    }

    /// A turn that must be answered: the answer's text.
    #[track_caller]
    pub fn turn(&self, agent: &str, key: &str, thread: &str, message: &str) -> String {
        let body = json!({ "thread_id": thread, "user_id": "tester", "message": message });
        let answer = self.chat(agent, key, &body).ok();
        answer.body["result"].as_str().unwrap_or_else(|| panic!("no result: {answer:?}")).to_owned()
    }

    /// One value from the server's Postgres.
    pub fn query(&self, sql: &'static str) -> i64 {
        use rapidclaw::store::postgres::{Managed, Options};
        let data_dir = self.machine.data_dir();
        runtime().block_on(async {
            let managed = Managed::ensure(&Options::new(data_dir)).await.unwrap();
            let pool = sqlx::PgPool::connect_with(managed.connect_options()).await.unwrap();
            let value = sqlx::query_scalar(sql).fetch_one(&pool).await.unwrap();
            pool.close().await;
            value
        })
    }

    /// The server's log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.machine.data_dir().join("server.log")).unwrap_or_default()
    }
}

impl Drop for Server {
    #[expect(clippy::print_stderr, reason = "the one place where a failed test's server is heard")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let last: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("the server's log ends:\n{}", last.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
        let stopped = self.machine.command().args(["server", "stop"]).output();
        if !stopped.is_ok_and(|output| output.status.success()) {
            let _ = Command::new("kill").args(["-KILL", &self.pid]).status();
        }
        // A test that killed the server leaves these.
        let postgres = self.machine.data_dir().join("postgres/data/postmaster.pid");
        if let Some(pid) = std::fs::read_to_string(postgres).ok().as_deref().and_then(|text| text.lines().next()) {
            let _ = Command::new("kill").args(["-INT", pid]).status();
        }
        if !self.id.is_empty() {
            for container in self.containers() {
                self.machine.docker(&["rm", "-f", "-v", &container]);
            }
            for folder in self.replica_folders() {
                // A file system of its own, where the server was root.
                let _ = Command::new("umount").arg("-lq").arg(folder.join("r")).stderr(Stdio::null()).status();
            }
            for network in self.networks() {
                self.machine.docker(&["network", "rm", &network]);
            }
        }
    }
}
