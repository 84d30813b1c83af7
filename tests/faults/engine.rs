//! A Docker Engine of the test's own, which may be killed: its data, sockets, mounts and network are apart from the
//! machine's, and nothing of it stays.

use crate::machine::{BASE, docker_at, docker_said, until};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

pub struct Engine {
    folder: TempDir,
    /// Its mounts live in a namespace that this process keeps: the engine that is started again finds them.
    namespace: Child,
    daemon: Child,
    name: String,
}

impl Engine {
    /// With the base image, and with the image of the dependencies of `image`, so that nothing is fetched.
    pub fn start(image: &str) -> Self {
        let root = String::from_utf8(Command::new("id").arg("-u").output().unwrap().stdout).unwrap();
        assert_eq!(
            root.trim(),
            "0",
            "this test starts a Docker Engine, as root: `sudo -E cargo nextest run --test faults`"
        );
        let folder = tempfile::Builder::new().prefix("rc-engine-").tempdir().unwrap();
        let namespace = Command::new("unshare").args(["-m", "-n", "sleep", "infinity"]).spawn().unwrap();
        let own = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
        until("a namespace of the engine's own", || match own(namespace.id()) {
            found if found.is_some() && found != own(std::process::id()) => Ok(()),
            found => Err(format!("{found:?}")),
        });
        let name = folder.path().file_name().unwrap().to_string_lossy().into_owned();
        let daemon = daemon(folder.path(), &namespace, &name);
        let engine = Self { folder, namespace, daemon, name };
        engine.until_it_answers();
        let images = [BASE.to_owned(), dependencies_of(image)];
        let mut save = Command::new("docker").arg("save").args(&images).stdout(Stdio::piped()).spawn().unwrap();
        let mut load = Command::new("docker");
        load.arg("load").env("DOCKER_HOST", engine.host()).stdin(save.stdout.take().unwrap()).stdout(Stdio::null());
        assert!(load.status().unwrap().success() && save.wait().unwrap().success(), "{images:?} could not be copied");
        engine
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }

    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
    }

    /// Starts it again on its data.
    pub fn start_again(&mut self) {
        for stale in ["pid", "exec/containerd/containerd.pid"] {
            let _ = std::fs::remove_file(self.folder.path().join(stale));
        }
        self.daemon = daemon(self.folder.path(), &self.namespace, &self.name);
        self.until_it_answers();
    }

    fn until_it_answers(&self) {
        until("the test's Docker Engine answers", || {
            let output = docker_at(Some(&self.host()), &["version"]);
            let log = || std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            if output.status.success() { Ok(()) } else { Err(log().lines().rev().take(5).collect()) }
        });
    }

    /// Processes that live in its namespace.
    fn processes(&self) -> BTreeSet<String> {
        let own = std::fs::read_link(format!("/proc/{}/ns/mnt", self.namespace.id())).ok();
        let all =
            std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        all.filter(|pid| own.is_some() && std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok() == own).collect()
    }
}

fn daemon(folder: &Path, namespace: &Child, name: &str) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
    let at = |part: &str| folder.join(part).display().to_string();
    Command::new("nsenter")
        .arg(format!("--mount=/proc/{}/ns/mnt", namespace.id()))
        .arg(format!("--net=/proc/{}/ns/net", namespace.id()))
        .args(["dockerd", "--data-root", &at("data"), "--exec-root", &at("exec"), "--pidfile", &at("pid")])
        .args(["-H", &format!("unix://{}", at("docker.sock")), "--cgroup-parent", &format!("/{name}")])
        // In a network of its own, or it takes the other engine's bridge away: replicas have none.
        .args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"])
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| panic!("this test needs nsenter (apt-get install util-linux): {error}"))
}

/// The image of everything but the code that an image was made on.
fn dependencies_of(image: &str) -> String {
    let layers = |image: &str| docker_said(&["image", "inspect", "-f", "{{join .RootFS.Layers \" \"}}", image]);
    let all = layers(image);
    let known = docker_said(&["images", "--format", "{{.Repository}}:{{.Tag}}", "rapidclaw-deps"]);
    let found = known.lines().find(|one| {
        let below = layers(one);
        all.strip_prefix(&below).is_some_and(|rest| rest.split_whitespace().count() == 1)
    });
    found.unwrap_or_else(|| panic!("none of {known:?} is below {image}")).to_owned()
}

impl Drop for Engine {
    fn drop(&mut self) {
        // In order, so that it unmounts and ends what it runs; then whatever has stayed.
        let _ = Command::new("kill").args(["-TERM", &self.daemon.id().to_string()]).status();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while matches!(self.daemon.try_wait(), Ok(None)) && std::time::Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        for pid in self.processes() {
            if pid != self.namespace.id().to_string() {
                let _ = Command::new("kill").args(["-KILL", &pid]).stderr(Stdio::null()).status();
            }
        }
        let _ = self.daemon.wait();
        let _ = self.namespace.kill();
        let _ = self.namespace.wait();
        let mut groups = Command::new("find");
        groups.args(["/sys/fs/cgroup", "-depth", "-type", "d", "-path", &format!("*/{}*", self.name), "-delete"]);
        let _ = groups.stderr(Stdio::null()).status();
    }
}
