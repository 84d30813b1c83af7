//! A runner process without Docker, as `PROTOCOL.md` says how one is started.

use super::{PATIENCE, python};
use rapidclaw::runner::connection::{Connection, Endpoint};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const SECRET: &str = "the-secret-of-this-replica";

/// A Python process that serves a replica's socket; killed when dropped.
pub struct Process {
    child: Child,
    folder: TempDir,
    /// Cancelled when it is known to have ended.
    pub dead: CancellationToken,
}

impl Process {
    /// The runner with these graphs (name and `FILE:ATTRIBUTE` below `tests/python/projects`).
    pub fn runner(graphs: &[(&str, &str)], env: &[(&str, &str)]) -> Self {
        let folder = folder();
        let projects = repository().join("tests/python/projects");
        let graphs: serde_json::Map<_, _> = graphs
            .iter()
            .map(|(name, spec)| ((*name).to_owned(), json!(format!("{}/{spec}", projects.display()))))
            .collect();
        let project = folder.path().join("project.json");
        let text = json!({ "graphs": graphs, "paths": [projects], "workdir": projects }).to_string();
        std::fs::write(&project, text).unwrap();
        let script = repository().join("src/runner/python/rapidclaw_runner/__main__.py");
        let mut command = Command::new(python());
        command.args(["-P", "-s"]).arg(script).env("RAPIDCLAW_PROJECT", project).envs(env.iter().copied());
        Self::start(command, folder)
    }

    /// A script of `tests/python` that serves a replica's socket itself.
    pub fn script(name: &str, env: &[(&str, &str)]) -> Self {
        let mut command = Command::new(python());
        command.arg(repository().join("tests/python").join(name)).envs(env.iter().copied()).stdout(Stdio::piped());
        Self::start(command, folder())
    }

    fn start(mut command: Command, folder: TempDir) -> Self {
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        command
            .env("RAPIDCLAW_RUN", folder.path())
            .env("PYTHONPYCACHEPREFIX", "/tmp/rapidclaw-test-pycache")
            .stderr(log)
            .kill_on_drop(true);
        Self { child: command.spawn().unwrap(), folder, dead: CancellationToken::new() }
    }

    /// Where it answers.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint {
            folder: self.folder.path().join("r"),
            uid: rustix::process::geteuid().as_raw(),
            secret: SECRET.into(),
        }
    }

    /// Connects as a gateway does, once the process listens.
    pub async fn connect(&mut self) -> Connection {
        let endpoint = self.endpoint();
        let deadline = Instant::now() + PATIENCE;
        loop {
            match endpoint.connect().await {
                Ok(connection) => return connection,
                Err(error) => {
                    let exit = self.child.try_wait().unwrap();
                    let late = Instant::now() > deadline;
                    assert!(exit.is_none() && !late, "no connection: {error}; exit {exit:?}; log:\n{}", self.log());
                }
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// What it wrote on stderr.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Ends it at once, as a crash does.
    pub async fn kill(&mut self) {
        self.child.kill().await.unwrap();
        self.dead.cancel();
    }

    /// Tells it from outside to end, as an eviction does.
    pub fn terminate(&self) {
        let id = i32::try_from(self.child.id().unwrap()).unwrap();
        let id = rustix::process::Pid::from_raw(id).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    }

    /// Stops it without ending it: it is silent from now on.
    pub fn freeze(&self) {
        let id = i32::try_from(self.child.id().unwrap()).unwrap();
        let id = rustix::process::Pid::from_raw(id).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::STOP).unwrap();
    }

    /// Waits for its end: whether it exited with 0, what it wrote on stdout and stderr.
    pub async fn output(mut self) -> (bool, String, String) {
        let stdout = self.child.stdout.take().unwrap();
        let text = async {
            let mut text = String::new();
            let mut stdout = stdout;
            tokio::io::AsyncReadExt::read_to_string(&mut stdout, &mut text).await.unwrap();
            text
        };
        let ended = tokio::time::timeout(PATIENCE * 4, async { tokio::join!(text, self.child.wait()) }).await;
        let Ok((text, status)) = ended else { panic!("the script does not end; log:\n{}", self.log()) };
        (status.unwrap().success(), text, self.log())
    }
}

/// The folders of a replica. A socket's path has at most 108 bytes: it lies in /tmp.
fn folder() -> TempDir {
    let folder = tempfile::Builder::new().prefix("rc").tempdir_in("/tmp").unwrap();
    for name in ["s", "r"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    let replica = json!({ "replica": "r1", "agent": "agent", "version": 1, "secret": SECRET, "env": {},
        "checkpointer": "postgres", "concurrency": 8, "log_level": "info", "relay": [] });
    std::fs::write(folder.path().join("s/replica.json"), replica.to_string()).unwrap();
    folder
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}
