//! Bad input: one clear error each, what to do next, the right exit code, nothing left behind. And logins.

use crate::machine::{self, Machine, Project, STUB_KEY, Said, Server, need_docker, said, said_with_stdin};
use serde_json::json;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

/// What was said on stderr, without what differs from machine to machine.
fn stable(said: &Said, machine: &Machine, project: Option<&Project>) -> String {
    let mut text = said.err.clone();
    let mut places = vec![(machine.data_dir(), "[DATA]"), (machine.home(), "[HOME]")];
    places.extend(project.map(|project| (project.path().canonicalize().unwrap(), "[PROJECT]")));
    for (path, name) in places {
        text = text.replace(path.to_str().unwrap(), name);
    }
    let port = regex::Regex::new(r"127\.0\.0\.1:\d+").unwrap();
    port.replace_all(&text, "127.0.0.1:[PORT]").into_owned()
}

fn in_project(machine: &Machine, project: &Project, arguments: &[&str]) -> Said {
    said(machine.command().args(arguments).current_dir(project.path()))
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none())
}

#[test]
fn no_docker() {
    let (machine, project) = (Machine::new(), Project::new("e2e-bad"));
    let dead = format!("unix://{}", project.path().join("dead.sock").display());
    let said = said(machine.command().arg("build").env("DOCKER_HOST", &dead).current_dir(project.path())).fails(5);
    insta::assert_snapshot!(stable(&said, &machine, Some(&project)), @r"
    error: no Docker Engine answers at unix://[PROJECT]/dead.sock
    caused by: No such file or directory (os error 2)

    hint: start it: `sudo systemctl start docker` (Docker Desktop: open it); without systemd: `sudo dockerd`; to install it: https://docs.docker.com/engine/install
    ");

    // A server does not start without it, and makes no Postgres in vain.
    let mut start = machine.command();
    start.args(["server", "start", "--listen=127.0.0.1:0", "--agents-listen=127.0.0.1:0"]).env("DOCKER_HOST", &dead);
    machine::said(&mut start)
        .fails(5)
        .says("error: no Docker Engine answers")
        .says("hint: start it")
        .says("server.log");
    machine.rapidclaw(&["server", "status"]).exits(1);
    assert!(!machine.data_dir().join("postgres").exists() && !machine.data_dir().join("server.json").exists());
    assert!(is_empty(machine.run_dir()));

    // Nor does one that is asked for nonsense.
    let nonsense =
        machine::said(machine.command().arg("build").env("DOCKER_HOST", "ssh://host").current_dir(project.path()));
    nonsense.fails(5).says("DOCKER_HOST=ssh://host").says("hint: forward its socket");
}

#[test]
fn docker_without_rights() {
    // Given a socket that this user may not open.
    let (machine, project) = (Machine::new(), Project::new("e2e-bad"));
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("docker.sock");
    let _engine = UnixListener::bind(&socket).unwrap();
    for (path, mode) in
        [(folder.path(), 0o755), (project.path(), 0o755), (socket.as_path(), 0o000), (&machine.home(), 0o777)]
    {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let address = format!("unix://{}", socket.display());
    // Root may open everything: as root we ask as nobody.
    let is_root = rapidclaw::base::paths::is_root();
    let run = |arguments: &[&str]| {
        let mut command = if is_root { Command::new("setpriv") } else { machine.command() };
        if is_root {
            machine.clean(&mut command);
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups", env!("CARGO_BIN_EXE_rapidclaw")]);
        }
        command.args(arguments).env("DOCKER_HOST", &address).env("RAPIDCLAW_DATA_DIR", machine.home().join("data"));
        said(command.current_dir(project.path()))
    };
    for arguments in [&["build"][..], &["server", "run", "--listen=127.0.0.1:0", "--agents-listen=127.0.0.1:0"]] {
        let said = run(arguments).fails(5).err.replace(&address, "[ADDRESS]");
        insta::allow_duplicates! {
            insta::assert_snapshot!(said, @r"
            error: this user may not use the Docker Engine at [ADDRESS]
            caused by: Permission denied (os error 13)

            hint: join its group: `sudo usermod -aG docker $USER`, then log in again; or use sudo
            ");
        }
    }
    assert!(!machine.home().join("data/postgres").exists());
}

#[test]
fn a_project_that_is_not_one_says_all_its_faults() {
    let machine = Machine::new();

    // No manifest.
    let empty = tempfile::tempdir().unwrap();
    let none = said(machine.command().arg("deploy").current_dir(empty.path())).fails(3);
    none.says("error: there is no langgraph.json").says("--manifest");

    // A missing graph file and unknown keys, all at once, with their places and fixes.
    let project = Project::new("e2e-bad")
        .set("graphs", json!({ "agent": "./agnet.py:graph" }))
        .set("rapidclaw.min_replica", json!(3))
        .set("rapidclaw.security.egres", json!("none"));
    let text = std::fs::read_to_string(project.path().join("langgraph.json")).unwrap();
    project.write(
        "langgraph.json",
        &serde_json::to_string_pretty(&serde_json::from_str::<serde_json::Value>(&text).unwrap()).unwrap(),
    );
    for command in ["validate", "build", "deploy"] {
        let said = in_project(&machine, &project, &[command]).exits(3);
        assert_eq!(said.out, "");
        assert_eq!(said.err.matches("\nerror: ").count(), 1, "{said}");
        insta::allow_duplicates! {
            insta::assert_snapshot!(stable(&said, &machine, Some(&project)), @r#"
            error[unknown-key]: unknown key `egres` in `rapidclaw.security`
             --> langgraph.json:16:7
               |
            16 |       "egres": "none"
               |       ^^^^^^^
            help: did you mean `egress`?

            error[unknown-key]: unknown key `min_replica` in `rapidclaw`
             --> langgraph.json:18:5
               |
            18 |     "min_replica": 3
               |     ^^^^^^^^^^^^^
            help: did you mean `min_replicas`?
            error: 2 errors in the manifest
            "#);
        }
    }
    // It is no JSON.
    project.write("langgraph.json", "{ \"graphs\": ");
    in_project(&machine, &project, &["validate"]).exits(3).says("langgraph.json:1:");
    assert!(is_empty(machine.run_dir()) && !machine.data_dir().exists());
}

#[test]
fn what_a_build_needs_and_cannot_have() {
    need_docker();
    let machine = Machine::new();

    // A base image that is nowhere.
    let project = Project::new("e2e-bad");
    let said = in_project(&machine, &project, &["build", "--base-image", "127.0.0.1:1/none:1"]).fails(1);
    said.says("error: the base image 127.0.0.1:1/none:1 cannot be pulled").says("scripts/base-image.sh");

    // Dependencies that contradict each other.
    let project = Project::new("e2e-bad").set("dependencies", json!([".", "langchain-core==0.1.0"]));
    let said = in_project(&machine, &project, &["build"]).fails(3);
    said.says("error: the dependencies do not resolve:")
        .says("langchain-core==0.1.0")
        .says("hint: change the versions");

    // One that there is not.
    let project = Project::new("e2e-bad").set("dependencies", json!([".", "langgraph==99.0.0"]));
    let said = in_project(&machine, &project, &["build"]).fails(3);
    said.says("error: the dependencies do not resolve:").says("langgraph==99.0.0");

    // A step of the project's own: which, and its last lines.
    let project =
        Project::new("e2e-bad").set("dockerfile_lines", json!(["RUN echo on the way; echo broken >&2; exit 7"]));
    let said = in_project(&machine, &project, &["build"]).fails(1);
    said.says("exit code 7").says("the step's last lines:").says("broken").says("hint: mend what the step says");
}

#[test]
fn logins_and_what_there_is_to_log_in_to() {
    // Given a server.
    let server = Server::start();
    let machine = Machine::new();
    let token = std::fs::read_to_string(server.machine.data_dir().join("admin-token")).unwrap().trim().to_owned();
    let login = |arguments: &[&str], environment: &[(&str, &str)], stdin: Option<&str>| {
        let mut command = machine.command();
        command.arg("login").args(arguments).envs(environment.iter().copied());
        let said = match stdin {
            Some(text) => said_with_stdin(&mut command, text),
            None => said(&mut command),
        };
        said.hides(&token)
    };
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;

    // Not logged in.
    for command in [&["status"][..], &["whoami"], &["keys", "list", "a"], &["destroy", "a", "--yes"]] {
        machine.rapidclaw(command).fails(4).says("error: not logged in").says("hint: log in first: `rapidclaw login`");
    }
    let project = Project::new("e2e-bad");
    in_project(&machine, &project, &["deploy"]).fails(4).says("error: not logged in");
    // This machine, where no server runs.
    login(&["--local"], &[], None)
        .fails(5)
        .says("error: no server runs on this machine")
        .says("rapidclaw server start");
    // No token, a wrong one, in each form.
    login(&[&server.url], &[], None).fails(4).says("error: no token for").says("RAPIDCLAW_TOKEN");
    login(&[&server.url], &[("RAPIDCLAW_TOKEN", "rcadmin_wrong")], None).fails(4).hides("rcadmin_wrong");
    login(&[&server.url, "--token-stdin"], &[], Some("rcadmin_wrong\n")).fails(4).hides("rcadmin_wrong");
    login(&[&server.url, "--token-stdin"], &[], Some(" \n")).exits(2).says("error: stdin held no token");
    assert!(!machine.credentials().exists());
    // Another host in clear; nobody there; no address.
    login(&["http://agents.example.com"], &[("RAPIDCLAW_TOKEN", &token)], None)
        .fails(2)
        .says("error: agents.example.com is another host, and plain HTTP would show it the token")
        .says("hint: use https://");
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    login(&[&format!("http://{free}")], &[("RAPIDCLAW_TOKEN", &token)], None).fails(5).says("cannot be reached");
    login(&["ftp://host"], &[("RAPIDCLAW_TOKEN", &token)], None).fails(2).says("is not the address of a server");

    // From the environment: it works, and is stored nowhere.
    let environment = [("RAPIDCLAW_TOKEN", token.as_str())];
    login(&[&server.url], &environment, None).ok().prints("logged in to").says("stored nowhere");
    assert!(!std::fs::read_to_string(machine.credentials()).unwrap().contains(&token));
    machine.rapidclaw(&["whoami"]).fails(4);
    said(machine.command().arg("whoami").envs(environment)).ok().prints("(admin) on");
    let ci = [("RAPIDCLAW_TOKEN", token.as_str()), ("RAPIDCLAW_SERVER", server.url.as_str()), ("CI", "true")];
    machine.rapidclaw(&["logout"]).ok();
    said(machine.command().arg("whoami").envs(ci)).ok().prints("(admin) on");

    // From stdin: it rests in a file that nobody else reads.
    login(&[&server.url, "--token-stdin"], &[], Some(&format!("{token}\n"))).ok().says("the token rests in");
    assert!(std::fs::read_to_string(machine.credentials()).unwrap().contains(&token));
    assert_eq!((mode(&machine.credentials()), mode(machine.credentials().parent().unwrap())), (0o600, 0o700));
    machine.rapidclaw(&["whoami"]).ok().prints("(admin) on");
    machine.rapidclaw(&["logout"]).ok().prints("logged out of");
    assert!(!std::fs::read_to_string(machine.credentials()).unwrap().contains(&token));
    machine.rapidclaw(&["whoami"]).fails(4);
    // A file of logins that others may read is made private; one that is damaged is said to be.
    std::fs::write(machine.credentials(), "{").unwrap();
    std::fs::set_permissions(machine.credentials(), std::fs::Permissions::from_mode(0o644)).unwrap();
    machine.rapidclaw(&["whoami"]).fails(1).says("is damaged");
    assert_eq!(mode(&machine.credentials()), 0o600);

    // What the server keeps is private, too.
    let data = server.machine.data_dir();
    assert_eq!((mode(&data.join("admin-token")), mode(&data.with_extension("key"))), (0o600, 0o600));
    assert_eq!(mode(&server.machine.credentials()), 0o600);
    let own = std::fs::read_dir(server.machine.run_dir()).unwrap().next().unwrap().unwrap();
    assert_eq!(mode(&own.path()), 0o700);

    // A first deploy without its .env: nothing is built, nothing is made.
    project.remove(".env");
    let missing = server.deploy(&project).fails(3);
    insta::assert_snapshot!(stable(&missing, &machine, Some(&project)), @r"
    error: [PROJECT]/.env is missing, and e2e-bad was never deployed

    hint: write it, name another with --env-file, or take `env` out of the manifest
    ");
    // Secrets that do not fit the egress rules, or are none.
    let astray = Project::new("e2e-bad").env(&format!(
        "OPENAI_API_KEY={STUB_KEY}\nANTHROPIC_API_KEY=k\nANTHROPIC_BASE_URL=https://elsewhere.example.com\n"
    ));
    let astray = server.deploy(&astray).exits(3).says("error: the agent's secrets do not fit its egress rules");
    astray.says("ANTHROPIC_BASE_URL").says("add \"elsewhere.example.com\" to rapidclaw.security.allowed_hosts");
    let broken = Project::new("e2e-bad").env("GREETING='no end");
    server.deploy(&broken).exits(3).says(".env");
    assert_eq!(server.rapidclaw(&["status"]).ok().out, "");
    assert!(server.containers().is_empty());
    // An agent that is not there.
    server.rapidclaw(&["status", "nobody"]).fails(1).says("there is no agent \"nobody\"");
    server.rapidclaw(&["keys", "create", "nobody"]).fails(1).says("nobody");
}

#[test]
fn servers_in_each_others_way() {
    let server = Server::start();
    let address = |url: &str| url.strip_prefix("http://").unwrap().to_owned();

    // A port that is taken: by us, or by anybody.
    let other = Machine::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let ports = [
        ("--listen", address(&server.url), "--agents-listen"),
        ("--agents-listen", address(&server.agents_url), "--listen"),
        ("--listen", taken.local_addr().unwrap().to_string(), "--agents-listen"),
    ];
    for (option, address, free) in ports {
        for how in ["run", "start"] {
            other
                .rapidclaw(&["server", how, option, &address, free, "127.0.0.1:0"])
                .fails(1)
                .says(&format!("error: listening on {address}"))
                .says("caused by: Address already in use")
                .says("hint: another program has the port");
        }
    }
    other.rapidclaw(&["server", "status"]).exits(1);
    assert!(!other.data_dir().join("postgres").exists() && is_empty(other.run_dir()));

    // A second server on the same data folder.
    let second = server.rapidclaw(&["server", "run", "--listen=127.0.0.1:0", "--agents-listen=127.0.0.1:0"]).fails(1);
    insta::assert_snapshot!(stable(&second, &server.machine, None), @r"
    error: another server runs on the data folder [DATA]

    hint: `rapidclaw server status` says which; `rapidclaw server stop` stops it
    ");
    server.rapidclaw(&["server", "status"]).ok().prints(&server.url);

    // An address that others reach, in clear.
    let open = other.rapidclaw(&["server", "start", "--listen=0.0.0.0:0", "--agents-listen=127.0.0.1:0"]).fails(2);
    open.says("error: 0.0.0.0:0 is not a loopback address, and there is no TLS").says("--insecure");
    // A data folder that is a file; a provider and a resolve that are none.
    std::fs::write(other.home().join("file"), "").unwrap();
    let file = other.home().join("file");
    other.rapidclaw(&["server", "start", "--data-dir", file.to_str().unwrap()]).fails(1).says("--data-dir");
    other.rapidclaw(&["server", "start", "--provider", "openai"]).exits(2).says("--provider");
    other.rapidclaw(&["server", "start", "--resolve", "a:443:127.0.0.1"]).exits(2).says("loopback");
}

#[test]
fn usage() {
    let machine = Machine::new();
    machine.rapidclaw(&["deplou"]).exits(2).says("deploy");
    machine.rapidclaw(&["deploy", "--timeout", "soon"]).exits(2).says("--timeout");
    machine.rapidclaw(&[]).exits(2).says("Usage: rapidclaw");
    machine.rapidclaw(&["--version"]).ok().prints("rapidclaw ");
    machine.rapidclaw(&["--help"]).ok().prints("Usage: rapidclaw");
    // A reader that goes away is no error.
    let mut command = machine.command();
    let mut child =
        command.args(["completions", "bash"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"), "{output:?}");
}
