//! `server run`, with its streams in the test's hands.

use crate::machine::{Machine, Said, need_docker, until};
use serde_json::Value;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command};

/// A server in the foreground, logged in to. Killed when dropped.
pub struct Foreground {
    pub machine: Machine,
    pub child: Child,
    pub url: String,
    pub agents_url: String,
}

impl Foreground {
    /// Starts `command`, which becomes a server of this machine.
    pub fn start(machine: Machine, command: &mut Command) -> Self {
        need_docker();
        let mut child = command.spawn().unwrap();
        let file = until("the server", || {
            assert!(child.try_wait().unwrap().is_none(), "the server has ended");
            let text = std::fs::read(machine.data_dir().join("server.json")).map_err(|error| error.to_string())?;
            serde_json::from_slice::<Value>(&text).map_err(|error| error.to_string())
        });
        let text = |name: &str| file[name].as_str().unwrap().to_owned();
        let server = Self { url: text("url"), agents_url: text("agents_url"), machine, child };
        server.rapidclaw(&["login", "--local"]).ok();
        server
    }

    pub fn rapidclaw(&self, arguments: &[&str]) -> Said {
        self.machine.rapidclaw(arguments)
    }

    /// Gives it something to log: a restart that ends before it has begun.
    pub fn has_to_log(&self) {
        let mut talk = UnixStream::connect(self.machine.data_dir().join("handover.sock")).unwrap();
        talk.write_all(b"begin\n").unwrap();
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap().success());
    }

    /// Waits for its end: its exit code.
    pub fn ended(&mut self) -> Option<i32> {
        until("the server's end", || self.child.try_wait().unwrap().ok_or_else(|| "it runs".to_owned())).code()
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = self.machine.command().args(["server", "stop"]).output();
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        let postgres = self.machine.data_dir().join("postgres/data/postmaster.pid");
        if let Some(pid) = std::fs::read_to_string(postgres).ok().as_deref().and_then(|text| text.lines().next()) {
            let _ = Command::new("kill").args(["-INT", pid]).status();
        }
    }
}

/// The arguments of a server on ports of its own.
pub const RUN: [&str; 6] = ["server", "run", "--listen", "127.0.0.1:0", "--agents-listen", "127.0.0.1:0"];
