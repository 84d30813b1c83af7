//! Registries that keep layers elsewhere, and registries that are away for a moment.

use super::tools::Debian;
use crate::machine::{Machine, Project, said, until};
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;
use std::collections::HashSet;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

fn push(machine: &Machine, project: &Project, host: &str) -> Value {
    let mut build = machine.command();
    build.args(["build", "--push", "--registry", &format!("{host}/team"), "--json"]).current_dir(project.path());
    said(&mut build).ok().json()
}

/// A folder over HTTP, and what was asked of it.
struct Files {
    child: Child,
    log: std::path::PathBuf,
    url: String,
}

impl Files {
    fn serve(folder: &std::path::Path) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let log = folder.join("asked");
        let mut command = Command::new("python3");
        command.args(["-m", "http.server", "--bind", "127.0.0.1", &port.to_string()]).current_dir(folder);
        let child = command.stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
        until("the files are served", || std::net::TcpStream::connect(("127.0.0.1", port)).map_err(|e| e.to_string()));
        Self { child, log, url: format!("http://127.0.0.1:{port}/") }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn layers_that_are_kept_at_another_host_are_found_there() {
    let folder = tempfile::tempdir().unwrap();
    let files = Files::serve(folder.path());
    let registry = Debian::that_redirects(folder, &files.url);
    let (machine, project) = (Machine::new(), Project::new("e2e-redirects"));
    let first = push(&machine, &project, &registry.host);
    assert!(first["pushed_bytes"].as_u64().unwrap() > 1_000_000, "{first}");
    // What is there is not pushed again: its config was read, and its size asked, at the other host.
    let again = push(&machine, &project, &registry.host);
    assert_eq!((&again["pushed"], &again["pushed_bytes"]), (&first["pushed"], &Value::from(0)));
    let asked = std::fs::read_to_string(&files.log).unwrap();
    assert!(asked.contains("GET /docker/registry/v2/blobs/"), "{asked}");
}

/// What was asked once, and the registry behind.
type Unsteady = (Arc<Mutex<HashSet<String>>>, String);

/// The first request of each kind finds nobody, the second one is passed on.
async fn second_time(State((asked, registry)): State<Unsteady>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().map(ToString::to_string).unwrap();
    // An upload has a place of its own at each try.
    let kind = path.split("/uploads/").next().unwrap().to_owned();
    if asked.lock().unwrap().insert(format!("{} {kind}", head.method)) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let client = rapidclaw::base::http::client(std::time::Duration::from_secs(5), None).unwrap();
    let request = client.request(head.method, format!("http://{registry}{path}"));
    let answer = request.headers(head.headers).body(body).send().await.unwrap();
    let (status, headers): (StatusCode, HeaderMap) = (answer.status(), answer.headers().clone());
    let mut passed = Response::new(Body::from(answer.bytes().await.unwrap()));
    *passed.status_mut() = status;
    *passed.headers_mut() = headers;
    passed.headers_mut().remove(header::TRANSFER_ENCODING);
    passed
}

#[test]
fn a_registry_that_is_away_for_a_moment_costs_no_push() {
    let registry = Debian::start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let state: Unsteady = (Arc::default(), registry.host.clone());
    let asked = Arc::clone(&state.0);
    runtime.spawn(async move {
        axum::serve(listener, axum::Router::new().fallback(second_time).with_state(state)).await.unwrap();
    });
    let (machine, project) = (Machine::new(), Project::new("e2e-unsteady"));
    let first = push(&machine, &project, &host);
    assert!(first["pushed_bytes"].as_u64().unwrap() > 1_000_000, "{first}");
    // Whether the config of the first push is at hand depends on how it was built; that of the second one is asked for.
    assert_eq!(push(&machine, &project, &host)["pushed"], first["pushed"]);
    for method in ["HEAD", "POST", "PATCH", "PUT"] {
        let asked = asked.lock().unwrap();
        assert!(asked.iter().any(|one| one.starts_with(method)), "{method}: {asked:?}");
    }
}
