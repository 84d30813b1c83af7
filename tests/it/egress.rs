//! What a replica can reach, and what it and its image know: looked at from inside a real one.

mod tracing;
mod ways_out;

use crate::machine::{self, Authority, BASE, Project, STUB_KEY, Server, docker, docker_said, need_docker, until};
use serde_json::{Value, json};
use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A host that the agent may reach, and one that it may not; both are [`Site`].
const ALLOWED: &str = "allowed.e2e.example";
const DENIED: &str = "denied.e2e.example";
/// A secret of no known provider: it reaches the replica, and nothing else.
const SECRET: &str = "tok-e2e-5b0d77aa-known-to-replicas-alone";
/// [`BASE`] with the test's own CA.
const BASE_WITH_CA: &str = "rapidclaw-base:e2e-ca";

/// The test's own CA and a certificate for both names: made once, so that images stay the same.
fn certificates() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("e2e-ca");
    if folder.join("done").exists() {
        return folder;
    }
    let _ = std::fs::remove_dir_all(&folder);
    Authority::new(&folder).issue("site", &[&format!("DNS:{ALLOWED}"), &format!("DNS:{DENIED}")]);
    std::fs::write(
        folder.join("Dockerfile"),
        format!("FROM {BASE}\nCOPY ca.crt /tmp/\nRUN cat /tmp/ca.crt >>/etc/ssl/certs/ca-certificates.crt && rm /tmp/ca.crt\n"),
    )
    .unwrap();
    std::fs::write(folder.join("done"), "").unwrap();
    folder
}

/// A TLS server in a container on a bridge of its own, on 443 and 8443.
struct Site {
    name: String,
    address: String,
}

const SITE: &str = r#"
import http.server, ssl, threading
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"the site answers " + self.headers["Host"].encode())
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/site/site.crt", "/site/site.key")
for port in (8443, 443):
    server = http.server.ThreadingHTTPServer(("", port), Answer)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever).start()
print("serves", flush=True)
"#;

impl Site {
    fn start() -> Self {
        let folder = certificates();
        let name = format!("rc-e2e-site-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
        let mut site = Self { name: name.clone(), address: String::new() };
        docker_said(&["network", "create", &name]);
        let mount = format!("{}:/site:ro", folder.display());
        docker_said(&["run", "-d", "--name", &name, "--network", &name, "-v", &mount, BASE, "python3", "-c", SITE]);
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        site.address = docker_said(&["inspect", "-f", format, &name]);
        until("the site", || match docker_said(&["logs", &name]) {
            log if log.contains("serves") => Ok(()),
            log => Err(log),
        });
        site
    }

    /// `--resolve` for both names on both ports.
    fn resolve(&self) -> Vec<String> {
        let entry = |name: &str, port: u16| format!("--resolve={name}:{port}:{}", self.address);
        [(ALLOWED, 443), (ALLOWED, 8443), (DENIED, 443)].map(|(name, port)| entry(name, port)).to_vec()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        docker(&["rm", "-f", "-v", &self.name]);
        docker(&["network", "rm", &self.name]);
    }
}

/// Runs Python in a container as the replica's own user; what it prints is JSON.
fn inside(container: &str, script: &str, arguments: &[&str]) -> Value {
    let command = [&["exec", container, "/opt/venv/bin/python", "-I", "-c", script][..], arguments].concat();
    let printed = docker_said(&command);
    serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
}

const LOOK_AROUND: &str = r##"
import glob, http.client, json, os, socket, ssl, stat, subprocess, sys, urllib.request
allowed, denied, site, host_ports = sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])

def tried(what):
    try:
        return what()
    except Exception as error:
        return f"{type(error).__name__}: {error}"

def resolve(name):
    return tried(lambda: sorted({found[4][0] for found in socket.getaddrinfo(name, 443)}))

def reach(address, port):
    with socket.create_connection((address, port), 2):
        return "reached"

def fetch(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()

def proxy(line, then=b""):
    """The first line of what the egress proxy answers; then TLS for another name, where it agrees."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(5)
    connection.connect("/run/rapidclaw/s/egress.sock")
    connection.sendall(line.encode() + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = connection.recv(4096).decode().splitlines()[0]
    if not then:
        return answer
    if then == "plain":
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        return [answer, tried(lambda: connection.recv(100).decode())]
    context = ssl.create_default_context()
    return [answer, tried(lambda: context.wrap_socket(connection, server_hostname=then).version())]

def status():
    lines = dict(line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\t" in line)
    return {key: lines[key].split()[0] for key in ("Uid", "Gid", "CapEff", "CapPrm", "CapBnd", "NoNewPrivs", "Seccomp")}

def sockets():
    found = []
    for folder, folders, files in os.walk("/"):
        folders[:] = [name for name in folders if os.path.join(folder, name) not in ("/proc", "/sys")]
        for name in files:
            path = os.path.join(folder, name)
            if tried(lambda: stat.S_ISSOCK(os.lstat(path).st_mode)) is True:
                found.append(path)
    return sorted(found)

def write(path):
    with open(path, "w") as file:
        file.write("x")
    os.unlink(path)
    return "written"

def execute():
    with open("/tmp/run", "w") as file:
        file.write("#!/bin/sh\nexit 0\n")
    os.chmod("/tmp/run", 0o755)
    return subprocess.run(["/tmp/run"]).returncode

def read(path):
    with open(path, "rb") as file:
        return file.read().decode("utf-8", "replace")

print(json.dumps({
    "interfaces": [name for _, name in socket.if_nameindex()],
    "routes": read("/proc/net/route").splitlines()[1:],
    "names": {name: resolve(name) for name in (allowed, denied, "api.openai.com", "pypi.org", "host.docker.internal", "x." + allowed)},
    "fetch": tried(lambda: fetch(f"https://{allowed}/")),
    "other port": tried(lambda: fetch(f"https://{allowed}:8443/")),
    "other name": tried(lambda: fetch(f"https://{denied}/")),
    "address": tried(lambda: reach(site, 443)),
    "host": {port: [tried(lambda: reach(address, int(port))) for address in ("127.0.0.1", "172.17.0.1")] for port in host_ports},
    "proxy": {
        "allowed": proxy(f"CONNECT {allowed}:443", allowed),
        "another name in TLS": proxy(f"CONNECT {allowed}:443", denied),
        "no TLS": proxy(f"CONNECT {allowed}:443", "plain"),
        "port": proxy(f"CONNECT {allowed}:8443"),
        "name": proxy(f"CONNECT {denied}:443"),
        "below": proxy(f"CONNECT x.{allowed}:443"),
        "address": proxy(f"CONNECT {site}:443"),
        "loopback": proxy(f"CONNECT 127.0.0.1:{host_ports[0]}"),
        "localhost": proxy(f"CONNECT localhost:{host_ports[0]}"),
        "get": proxy(f"GET http://{allowed}/"),
    },
    "status": status(),
    "sockets": sockets(),
    "run": {path: tried(lambda: sorted(os.listdir(path))) for path in ("/run", "/run/rapidclaw", "/run/rapidclaw/s", "/run/rapidclaw/r")},
    "write": {path: tried(lambda: write(path)) for path in ("/x", "/deps/app/x", "/opt/x", "/etc/hosts", "/run/rapidclaw/s/x", "/tmp/x")},
    "execute": tried(execute),
    "unshare": subprocess.run(["unshare", "-r", "true"], capture_output=True).returncode,
    "environments": [tried(lambda: read(path)) for path in glob.glob("/proc/[0-9]*/environ")],
    "replica.json": json.loads(read("/run/rapidclaw/s/replica.json")),
}))
"##;

#[test]
fn a_replica_reaches_what_its_manifest_allows_and_nothing_else() {
    // Given a site, a server that knows its names, and an agent that may reach one of them.
    need_docker();
    let site = Site::start();
    let folder = certificates();
    docker_said(&["build", "-q", "-t", BASE_WITH_CA, folder.to_str().unwrap()]);
    let resolve = site.resolve();
    let server = Server::with(&resolve.iter().map(String::as_str).collect::<Vec<_>>());
    let project = Project::new("e2e-isolated")
        .replicas(2)
        .set("rapidclaw.security.allowed_hosts", json!([ALLOWED]))
        .env(&format!("GREETING=hello\nCUSTOM_TOKEN={SECRET}\nOPENAI_API_KEY={STUB_KEY}\n"));
    project.write(".git/config", &format!("[remote]\nurl = https://{SECRET}@example.com\n"));
    project.write(".git/HEAD", "ref: refs/heads/main\n");
    let key = server.deploy_with(&project, &["--base-image", BASE_WITH_CA]).ok().hides(SECRET).key();
    let containers: Vec<String> = server.until_containers("e2e-isolated", 2).into_iter().collect();

    // When a replica looks around.
    let port = |url: &str| url.rsplit(':').next().unwrap().to_owned();
    let ports = json!([port(&server.url), port(&server.agents_url), port(&server.stub.url)]).to_string();
    let seen = inside(&containers[0], LOOK_AROUND, &[ALLOWED, DENIED, &site.address, &ports]);
    let text = |pointer: &str| seen.pointer(pointer).unwrap_or_else(|| panic!("{pointer}: {seen:#}")).to_string();

    // Then there is no network, and no name but the allowed one.
    assert_eq!(seen["interfaces"], json!(["lo"]));
    assert_eq!(seen["routes"], json!([]));
    assert_eq!(seen["names"][ALLOWED], json!(["127.0.0.2"]));
    for (name, found) in seen["names"].as_object().unwrap().iter().filter(|(name, _)| *name != ALLOWED) {
        assert!(found.as_str().is_some_and(|text| text.starts_with("gaierror")), "{name}: {found}");
    }
    // The allowed one answers over TLS that is verified from end to end; nothing else does.
    assert_eq!(seen["fetch"], format!("the site answers {ALLOWED}"));
    assert!(text("/other port").contains("refused"), "{}", text("/other port"));
    assert!(text("/other name").contains("name resolution"), "{}", text("/other name"));
    assert!(text("/address").contains("unreachable"), "{}", text("/address"));
    for (port, found) in seen["host"].as_object().unwrap() {
        assert!(!found.to_string().contains("reached"), "{port}: {found}");
    }
    // Nor for one that speaks to the proxy itself.
    let proxy = &seen["proxy"];
    assert_eq!(proxy["allowed"], json!(["HTTP/1.1 200 Connection Established", "TLSv1.3"]), "{proxy:#}");
    for fooled in ["another name in TLS", "no TLS"] {
        assert!(
            !proxy[fooled][1].to_string().contains("TLSv1") && !proxy[fooled].to_string().contains("site answers"),
            "{proxy:#}"
        );
    }
    for refused in ["port", "name", "below", "address", "loopback", "localhost"] {
        assert!(proxy[refused].as_str().unwrap().contains(" 403"), "{refused}: {proxy:#}");
    }
    assert!(proxy["get"].as_str().unwrap().contains(" 405"), "{proxy:#}");
    // No socket but its two ways out and its own ones: not Docker's, not Postgres', no other replica's.
    let own = ["r/alive.sock", "r/runner.sock", "s/egress.sock", "s/models.sock"];
    assert_eq!(seen["sockets"], json!(own.map(|name| format!("/run/rapidclaw/{name}"))));
    assert_eq!(seen["run"]["/run/rapidclaw"], json!(["r", "s"]));
    assert_eq!(seen["run"]["/run/rapidclaw/s"], json!(["egress.sock", "models.sock", "replica.json"]));
    // It is nobody, and has no rights.
    let none = "0000000000000000";
    let status = json!({ "Uid": "10001", "Gid": "10001", "CapEff": none, "CapPrm": none, "CapBnd": none, "NoNewPrivs": "1", "Seccomp": "2" });
    assert_eq!(seen["status"], status);
    assert_eq!(docker_said(&["exec", &containers[0], "id", "-u"]), "10001");
    for (path, found) in seen["write"].as_object().unwrap() {
        let expected = if path == "/tmp/x" { found == "written" } else { found != "written" };
        assert!(expected, "{path}: {found}");
    }
    assert!(text("/execute").contains("PermissionError"), "{}", text("/execute"));
    assert_ne!(seen["unshare"], 0);

    // Secrets: in the file that is mounted, and in the environment of the runner alone, which reads it from there:
    // the container's own has none. A provider's key is not even there.
    assert_eq!(seen["replica.json"]["env"]["CUSTOM_TOKEN"], SECRET);
    assert!(!seen.to_string().contains(STUB_KEY), "the provider's key is in the replica");
    assert!(seen["environments"].as_array().unwrap().len() >= 3, "{}", seen["environments"]);
    let environments = seen["environments"].as_array().unwrap().iter();
    let with_secret = environments.filter(|one| one.to_string().contains(SECRET)).count();
    assert_eq!(with_secret, 1, "{}", seen["environments"]);
    for container in &containers {
        let known = [
            docker_said(&["inspect", container]),
            docker_said(&["top", container, "auxww"]),
            docker_said(&["logs", container]),
        ];
        for text in known {
            assert!(!text.contains(SECRET) && !text.contains(STUB_KEY), "{text}");
        }
    }
    let image = docker_said(&["inspect", "-f", "{{.Image}}", &containers[0]]);
    let history = docker_said(&["history", "--no-trunc", &image]) + &docker_said(&["image", "inspect", &image]);
    assert!(!history.contains(SECRET) && !history.contains(STUB_KEY), "{history}");
    look_through(&image);

    // On the host: encrypted in the data folder, and behind a folder that only the server enters.
    for secret in [SECRET, STUB_KEY] {
        let found = Command::new("grep").args(["-rlaF", secret]).arg(server.machine.data_dir()).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&found.stdout), "", "a secret lies in the data folder in clear");
    }
    let folders = server.replica_folders();
    assert_eq!(folders.len(), 2);
    if rapidclaw::base::paths::is_root() {
        for folder in &folders {
            let read = Command::new("setpriv")
                .args(["--reuid=65534", "--regid=65534", "--clear-groups", "cat"])
                .arg(folder.join("s/replica.json"))
                .output()
                .unwrap();
            assert!(!read.status.success() && read.stdout.is_empty(), "another user reads {}", folder.display());
        }
    }
    assert_eq!(server.turn("e2e-isolated", &key, "t", "hi"), "hello 1: hi");
}

/// Every layer and the configuration of an image: no secret, no `.env`, no `.git`.
fn look_through(image: &str) {
    let folder = tempfile::tempdir().unwrap();
    let saved = folder.path().join("image.tar");
    docker_said(&["save", "-o", saved.to_str().unwrap(), image]);
    for secret in [SECRET, STUB_KEY] {
        let found = Command::new("grep").args(["-caF", secret]).arg(&saved).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&found.stdout).trim(), "0", "{secret} is in the image");
    }
    let (mut layers, mut has_code) = (0, false);
    for entry in tar::Archive::new(std::fs::File::open(&saved).unwrap()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut begin = [0; 512];
        if entry.size() < 1024 || entry.read_exact(&mut begin).is_err() || &begin[257..262] != b"ustar" {
            continue;
        }
        layers += 1;
        let layer = std::io::Cursor::new(begin).chain(entry);
        for file in tar::Archive::new(layer).entries().unwrap() {
            let path = file.unwrap().path().unwrap().into_owned();
            has_code |= path.ends_with("deps/app/agent.py");
            let hidden = path.components().any(|part| [".env", ".git"].iter().any(|name| part.as_os_str() == *name));
            assert!(!hidden, "{} is in the image", path.display());
        }
    }
    assert!(layers >= 3 && has_code, "{layers} layers were read, the code among them: {has_code}");
}

#[test]
fn a_link_in_the_sockets_place_gains_a_replica_nothing() {
    // Given a replica that serves, and a socket on the host that it wants the server to open.
    let mut server = Server::start();
    let key = server.deploy(&Project::new("e2e-link")).ok().key();
    let before = server.until_containers("e2e-link", 1);
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("target.sock");
    let listener = UnixListener::bind(&target).unwrap();
    listener.set_nonblocking(true).unwrap();

    // When it plants a link in its socket's place, and the server, started again, connects anew.
    let plant = "import json, os, sys\nos.chdir('/run/rapidclaw/r')\nnames = os.listdir()\n\
                 for name in names:\n    os.unlink(name)\n    os.symlink(sys.argv[1], name)\nprint(json.dumps(sorted(names)))";
    let planted = inside(before.first().unwrap(), plant, &[target.to_str().unwrap()]);
    assert_eq!(planted, json!(["alive.sock", "runner.sock"]));
    server.kill();
    server.start_again();

    // Then the replica is over and another one takes its place; nobody called at the link's target.
    server.until_status("e2e-link", "e2e-link v1 running 1 replica ");
    let after = server.until_containers("e2e-link", 1);
    assert_ne!(before, after);
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    assert!(server.log().contains("is not a socket"), "{}", server.log());
    assert_eq!(server.turn("e2e-link", &key, "t", "hi"), "hello 1: hi");

    // One that does so before it is ready, and shuts the connection that is there, fails its rollout.
    let planting = format!(
        "import os, socket, gc\nos.unlink('/run/rapidclaw/r/runner.sock')\nos.symlink(os.environ['TARGET'], '/run/rapidclaw/r/runner.sock')\n\
         for fd in range(3, 256):\n    try:\n        socket.socket(fileno=os.dup(fd)).shutdown(socket.SHUT_RDWR)\n    except OSError:\n        pass\n\
         import time\ntime.sleep(60)\n{}",
        machine::ECHO
    );
    let planting =
        Project::new("e2e-link").graph(&planting).env(&format!("GREETING=hello\nTARGET={}\n", target.display()));
    server.deploy(&planting).exits(6).says("error: ").says("v1 still serves");
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(server.turn("e2e-link", &key, "t", "hi"), "hello 2: hi");
}

const LOOK_OUT: &str = r#"
import json, socket, sys
def reach(address, port):
    try:
        with socket.create_connection((address, port), 2):
            return "reached"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
def proxy(target):
    try:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(5)
        connection.connect("/run/rapidclaw/s/egress.sock")
        connection.sendall(f"CONNECT {target} HTTP/1.1\r\n\r\n".encode())
        return connection.recv(4096).decode().splitlines()[0]
    except Exception as error:
        return f"{type(error).__name__}: {error}"
hosts = open("/etc/hosts").read()
print(json.dumps({
    "interfaces": [name for _, name in socket.if_nameindex()],
    "routes": len(open("/proc/net/route").read().splitlines()) - 1,
    "reached": [reach(address, int(port)) for address, _, port in (target.rpartition(":") for target in sys.argv[1:])],
    "proxy": [proxy(target) for target in sys.argv[1:]],
}))
"#;

#[test]
fn egress_none_is_none_and_open_is_a_network_of_the_agents_own() {
    let server = Server::start();
    let open = Project::new("e2e-open").set("rapidclaw.security", json!({ "egress": "open" }));
    let none = Project::new("e2e-none").set("rapidclaw.security", json!({ "egress": "none" }));
    let open_key = server.deploy(&open).ok().says("egress is open").key();
    let none_key = server.deploy(&none).ok().key();
    let network = server.networks().into_iter().next().unwrap();
    let gateway = docker_said(&["network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", &network]);
    let listener = TcpListener::bind((gateway.as_str(), 0)).unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let control = server.url.strip_prefix("http://").unwrap();
    let control_port = control.rsplit(':').next().unwrap();
    let control_there = format!("{gateway}:{control_port}");

    // Open: a bridge, a route, the host's address on it; not what listens on the host's loopback.
    let container = server.until_containers("e2e-open", 1).into_iter().next().unwrap();
    let seen = inside(&container, LOOK_OUT, &[&host, control, &control_there]);
    assert_eq!(seen["interfaces"], json!(["lo", "eth0"]), "{seen:#}");
    assert_ne!(seen["routes"], 0, "{seen:#}");
    assert_eq!(seen["reached"][0], "reached", "{seen:#}");
    assert_ne!(seen["reached"][1], "reached", "{seen:#}");
    assert_ne!(seen["reached"][2], "reached", "{seen:#}");
    // The proxy passes it nothing of the server's own loopback.
    assert!(seen["proxy"][1].as_str().unwrap().contains(" 403"), "{seen:#}");

    // None: neither network nor hosts, and a proxy that refuses.
    let container = server.until_containers("e2e-none", 1).into_iter().next().unwrap();
    let seen = inside(&container, LOOK_OUT, &[&host, control, &control_there]);
    assert_eq!((&seen["interfaces"], &seen["routes"]), (&json!(["lo"]), &json!(0)), "{seen:#}");
    for found in seen["reached"].as_array().unwrap() {
        assert_ne!(found, "reached", "{seen:#}");
    }
    for found in seen["proxy"].as_array().unwrap() {
        assert!(found.as_str().unwrap().contains(" 403"), "{seen:#}");
    }
    assert_eq!(server.turn("e2e-open", &open_key, "t", "hi"), "hello 1: hi");
    assert_eq!(server.turn("e2e-none", &none_key, "t", "hi"), "hello 1: hi");
}
