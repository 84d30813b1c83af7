//! Docker Engine, skopeo and Debian's docker-registry against a real server.

use crate::machine::{Server, docker, until};
use serde_json::Value;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

/// A server, and what tools need to know to log in to it.
struct Hub {
    server: Server,
    folder: TempDir,
    token: String,
}

impl Hub {
    fn start() -> Self {
        let server = Server::start();
        let token = std::fs::read_to_string(server.machine.data_dir().join("admin-token")).unwrap().trim().to_owned();
        Self { server, folder: tempfile::tempdir().unwrap(), token }
    }

    /// `127.0.0.1:PORT`: insecure for Docker without a setting.
    fn host(&self) -> &str {
        self.server.url.strip_prefix("http://").unwrap()
    }

    /// Docker with a configuration of the test's own.
    fn docker(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("docker");
        command.arg("--config").arg(self.folder.path().join("docker")).args(arguments);
        ok(&mut command)
    }

    fn login(&self) {
        let mut command = Command::new("docker");
        command.arg("--config").arg(self.folder.path().join("docker"));
        command.args(["login", "-u", "ci", "--password-stdin", self.host()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(self.token.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains("Login Succeeded"), "{output:?}");
    }

    /// skopeo with the registry's login.
    fn skopeo(&self, arguments: &[&str]) -> String {
        let file = self.folder.path().join("auth.json");
        let auth = base64(&format!("ci:{}", self.token));
        std::fs::write(&file, serde_json::json!({"auths": {self.host(): {"auth": auth}}}).to_string()).unwrap();
        let mut command = skopeo();
        command.args(arguments).env("REGISTRY_AUTH_FILE", file);
        ok(&mut command)
    }

    fn at(&self, image: &str) -> String {
        format!("{}/{image}", self.host())
    }
}

/// As logins have it.
pub fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

fn skopeo() -> Command {
    need("skopeo");
    Command::new("skopeo")
}

fn need(program: &str) {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap();
    assert!(found.status.success(), "there is no {program}: apt-get install -y --no-install-recommends {program}");
}

/// What the command says on stdout; it must end well.
#[track_caller]
fn ok(command: &mut Command) -> String {
    let output: Output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// An image of two small layers in the engine, under a name; removed with this value.
pub struct Image(pub String);

impl Image {
    pub fn make(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let unique = format!("{:?} {name}", std::time::SystemTime::now());
        std::fs::write(folder.path().join("one"), &unique).unwrap();
        std::fs::write(folder.path().join("two"), "x".repeat(300_000) + &unique).unwrap();
        std::fs::write(
            folder.path().join("Dockerfile"),
            "FROM scratch\nCOPY one /one\nCOPY two /two\nCMD [\"/one\"]\n",
        )
        .unwrap();
        ok(Command::new("docker").args(["build", "-q", "-t", name]).arg(folder.path()).env("DOCKER_BUILDKIT", "0"));
        Self(name.to_owned())
    }

    fn id(&self) -> String {
        ok(Command::new("docker").args(["image", "inspect", "-f", "{{.Id}}", &self.0])).trim().to_owned()
    }

    pub fn remove(&self) {
        docker(&["rmi", "-f", &self.0]);
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        self.remove();
    }
}

/// One whose base64 has `+` and `/` in it, which some clients get wrong.
pub const PASSWORD: &str = "p>>>???~~~";

/// Debian's docker-registry on a port of its own.
pub struct Debian {
    child: Child,
    pub host: String,
    _folder: TempDir,
}

impl Debian {
    pub fn start() -> Self {
        Self::with(tempfile::tempdir().unwrap(), "")
    }

    /// One that wants the login `ann` with [`PASSWORD`].
    pub fn with_password() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("htpasswd");
        // bcrypt of PASSWORD; at cost 4, as it is checked for each request.
        std::fs::write(&file, "ann:$2b$04$Khk4i2AoJMbrgY/KkyyuJO/qYij9mnnqt.peEjFMSgm5SLCpqF7aW\n").unwrap();
        let auth = format!("auth: {{htpasswd: {{realm: tests, path: {}}}}}\n", file.display());
        Self::with(folder, &auth)
    }

    /// One that sends whoever reads a layer to the address, where its folder is served (as registries do that keep
    /// layers in S3).
    pub fn that_redirects(folder: TempDir, to: &str) -> Self {
        Self::with(folder, &format!("middleware: {{storage: [{{name: redirect, options: {{baseurl: {to}}}}}]}}\n"))
    }

    fn with(folder: TempDir, auth: &str) -> Self {
        need("docker-registry");
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let host = format!("127.0.0.1:{port}");
        let settings = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: {host}}}\n{auth}",
            folder.path().display()
        );
        let file = folder.path().join("settings.yml");
        std::fs::write(&file, settings).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new("docker-registry");
        let child = command.arg("serve").arg(&file).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        until("Debian's docker-registry answers", || {
            std::net::TcpStream::connect(&host).map_err(|error| error.to_string())
        });
        Self { child, host, _folder: folder }
    }
}

impl Drop for Debian {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn docker_engine_pushes_and_pulls() {
    let hub = Hub::start();
    let image = Image::make(&hub.at("team/pushed:v1"));
    let id = image.id();
    // given no login: neither push nor pull
    let refused =
        Command::new("docker").arg("--config").arg(hub.folder.path().join("none")).args(["push", &image.0]).output();
    let refused = refused.unwrap();
    assert!(!refused.status.success());
    // when it is pushed after a login
    hub.login();
    let said = hub.docker(&["push", &image.0]);
    let digest = said.split("digest: ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    // then the engine finds nothing left to push,
    let again = hub.docker(&["push", &image.0]);
    assert!(again.contains("Layer already exists") && again.contains(&digest), "{again}");
    // another repository gets the layers without a transfer,
    let other = hub.at("team/other:v1");
    hub.docker(&["tag", &image.0, &other]);
    let mounted = hub.docker(&["push", &other]);
    assert!(mounted.contains("Mounted from team/pushed"), "{mounted}");
    hub.docker(&["rmi", &other]);
    // and what is pulled by tag or digest is the same image
    for reference in [image.0.clone(), format!("{}@{digest}", hub.at("team/pushed"))] {
        image.remove();
        docker(&["rmi", "-f", &id]);
        hub.docker(&["pull", "-q", &reference]);
        let pulled = ok(Command::new("docker").args(["image", "inspect", "-f", "{{.Id}}", &reference]));
        assert_eq!(pulled.trim(), id);
        docker(&["rmi", "-f", &reference]);
    }
}

#[test]
fn skopeo_copies_in_all_directions_and_digests_agree() {
    let (hub, debian) = (Hub::start(), Debian::start());
    let image = Image::make(&format!("{}/team/copied:v1", debian.host));
    hub.docker(&["push", &image.0]);
    let theirs = format!("docker://{}", image.0);
    let ours = format!("docker://{}", hub.at("team/copied:v1"));
    let plain = ["--src-tls-verify=false", "--dest-tls-verify=false"];
    // from Debian's registry to ours
    hub.skopeo(&[&["copy", "-q"], &plain[..], &[&theirs, &ours]].concat());
    let inspect = |reference: &str| -> Value {
        serde_json::from_str(&hub.skopeo(&["inspect", "--tls-verify=false", reference])).unwrap()
    };
    assert_eq!(inspect(&ours)["Digest"], inspect(&theirs)["Digest"]);
    assert_eq!(inspect(&ours)["RepoTags"], serde_json::json!(["v1"]));
    // as OCI, to a folder and back
    let layout = format!("oci:{}:v1", hub.folder.path().join("layout").display());
    hub.skopeo(&["copy", "-q", "--src-tls-verify=false", "--format", "oci", &ours, &layout]);
    let oci = format!("docker://{}", hub.at("team/oci:v2"));
    hub.skopeo(&["copy", "-q", "--dest-tls-verify=false", &layout, &oci]);
    let raw: Value = serde_json::from_str(&hub.skopeo(&["inspect", "--raw", "--tls-verify=false", &oci])).unwrap();
    assert_eq!(raw["config"]["mediaType"], "application/vnd.oci.image.config.v1+json");
    // from ours to Debian's
    let back = format!("docker://{}/team/back:v1", debian.host);
    hub.skopeo(&[&["copy", "-q"], &plain[..], &[&oci, &back]].concat());
    assert_eq!(inspect(&oci)["Digest"], inspect(&back)["Digest"]);
    // with all tags, and away
    hub.skopeo(&[
        "copy",
        "-q",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        &ours,
        &format!("docker://{}", hub.at("team/copied:v2")),
    ]);
    let tags: Value =
        serde_json::from_str(&hub.skopeo(&["list-tags", "--tls-verify=false", ours.trim_end_matches(":v1")])).unwrap();
    assert_eq!(tags["Tags"], serde_json::json!(["v1", "v2"]));
    hub.skopeo(&["delete", "--tls-verify=false", &ours]);
    let gone = skopeo()
        .args(["inspect", "--tls-verify=false", &ours])
        .env("REGISTRY_AUTH_FILE", hub.folder.path().join("auth.json"))
        .output();
    assert!(!gone.unwrap().status.success());
}

#[test]
fn an_index_of_several_platforms_is_copied_whole() {
    let hub = Hub::start();
    let image = Image::make(&hub.at("team/multi:amd64"));
    hub.login();
    hub.docker(&["push", &image.0]);
    hub.docker(&["manifest", "create", "--insecure", &hub.at("team/multi:all"), &image.0]);
    hub.docker(&["manifest", "push", "--insecure", &hub.at("team/multi:all")]);
    let from = format!("docker://{}", hub.at("team/multi:all"));
    let to = format!("docker://{}", hub.at("team/again:all"));
    hub.skopeo(&["copy", "-q", "--all", "--src-tls-verify=false", "--dest-tls-verify=false", &from, &to]);
    let raw = |reference: &str| hub.skopeo(&["inspect", "--raw", "--tls-verify=false", reference]);
    assert_eq!(raw(&from), raw(&to));
    let list: Value = serde_json::from_str(&raw(&to)).unwrap();
    assert_eq!(list["mediaType"], "application/vnd.docker.distribution.manifest.list.v2+json");
}

#[test]
fn a_server_that_is_killed_in_an_upload_loses_nothing_that_it_took() {
    let mut hub = Hub::start();
    let (url, token) = (hub.server.url.clone(), hub.token.clone());
    let bytes: Vec<u8> = (0..40_000_000_u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let file = hub.folder.path().join("content");
    std::fs::write(&file, &bytes).unwrap();
    let digest = ok(Command::new("sha256sum").arg(&file)).split(' ').next().unwrap().to_owned();
    // given an image that is there, and an upload under way, slowed down
    let image = Image::make(&hub.at("team/before:v1"));
    hub.login();
    hub.docker(&["push", &image.0]);
    let curl = |arguments: &[&str]| {
        let mut command = Command::new("curl");
        command.args(["-sS", "-H", &format!("Authorization: Bearer {token}")]).args(arguments);
        command
    };
    let headers =
        ok(&mut curl(&["-D", "-", "-o", "/dev/null", "-X", "POST", &format!("{url}/v2/team/big/blobs/uploads/")]));
    let location = headers.lines().find_map(|line| line.strip_prefix("location: ")).unwrap().trim().to_owned();
    let location = format!("{url}{location}");
    let mut sending = curl(&["--limit-rate", "20M", "-X", "PATCH", "-T", file.to_str().unwrap(), &location])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let upload = uploads_of(&hub.server.machine.data_dir(), "team/big").pop().unwrap();
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |meta| meta.len());
    until("bytes have come", || match size(&upload) {
        bytes if bytes > 5_000_000 => Ok(()),
        bytes => Err(format!("{bytes} bytes")),
    });
    // when the server is killed and started again
    hub.server.kill();
    sending.wait().unwrap();
    hub.server.start_again();
    // then what has come is there, and the upload goes on behind it
    let headers = ok(&mut curl(&["-D", "-", &location]));
    let range = headers.lines().find_map(|line| line.strip_prefix("range: 0-")).unwrap_or_else(|| panic!("{headers}"));
    let received = range.trim().parse::<usize>().unwrap() + 1;
    assert!(received > 5_000_000 && received < bytes.len(), "{received}");
    let rest = hub.folder.path().join("rest");
    std::fs::write(&rest, &bytes[received..]).unwrap();
    let range = format!("Content-Range: {received}-{}", bytes.len() - 1);
    let rest = format!("@{}", rest.display());
    let put = format!("{location}?digest=sha256:{digest}");
    let headers = ok(&mut curl(&["-D", "-", "-X", "PUT", "-H", &range, "--data-binary", &rest, &put]));
    assert!(headers.contains("HTTP/1.1 201"), "{headers}");
    let got = hub.folder.path().join("got");
    ok(&mut curl(&["-o", got.to_str().unwrap(), &format!("{url}/v2/team/big/blobs/sha256:{digest}")]));
    assert!(std::fs::read(&got).unwrap() == bytes, "the blob is another one");
    // and what was there before is whole
    image.remove();
    hub.docker(&["pull", "-q", &image.0]);
    assert_eq!(uploads_of(&hub.server.machine.data_dir(), "team/big"), Vec::<PathBuf>::new());
}

/// The files of a repository's uploads.
fn uploads_of(data_dir: &Path, name: &str) -> Vec<PathBuf> {
    let folder = data_dir.join("registry/repositories").join(name).join("_uploads");
    std::fs::read_dir(folder).map(|entries| entries.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
}
