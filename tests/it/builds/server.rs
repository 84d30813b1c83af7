//! `deploy --build server`: a machine without Docker Engine, in a network of its own, deploys to a server that has
//! one; what is cut or cancelled leaves nothing.

use crate::machine::{Apart, ECHO, Project, Said, Server, docker_said, said, until, walk};
use serde_json::json;
use std::process::{Child, Command, Stdio};

/// Code of which there is no image from a run before.
fn fresh(code: &str) -> String {
    format!("{code}# {}\n", uuid::Uuid::now_v7())
}

/// What a deploy there says.
fn deploy(apart: &Apart, project: &Project, arguments: &[&str]) -> Said {
    said(apart.command(&["deploy"]).args(arguments).current_dir(project.path()))
}

/// The steps that were made, not found.
fn steps(said: &Said) -> Vec<&str> {
    said.err.lines().filter_map(|line| line.strip_prefix("build ")?.split_once(": ")).map(|(_, title)| title).collect()
}

/// What lies where the server keeps what it builds.
fn scratch(server: &Server) -> Vec<String> {
    let folders = std::fs::read_dir(server.machine.data_dir().join("builds")).unwrap();
    folders.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// Waits until nothing lies there any more.
fn until_cleared(server: &Server) {
    until("nothing is left of the build", || match scratch(server) {
        none if none.is_empty() => Ok(()),
        some => Err(format!("{some:?}")),
    });
}

/// The containers in which a step of these words runs.
fn stages(words: &str) -> Vec<String> {
    let all = docker_said(&["ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.Command}}"]);
    all.lines().filter(|line| line.contains(words)).map(str::to_owned).collect()
}

/// A command that goes on, and what it says meanwhile.
struct Running {
    child: Child,
    err: tempfile::NamedTempFile,
}

impl Running {
    fn begin(mut command: Command) -> Self {
        let err = tempfile::NamedTempFile::new().unwrap();
        let child = command.stdout(Stdio::piped()).stderr(err.reopen().unwrap()).spawn().unwrap();
        Self { child, err }
    }

    fn until_it_says(&self, text: &str) {
        until(text, || match std::fs::read_to_string(self.err.path()).unwrap() {
            said if said.contains(text) => Ok(()),
            said => Err(said),
        });
    }

    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success());
    }

    fn end(self) -> Said {
        let output = self.child.wait_with_output().unwrap();
        let err = std::fs::read_to_string(self.err.path()).unwrap();
        Said::new("deploy", output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned(), err)
    }
}

#[test]
fn a_machine_without_docker_deploys_by_the_server() {
    // Given a server, and a machine that has no engine and no way to anything but that server.
    let server = Server::start();
    let apart = Apart::from(&server);
    let project = Project::new("e2e-sent");
    said(&mut apart.command(&["doctor"])).ok().prints("ok    Docker Engine: ").prints("the server builds");

    // When it deploys, the server builds, by itself, and the same steps are shown.
    said(apart.command(&["deploy", "--build", "local"]).current_dir(project.path()))
        .fails(5)
        .says("or have the server build: --build server");
    let first = deploy(&apart, &project, &[]).ok().says(": the server builds").prints("e2e-sent v1 live in ");
    let key = first.key();
    assert_eq!(server.turn("e2e-sent", &key, "t1", "one"), "hello 1: one");
    until_cleared(&server);

    // The same again sends no file, and is what a build here would make.
    let before = apart.sent();
    deploy(&apart, &project, &[]).ok().prints("e2e-sent v1: nothing changed");
    assert!(apart.sent() - before < 200_000, "{} bytes were sent", apart.sent() - before);
    server.deploy(&project).ok().prints("e2e-sent v1: nothing changed");

    // A line that changes makes one layer.
    project.write("agent.py", &fresh(&ECHO.replace("{len(said)}", "{len(said)}!")));
    deploy(&apart, &project, &["--dry-run", "--exit-code"]).exits(8);
    let changed = deploy(&apart, &project, &["--build", "server"]).ok().prints("e2e-sent v2 live in ");
    assert_eq!(steps(&changed), ["the code"], "{changed}");
    assert_eq!(server.turn("e2e-sent", &key, "t1", "two"), "hello 2!: one");

    // Versions that do not fit: the same words and the same code as where it is built here.
    project.write("requirements.txt", "langgraph>=1.0,<2\nlanggraph-checkpoint==1.0.0\n");
    let error = |said: &Said| said.err[said.err.find("error: ").unwrap()..].to_owned();
    let there = deploy(&apart, &project, &[]).fails(3).says("error: the dependencies do not resolve:\n");
    let here = said(server.machine.command().args(["build"]).current_dir(project.path())).fails(3);
    assert_eq!(error(&there), error(&here));
    let told = deploy(&apart, &project, &["--json"]).exits(3).json();
    assert_eq!((&told["exit"], &told["code"]), (&json!(3), &json!("invalid")), "{told}");
    until_cleared(&server);
    assert_eq!(server.turn("e2e-sent", &key, "t1", "three"), "hello 3!: one");
}

/// Tries the ways out of a step, with the proxy that it is given and without.
const WALLED: &str = "import socket, sys, urllib.request
def tried(name, way):
    try:
        way()
        print('open:', name)
    except OSError as error:
        print('shut:', name, error)
for name, url in [('pypi', 'https://pypi.org/simple/six/'), ('host', 'https://example.com/'),
                  ('metadata', 'http://169.254.169.254/'), ('bridge', 'http://172.17.0.1:4120/'),
                  ('loopback', 'http://127.0.0.1:4120/')]:
    tried(name, lambda: urllib.request.urlopen(url, timeout=20))
for name, to in [('address', ('203.0.113.80', 443)), ('gateway', ('172.17.0.1', 22)), ('link', ('169.254.169.254', 80))]:
    tried(name, lambda: socket.create_connection(to, 5))
sys.exit(1)
";

#[test]
fn builds_wait_for_each_other_and_what_is_cut_or_cancelled_leaves_nothing() {
    let server = Server::with(&["--build-jobs", "1"]);
    let apart = Apart::from(&server);
    // Given a build that takes long.
    let long = Project::new("e2e-cut").set("dockerfile_lines", json!(["RUN echo e2e-cut && sleep 97"]));
    let words = "echo e2e-cut && sleep 97";
    let begin = |project: &Project| {
        let mut command = apart.command(&["deploy", "--build", "server"]);
        command.current_dir(project.path());
        Running::begin(command)
    };
    let is_built =
        || until("the long build", || if stages(words).is_empty() { Err("no step".to_owned()) } else { Ok(()) });
    let is_gone = || {
        until("nothing is left", || {
            let left = [stages(words), scratch(&server)].concat();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        });
    };

    // When its connection is cut, its client says so, and nothing of it is left.
    let cut = begin(&long);
    is_built();
    assert_eq!(scratch(&server).len(), 1);
    apart.cut();
    cut.end().exits(5).says("hint: deploy again when it answers");
    is_gone();

    // Of two the second waits, and is built when the first is cancelled.
    let cancelled = begin(&long);
    is_built();
    let second = Project::new("e2e-second").graph(&fresh(ECHO));
    let waiting = begin(&second);
    waiting.until_it_says("the server builds another image first");
    cancelled.signal("-INT");
    cancelled.end().exits(130);
    waiting.end().ok().prints("e2e-second v1 live in ");
    is_gone();

    // The steps of a build have no network but the way to what packages come from and the agent may reach.
    let lines = json!(["COPY walled.py /walled.py", "RUN python3 /walled.py"]);
    let walled = Project::new("e2e-walled").set("dockerfile_lines", lines);
    walled.write("walled.py", WALLED);
    let failed = deploy(&apart, &walled, &["--build", "server"]).fails(1).says("hint: on the server steps reach PyPI");
    let said = |word: &str| failed.err.lines().filter(|line| line.trim_start().starts_with(word)).count();
    assert_eq!((said("open: pypi"), said("open: "), said("shut: ")), (1, 1, 7), "{failed}");
    let fetched = Project::new("e2e-walled").set("dockerfile_lines", json!(["ADD http://169.254.169.254/ /x"]));
    deploy(&apart, &fetched, &["--build", "server"]).fails(1).says("ADD takes plain files of the project");

    // A server that is killed leaves what the next one removes.
    let killed = begin(&long);
    is_built();
    let mut server = server;
    server.kill();
    killed.end().exits(5);
    assert_eq!(scratch(&server).len(), 1);
    server.start_again();
    assert_eq!(scratch(&server), Vec::<String>::new());
    until("the step of the killed server's build", || match stages(words) {
        none if none.is_empty() => Ok(()),
        some => Err(format!("{some:?}")),
    });
}

#[test]
fn a_server_that_builds_for_nobody_says_so() {
    let server = Server::with(&["--build-jobs", "0"]);
    let project = Project::new("e2e-unbuilt");
    let forced = said(server.machine.command().args(["deploy", "--build", "server"]).current_dir(project.path()));
    forced.fails(1).says("error: the server builds no images");
    let mut without = server.machine.command();
    without.args(["deploy"]).current_dir(project.path()).env("DOCKER_HOST", "unix:///nowhere/docker.sock");
    said(&mut without).fails(5).says("error: no Docker Engine answers at unix:///nowhere/docker.sock");
    assert!(walk(&server.machine.data_dir().join("builds")).is_empty());
}
