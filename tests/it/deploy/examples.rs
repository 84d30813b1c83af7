//! Every example of manifests/ goes to production: deployed with the real binary, asked, changed, destroyed.
//! (manifests/example, which needs a model, is in deploy.rs.)

use crate::machine::{Project, Said, Server, docker_said, repository};
use serde_json::json;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A copy of an example, to be changed.
struct Example {
    folder: TempDir,
    name: &'static str,
}

impl Example {
    fn of(name: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy(&repository().join("manifests").join(name), folder.path());
        Self { folder, name }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    fn deploy(&self, server: &Server) -> Said {
        server.rapidclaw(&["deploy", "--manifest", self.path("langgraph.json").to_str().unwrap()])
    }

    /// Changes one line of the code.
    fn change(&self, file: &str) {
        let text = std::fs::read_to_string(self.path(file)).unwrap();
        // As it never was: else the image would be there.
        std::fs::write(self.path(file), format!("{text}\n# {}\n", rapidclaw::base::ids::new_id())).unwrap();
    }

    /// The image of a release that has replicas.
    fn image(&self, server: &Server, version: u32) -> String {
        let [of_server, of_agent, of_version] =
            [("server", server.id.clone()), ("agent", self.name.to_owned()), ("version", version.to_string())]
                .map(|(name, value)| format!("label=rapidclaw.{name}={value}"));
        let filters = ["--filter", &of_server, "--filter", &of_agent, "--filter", &of_version];
        let found = server.machine.docker_lines(&[&["ps", "-q"], &filters[..]].concat());
        docker_said(&["inspect", "-f", "{{.Image}}", found.first().unwrap()])
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn layers(image: &str) -> Vec<String> {
    serde_json::from_str(&docker_said(&["image", "inspect", "-f", "{{json .RootFS.Layers}}", image])).unwrap()
}

/// Deploys an example with one line changed: the same key, and of the image only the code is another.
fn code_comes_last(server: &Server, example: &Example, file: &str) {
    let first = example.image(server, 1);
    example.change(file);
    example.deploy(server).ok().prints(&format!("{} v2 live in ", example.name)).hides("key: ");
    let second = example.image(server, 2);
    let history = docker_said(&["history", "--format", "{{.CreatedBy}}", &second]);
    assert!(history.starts_with("rapidclaw: the code"), "{history}");
    let (one, other) = (layers(&first), layers(&second));
    assert_eq!(one.len(), other.len());
    assert_eq!(one[..one.len() - 1], other[..one.len() - 1]);
    assert_ne!(one.last(), other.last());
}

#[test]
fn the_tutorials_project_opens_its_own_database_at_import() {
    // Given the tutorial's project, whose graph cannot be imported without DATABASE_URL.
    let server = Server::start();
    let example = Example::of("tutorial");
    let databases = "SELECT count(*) FROM pg_database d JOIN pg_roles r ON r.rolname = d.datname WHERE datname LIKE 'agent\\_%' AND NOT rolsuper";
    assert_eq!(server.query(databases), 0);

    // When it is deployed it has a database, and nothing is "not enforced".
    let key = example.deploy(&server).ok().prints("tutorial v1 live in ").hides("rapidclaw.database").key();
    assert_eq!(server.query(databases), 1);
    let said = |message: &str| server.turn("tutorial", &key, "t", message);
    assert_eq!(said("My printer is broken"), "Ticket 1 is filed: My printer is broken");
    assert_eq!(said("Hello"), "Tell me what is broken, or ask for your tickets.");

    // What it holds outlives replicas and releases; a restart of the server cuts no connection.
    code_comes_last(&server, &example, "agent.py");
    server.rapidclaw(&["server", "restart"]).ok();
    assert_eq!(said("Which tickets do I have?"), "Your tickets: 1: My printer is broken");

    // The password is nowhere to be seen: the log blots it out, the container's own description has none.
    let folder = server.replica_folders().pop().unwrap();
    let replica = std::fs::read_to_string(folder.join("s/replica.json")).unwrap();
    let url = replica.split("postgresql://").nth(1).unwrap();
    let password = url.split([':', '@']).nth(1).unwrap();
    assert_eq!(password.len(), 64, "{url}");
    for container in server.containers_of("tutorial") {
        assert!(!docker_said(&["inspect", &container]).contains(password));
    }
    assert!(!server.log().contains(password));
    server.rapidclaw(&["secrets", "list", "tutorial"]).ok().hides("DATABASE_URL");

    // Destroyed with the agent, open connections or not.
    server.rapidclaw(&["destroy", "tutorial", "--yes"]).ok();
    assert_eq!(server.query(databases), 0);
}

#[test]
fn several_graphs_in_one_manifest_share_an_agent() {
    let server = Server::start();
    let example = Example::of("several");
    let key = example.deploy(&server).ok().prints("several v1 live in ").key();
    let ask = |graph: &str, thread: &str| {
        let body = json!({ "thread_id": thread, "user_id": "ada", "message": "abc", "graph": graph });
        server.chat("several", &key, &body)
    };
    for (graph, wanted) in [("reverse", "cba"), ("count", "message 1"), ("double", "abc abc")] {
        assert_eq!(ask(graph, graph).ok().body["result"], wanted);
    }
    assert_eq!(ask("count", "count").ok().body["result"], "message 2");
    // Which graph, has to be said.
    let body = json!({ "thread_id": "t", "user_id": "ada", "message": "abc" });
    let refused = server.chat("several", &key, &body);
    assert_eq!(refused.status, 422);
    assert!(["reverse", "count", "double"].iter().all(|name| refused.body.to_string().contains(name)), "{refused:?}");
    code_comes_last(&server, &example, "agents/words.py");
}

#[test]
fn a_package_under_src_is_installed_by_its_lock() {
    let server = Server::start();
    let example = Example::of("src-layout");
    let key = example.deploy(&server).ok().prints("src-layout v1 live in ").key();
    let answer = server.turn("src-layout", &key, "t", "Three days from 2026-11-22, please");
    assert_eq!(answer, "itinerary 0.3.0: Sunday 22 November, Monday 23 November, Tuesday 24 November");
    // The versions are the lock's.
    let locked = std::fs::read_to_string(example.path("uv.lock")).unwrap();
    let script = "import importlib.metadata as m; print(m.version('langgraph'), m.version('python-dateutil'))";
    let image = example.image(&server, 1);
    let found = docker_said(&["run", "--rm", "--network", "none", &image, "/opt/venv/bin/python", "-c", script]);
    for (name, version) in ["langgraph", "python-dateutil"].into_iter().zip(found.split_whitespace()) {
        assert!(locked.contains(&format!("name = \"{name}\"\nversion = \"{version}\"")), "{name} {version}");
    }
    code_comes_last(&server, &example, "src/itinerary/days.py");
}

#[test]
fn a_factory_with_a_context_manager_is_called_for_each_run() {
    let server = Server::start();
    let example = Example::of("factory");
    let key = example.deploy(&server).ok().prints("factory v1 live in ").key();
    let first = server.turn("factory", &key, "one", "hello");
    let closed = |answer: &str| answer.rsplit(' ').next().unwrap().parse::<u32>().unwrap();
    assert!(first.starts_with("opened for ") && first.contains("; closed before: "), "{first}");
    let second = server.turn("factory", &key, "two", "hello");
    assert_eq!(closed(&second), closed(&first) + 1, "{first} / {second}");
    code_comes_last(&server, &example, "agent.py");
}

#[test]
fn what_cannot_run_there_is_refused_before_anything_is_built() {
    let server = Server::start();
    let engine = server.rapidclaw(&["whoami", "--json"]).ok().json()["server"]["engine"]["architecture"].clone();
    let other = if engine == "amd64" { "linux/arm64" } else { "linux/amd64" };
    let project = Project::new("e2e-refused");
    server
        .deploy_with(&project, &["--platform", other])
        .fails(2)
        .says(&format!("--platform {other}: the server runs images for linux/{}", engine.as_str().unwrap()));
    // JavaScript is validated whole, and said to be for later in one line.
    let project = project.set("graphs", json!({ "agent": "./agent.ts:graph" }));
    project.write("agent.ts", "export const graph = 1;\n");
    server.deploy(&project).fails(2).says("graph agent is JavaScript, which is validated and not deployed yet");
    project.write("package.json", r#"{"engines": {"node": ">=20"}}"#);
    server.deploy(&project).exits(3).says("error[node-engine]").says("`engines.node` of package.json must be a major");
    assert!(server.containers_of("e2e-refused").is_empty());
}
