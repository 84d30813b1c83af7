//! A Docker Engine of the test's own: its data, sockets, mounts and network are apart from the machine's, it may be
//! killed, and nothing of it stays. With its network it is a machine of its own: [`Engine::join`] lays a cable.

use super::{BASE, docker_at, docker_said, until};
use std::collections::BTreeSet;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

/// Its containers' users are others than the machine's: `nobody`'s, by lists that it alone sees.
const OWN_USERS: &str = "printf 'nobody:100000:65536\\nnogroup:100000:65536\\n' >\"$0.ids\" && touch /etc/subuid /etc/subgid && \
    mount --bind \"$0.ids\" /etc/subuid && mount --bind \"$0.ids\" /etc/subgid && ";
const REMAP: &str = "--userns-remap=nobody:nogroup";

/// The key that an engine's id is made from lies there.
const OWN_KEY: &str = "mkdir -p /etc/docker && mount -t tmpfs tmpfs /etc/docker && ";

pub struct Engine {
    folder: TempDir,
    /// Its mounts and its network live in namespaces that this process keeps: the engine that is started again
    /// finds them, and the kernel takes them away with the last process in them.
    namespace: Child,
    daemon: Child,
    name: String,
    /// Whether its images lie on a file system of their own.
    has_disk: bool,
    /// What its daemon is told beside.
    more: Vec<String>,
}

impl Engine {
    /// Without images, with an id of its own.
    pub fn start() -> Self {
        Self::with(OWN_KEY, None, &[])
    }

    /// One with `userns-remap`, with what builds of `image` stand on.
    pub fn remapped_for_builds_of(image: &str) -> Self {
        let engine = Self::with(&format!("{OWN_KEY}{OWN_USERS}"), None, &[REMAP.to_owned()]);
        engine.receive(&[BASE, &dependencies_of(image)]);
        engine
    }

    /// The same, with a disk of so many bytes for its images (`300m`).
    pub fn small(size: &str) -> Self {
        Self::with(OWN_KEY, Some(size), &[])
    }

    /// With more options.
    pub fn with_options(more: &[String]) -> Self {
        Self::with(OWN_KEY, None, more)
    }

    /// With the id of this machine's engine, as copies of a machine have it.
    pub fn copy() -> Self {
        Self::with("", None, &[])
    }

    /// With the base image, and with the image of the dependencies of `image`, so that nothing is fetched: its
    /// network leads nowhere.
    pub fn for_builds_of(image: &str) -> Self {
        let engine = Self::start();
        engine.receive(&[BASE, &dependencies_of(image)]);
        engine
    }

    /// Gets images of the test's own engine.
    pub fn receive(&self, images: &[&str]) {
        let mut save = Command::new("docker").arg("save").args(images).stdout(Stdio::piped()).spawn().unwrap();
        let mut load = Command::new("docker");
        load.arg("load").env("DOCKER_HOST", self.host()).stdin(save.stdout.take().unwrap()).stdout(Stdio::null());
        assert!(load.status().unwrap().success() && save.wait().unwrap().success(), "{images:?} could not be copied");
    }

    fn with(before: &str, disk: Option<&str>, more: &[String]) -> Self {
        let root = String::from_utf8(Command::new("id").arg("-u").output().unwrap().stdout).unwrap();
        assert_eq!(root.trim(), "0", "this test starts a Docker Engine, as root: `sudo -E cargo nextest run`");
        // A socket's path is short, and containerd wants a disk for images.
        let folder = tempfile::Builder::new().prefix("rcd-").tempdir_in("/var/tmp").unwrap();
        // Also by users who are nobody here.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        std::fs::DirBuilder::new().mode(0o711).create(folder.path().join("data")).unwrap();
        if let Some(size) = disk {
            let mut mount = Command::new("mount");
            mount
                .args(["-t", "tmpfs", "-o", &format!("size={size},mode=711"), "tmpfs"])
                .arg(folder.path().join("data"));
            assert!(mount.status().unwrap().success(), "a tmpfs could not be mounted");
        }
        let script = format!("{before}ip link set lo up && touch \"$0\" && exec sleep infinity");
        let ready = folder.path().join("ready");
        let mut namespace = Command::new("unshare");
        namespace.args(["-m", "-n", "sh", "-c", &script]).arg(&ready).stdin(Stdio::null());
        let mut namespace =
            namespace.spawn().unwrap_or_else(|error| panic!("this test needs unshare (util-linux): {error}"));
        until("namespaces of the engine's own (this test needs ip: apt-get install iproute2)", || {
            let ended = namespace.try_wait().unwrap();
            if ready.exists() { Ok(()) } else { Err(format!("{ended:?}")) }
        });
        let name = folder.path().file_name().unwrap().to_string_lossy().into_owned();
        let more = more.to_vec();
        let daemon = daemon(folder.path(), &namespace, &name, &more);
        let engine = Self { folder, namespace, daemon, name, has_disk: disk.is_some(), more };
        engine.until_it_answers();
        engine
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }

    /// `unix://…`, as `DOCKER_HOST` has it.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Where its images lie.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Its network namespace.
    pub fn network(&self) -> PathBuf {
        namespace_of(&self.namespace, "net")
    }

    /// The docker command on it: whether it ended well, and what it said.
    pub fn docker(&self, arguments: &[&str]) -> (bool, String) {
        let output = docker_at(Some(&self.host()), arguments);
        (output.status.success(), String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// A cable between two networks that have one cable at most; the addresses of both ends. No other network of
    /// this machine sees it.
    pub fn join(&self, other: &Self) -> [&'static str; 2] {
        let addresses = ["10.213.7.1", "10.213.7.2"];
        let there = other.namespace.id().to_string();
        self.ip(&["link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", &there]);
        for (engine, address) in [(self, addresses[0]), (other, addresses[1])] {
            engine.ip(&["address", "add", &format!("{address}/30"), "dev", "cable"]);
            engine.ip(&["link", "set", "cable", "up"]);
        }
        addresses
    }

    fn ip(&self, arguments: &[&str]) {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.network().display())).arg("ip").args(arguments);
        let Output { status, stderr, .. } = command.output().unwrap();
        assert!(status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&stderr));
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
        self.daemon = daemon(self.folder.path(), &self.namespace, &self.name, &self.more);
        self.until_it_answers();
    }

    fn until_it_answers(&self) {
        until("the test's Docker Engine answers", || {
            let output = docker_at(Some(&self.host()), &["version"]);
            let log = || std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            if output.status.success() { Ok(()) } else { Err(log().lines().rev().take(5).collect()) }
        });
    }

    /// Processes that live in its namespace, and those of its containers, which have their own.
    fn processes(&self) -> BTreeSet<String> {
        let mut find = Command::new("find");
        find.args(["/sys/fs/cgroup", "-path", &format!("*/{}*", self.name), "-name", "cgroup.procs"]);
        let lists = find.stderr(Stdio::null()).output().map(|output| output.stdout).unwrap_or_default();
        let contained = String::from_utf8_lossy(&lists)
            .lines()
            .flat_map(|list| {
                std::fs::read_to_string(list).unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>()
            })
            .collect::<Vec<_>>();
        let own = std::fs::read_link(namespace_of(&self.namespace, "mnt")).ok();
        let all =
            std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let inside = |pid: &String| own.is_some() && std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok() == own;
        all.filter(inside).chain(contained).collect()
    }
}

fn namespace_of(process: &Child, kind: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{}/ns/{kind}", process.id()))
}

fn daemon(folder: &Path, namespace: &Child, name: &str, more: &[String]) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
    let at = |part: &str| folder.join(part).display().to_string();
    let enter = |kind: &str| format!("={}", namespace_of(namespace, kind).display());
    Command::new("nsenter")
        .arg(format!("--mount{}", enter("mnt")))
        .arg(format!("--net{}", enter("net")))
        .args(["dockerd", "--data-root", &at("data"), "--exec-root", &at("exec"), "--pidfile", &at("pid")])
        .args(["-H", &format!("unix://{}", at("docker.sock")), "--cgroup-parent", &format!("/{name}")])
        // Where the machine has a containerd, both engines use it.
        .args(["--containerd-namespace", name, "--containerd-plugins-namespace", &format!("{name}-plugins")])
        // In a network of its own, or it takes the other engine's bridge away: replicas have none.
        .args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"])
        .args(more)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| panic!("this test needs nsenter (apt-get install util-linux): {error}"))
}

/// The image of everything but the code that an image was made on.
pub fn dependencies_of(image: &str) -> String {
    let digest = docker_said(&["image", "inspect", "-f", "{{index .Config.Labels \"rapidclaw.stands-on\"}}", image]);
    let label = format!("label=rapidclaw.deps={digest}");
    let found = docker_said(&["images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", &label, "rapidclaw-deps"]);
    found.lines().next().unwrap_or_else(|| panic!("{image} stands on {digest:?}, which is not there")).to_owned()
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
        if self.has_disk {
            let _ = Command::new("umount").arg("--lazy").arg(self.root()).status();
        }
        let mut groups = Command::new("find");
        groups.args(["/sys/fs/cgroup", "-depth", "-type", "d", "-path", &format!("*/{}*", self.name), "-delete"]);
        groups.stderr(Stdio::null());
        // Until the last of what was killed is gone.
        for _ in 0..40 {
            if groups.status().is_ok_and(|status| status.success()) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}
