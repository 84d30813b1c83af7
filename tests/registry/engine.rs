//! A second Docker Engine on this machine: what a server elsewhere runs its replicas on.

use super::machine::until;
use std::os::unix::fs::DirBuilderExt as _;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// An engine with images of its own and without networks.
pub struct Engine {
    child: Child,
    folder: TempDir,
}

impl Engine {
    /// With an id of its own.
    pub fn start() -> Self {
        // The key that the id is made from lies there.
        Self::with("mount -t tmpfs tmpfs /etc/docker && ")
    }

    /// With the id of this machine's engine, as copies of a machine have it.
    pub fn copy() -> Self {
        Self::with("")
    }

    fn with(before: &str) -> Self {
        // A socket's path is short, and containerd wants a disk for images.
        let folder = tempfile::Builder::new().prefix("rcd-").tempdir_in("/var/tmp").unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        std::fs::DirBuilder::new().mode(0o711).create(path("data")).unwrap();
        let log = std::fs::File::create(path("log")).unwrap();
        let mut command = Command::new("unshare");
        command
            .args(["-m", "-n", "sh", "-c", &format!("{before}exec dockerd \"$@\""), "dockerd"])
            .args(["--data-root", &path("data"), "--exec-root", &path("exec"), "--pidfile", &path("pid")])
            .args(["-H", &format!("unix://{}", path("docker.sock")), "--bridge", "none", "--iptables=false"])
            .args([
                "--ip-forward=false",
                "--containerd-namespace",
                "rcd",
                "--containerd-plugins-namespace",
                "rcd-plugins",
            ])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let child = command.spawn().expect("this test starts a dockerd: run it as root, with docker.io installed");
        let engine = Self { child, folder };
        until("the second engine answers", || match engine.docker(&["version"]) {
            (true, _) => Ok(()),
            _ => Err(std::fs::read_to_string(engine.folder.path().join("log")).unwrap_or_default()),
        });
        engine
    }

    /// `unix://…`
    pub fn address(&self) -> String {
        format!("unix://{}", self.folder.path().join("docker.sock").display())
    }

    /// The docker command on it: whether it ended well, and what it said.
    pub fn docker(&self, arguments: &[&str]) -> (bool, String) {
        let output = Command::new("docker").args(["-H", &self.address()]).args(arguments).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
    }
}
