//! The binary on a terminal: what a person sees, and types.

use super::Machine;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A command on a pseudo-terminal of its own (`script` of util-linux).
pub struct Terminal {
    child: Child,
    screen: mpsc::Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    /// Runs the binary with these arguments; none of them may need quoting.
    pub fn run(machine: &Machine, arguments: &[&str]) -> Self {
        Self::start(machine, "exec", &[("TERM", "xterm")], &machine.home(), arguments)
    }

    /// On one of so many columns and rows, in a folder, with more in its environment.
    pub fn sized(
        machine: &Machine,
        columns: u16,
        rows: u16,
        environment: &[(&str, &str)],
        folder: &Path,
        arguments: &[&str],
    ) -> Self {
        Self::start(machine, &format!("stty cols {columns} rows {rows}; exec"), environment, folder, arguments)
    }

    fn start(machine: &Machine, before: &str, environment: &[(&str, &str)], folder: &Path, arguments: &[&str]) -> Self {
        let line = [&[before, env!("CARGO_BIN_EXE_rapidclaw")], arguments].concat().join(" ");
        let mut command = Command::new("script");
        machine.clean(&mut command);
        command.args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"]);
        command.envs(environment.iter().copied()).current_dir(folder);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("this test needs `script` (apt-get install bsdutils): {error}"));
        let mut out = child.stdout.take().unwrap();
        let (sender, screen) = mpsc::channel();
        std::thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(count @ 1..) = out.read(&mut part) {
                if sender.send(part[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, screen, seen: String::new() }
    }

    fn read(&mut self, patience: Duration) -> bool {
        let Ok(part) = self.screen.recv_timeout(patience) else { return false };
        self.seen.push_str(&String::from_utf8_lossy(&part));
        true
    }

    /// Waits until the screen has shown this.
    #[track_caller]
    pub fn shows(&mut self, text: &str) {
        let deadline = Instant::now() + super::PATIENCE;
        while !self.seen.contains(text) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(self.read(left), "{text:?} was not shown, but: {}", self.seen);
        }
    }

    /// Types a line once the terminal has stopped to show what is typed.
    #[track_caller]
    pub fn types_hidden(&mut self, text: &str) {
        let script = self.child.id();
        super::until("the terminal hides what is typed", || {
            let children = std::fs::read_to_string(format!("/proc/{script}/task/{script}/children")).unwrap();
            let child = children.split_whitespace().next().unwrap_or_default();
            let tty = std::fs::read_link(format!("/proc/{child}/fd/0")).map_err(|error| error.to_string())?;
            let said = Command::new("stty").arg("-aF").arg(tty).output().unwrap();
            let modes = String::from_utf8_lossy(&said.stdout).into_owned();
            if modes.split_whitespace().any(|mode| mode == "-echo") { Ok(()) } else { Err(modes) }
        });
        self.types(text);
    }

    /// Types a line.
    pub fn types(&mut self, text: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(format!("{text}\r").as_bytes()).unwrap();
        stdin.flush().unwrap();
    }

    /// Presses Ctrl-C.
    pub fn interrupts(&mut self) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(b"\x03").unwrap();
        stdin.flush().unwrap();
    }

    /// Waits for the end: exit code, and all that was shown.
    pub fn ends(mut self) -> (Option<i32>, String) {
        let deadline = Instant::now() + super::PATIENCE;
        while self.read(deadline.saturating_duration_since(Instant::now())) {}
        assert!(Instant::now() < deadline, "it does not end, and shows: {}", self.seen);
        let status = self.child.wait().unwrap();
        (status.code(), std::mem::take(&mut self.seen))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
