//! Rollouts that fail: exit 6, the replica's own last lines, nothing left behind, and what served before serves.

use crate::machine::{self, ECHO, Project, Said, Server, docker, docker_said, said, until};
use serde_json::json;
use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

/// A value that a careless graph prints: it must be blotted out wherever it turns up.
const SECRET: &str = "tok-e2e-7f3a9c51-print-me-not";

fn project(name: &str, graph: &str) -> Project {
    Project::new(name).graph(graph).env(&format!("GREETING=hello\nCARELESS={SECRET}\n"))
}

/// What every failed rollout has in common.
#[track_caller]
fn failed(server: &Server, said: Said, wanted: &[&str]) -> Said {
    let said = said.exits(6).hides(SECRET);
    let errors = said.err.lines().filter(|line| line.starts_with("error: ")).count();
    assert_eq!(errors, 1, "{said}");
    for text in wanted {
        assert!(said.err.contains(text), "{text:?} is not in stderr: {said}");
    }
    assert!(!server.log().contains(SECRET), "the server's log holds a secret");
    said
}

#[test]
fn a_first_release_that_cannot_be_imported_leaves_nothing_behind() {
    let server = Server::start();
    let careless = project(
        "e2e-first",
        &format!("import os\nprint(os.environ['CARELESS'], flush=True)\nimport no_such_module\n{ECHO}"),
    );

    // When the first deploy fails, its key is shown all the same: it is not shown again.
    let said = failed(
        &server,
        server.deploy(&careless),
        &[
            "error: graph agent: ModuleNotFoundError: No module named 'no_such_module'",
            "the replica's last lines:",
            "***",
            "/deps/app/agent.py",
            "nothing serves",
        ],
    );
    let key = said.key();

    // Then no container and no folder is left, and `status` says why.
    server.until_containers("e2e-first", 0);
    until("no folder of a replica", || match server.replica_folders() {
        folders if folders.is_empty() => Ok(()),
        folders => Err(format!("{folders:?}")),
    });
    let status = server.rapidclaw(&["status", "e2e-first"]).exits(1).says("ModuleNotFoundError").hides(SECRET);
    assert_eq!(status.out, "e2e-first v1 failed 0 replicas p95=- $-/turn\n");
    let answer = machine::get(&format!("{}/agents/e2e-first/healthz", server.agents_url), &[]);
    assert_eq!(answer.status, 503);

    // And the mended project goes on from there, with the same key.
    server.deploy(&careless.graph(ECHO)).ok().prints("e2e-first v2 live in ").hides("key: ");
    assert_eq!(server.turn("e2e-first", &key, "t", "hi"), "hello 1: hi");
}

#[test]
fn what_served_before_serves_through_every_kind_of_failure() {
    let server = Server::start();
    let name = "e2e-fragile";
    let key = server.deploy(&project(name, ECHO)).ok().key();
    let serving = server.until_containers(name, 1);
    let mut turns = 0;
    let mut still_serves = |kind: &str| {
        turns += 1;
        assert_eq!(server.turn(name, &key, "t", "hi"), format!("hello {turns}: hi"), "after {kind}");
        until("the failed release's replicas are gone", || match server.containers_of(name) {
            now if now == serving => Ok(()),
            now => Err(format!("{now:?}")),
        });
        server.until_status(name, &format!("{name} v1 running 1 replica "));
    };
    let leak = "import os\nprint('about to fail with', os.environ['CARELESS'], flush=True)\n";
    let kinds: [(&str, String, &[&str]); 5] = [
        (
            "a crash at start",
            format!("{leak}graph = None\nraise RuntimeError('bad value ' + os.environ['CARELESS'])\n"),
            &["error: graph agent: RuntimeError: bad value ***", "about to fail with ***", "v1 still serves"],
        ),
        (
            "no graph of that name",
            format!("{leak}globals()['another'] = 5\n"),
            &["error: graph agent: AttributeError", "v1 still serves"],
        ),
        (
            "an exit",
            format!("{leak}graph = None\nos._exit(7)\n"),
            &["error: a replica ended with code 7 before it was ready", "about to fail with ***", "v1 still serves"],
        ),
        (
            "a variable that is not there",
            format!("{leak}graph = os.environ['DATABASE_URL']\n"),
            &["error: ", "DATABASE_URL", "\"database\": true", "v1 still serves"],
        ),
        (
            "too many lines",
            format!(
                "{leak}graph = None\nfor number in range(200): print(f'line {{number}}', flush=True)\nos._exit(9)\n"
            ),
            &["line 199", "line 151", "with code 9"],
        ),
    ];
    for (kind, graph, wanted) in kinds {
        // It asks for no database, whatever its code reads.
        let project = project(name, &graph).set("rapidclaw.database", false.into());
        let said = failed(&server, server.deploy(&project), wanted).hides("key: ");
        assert_eq!(said.out, "", "{said}");
        assert!(!said.err.contains("line 149\n"), "more than 50 lines: {said}");
        still_serves(kind);
    }
}

#[test]
fn an_image_for_another_processor_is_refused_before_anything_starts() {
    // Given a release that serves, and an image of the next one that says it is for another processor.
    let server = Server::start();
    let name = "e2e-processor";
    let key = server.deploy(&project(name, ECHO)).ok().key();
    let serving = server.until_containers(name, 1);
    let next = project(name, &format!("{ECHO}# {}\n", uuid::Uuid::now_v7()));
    let built = said(server.machine.command().args(["build", "--json"]).current_dir(next.path())).ok().json();
    let (image, tag) = (built["image"].as_str().unwrap(), built["tag"].as_str().unwrap());
    let own = docker_said(&["image", "inspect", "-f", "{{.Architecture}}", image]);
    let other = if own == "arm64" { "amd64" } else { "arm64" };
    // Its config is all that is changed; without a name it is loaded beside the other.
    let change = format!(
        "docker save {image} | LC_ALL=C sed 's/\"architecture\":\"{own}\"/\"architecture\":\"{other}\"/' | docker load -q"
    );
    let loaded = Command::new("bash").args(["-o", "pipefail", "-c", &change]).output().unwrap();
    let foreign = String::from_utf8(loaded.stdout).unwrap().trim().trim_start_matches("Loaded image ID: ").to_owned();
    assert_eq!(docker_said(&["image", "inspect", "-f", "{{.Architecture}}", &foreign]), other, "{change}");
    docker_said(&["tag", &foreign, tag]);

    // When it is deployed, then it is refused with what is wrong, no replica is started, and what serves serves.
    let said = server.deploy(&next);
    docker(&["rmi", "-f", tag, image]);
    said.fails(1)
        .says("the image is for another processor")
        .says(&format!("is for {other}"))
        .says(&format!("runs on {own}"));
    assert_eq!(server.containers_of(name), serving);
    server.until_status(name, &format!("{name} v1 running 1 replica "));
    assert_eq!(server.turn(name, &key, "t", "hi"), "hello 1: hi");
    assert_eq!(server.query("SELECT count(*) FROM rapidclaw.rollouts"), 1);
}

#[test]
fn a_replica_without_memory_or_without_end_is_given_up() {
    let server = Server::start();
    let name = "e2e-slow";
    let key = server.deploy(&project(name, ECHO)).ok().key();

    // Out of memory while its graph is imported.
    let hungry =
        format!("print('eating', flush=True)\nfood = [bytes(range(256)) * 4096 * 64 for _ in range(64)]\n{ECHO}");
    let hungry = project(name, &hungry).set("rapidclaw.resources", json!({ "memory": "256MiB" }));
    failed(
        &server,
        server.deploy(&hungry),
        &["error: a replica ran out of memory", "eating", "hint: give it more", "v1 still serves"],
    );

    // Never ready: given up when its time is over, not before and not much later.
    let endless = project(name, "import time\ngraph = None\nprint('waiting', flush=True)\ntime.sleep(3600)\n");
    let endless = endless.set("rapidclaw.rollout", json!({ "ready_timeout": "8s" }));
    let began = Instant::now();
    failed(
        &server,
        server.deploy(&endless),
        &["error: a replica was not ready within 8 s", "waiting", "ready_timeout", "v1 still serves"],
    );
    assert!(began.elapsed() >= Duration::from_secs(8), "{:?}", began.elapsed());

    // One that takes longer than `--timeout` is left to itself: exit 7, and it ends as it must.
    let said = server.deploy_with(&endless, &["--timeout", "1"]);
    said.exits(7).says("error: the rollout takes longer, and goes on").says("rapidclaw status");
    // Meanwhile there is no other deploy.
    server.deploy(&project(name, ECHO)).fails(1).says("a rollout of this agent is under way");
    server.until_status(name, &format!("{name} v1 running 1 replica "));
    server.until_containers(name, 1);
    assert_eq!(server.turn(name, &key, "t", "hi"), "hello 1: hi");

    // A server that is killed in the middle of a rollout ends it when it comes back.
    let mut server = server;
    server.deploy_with(&endless, &["--detach"]).ok().prints("is being rolled out");
    server.until_containers(name, 2);
    server.kill();
    server.start_again();
    server.until_status(name, &format!("{name} v1 running 1 replica "));
    server.until_containers(name, 1);
    assert_eq!(server.turn(name, &key, "t", "hi"), "hello 2: hi");
    server.rapidclaw(&["destroy", name, "--yes"]).ok();
    assert_eq!(server.containers(), BTreeSet::new());
}
