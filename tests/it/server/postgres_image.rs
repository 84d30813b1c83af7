//! The managed Postgres out of the official image, on a machine that has neither its programs nor its user.

use crate::machine::{BASE, Engine, Machine, Project, Server, docker_said, need_docker, said, said_with_stdin, until};
use std::collections::BTreeSet;
use std::process::Command;

/// Where no registry is: an image with the official one's contract, made from Debian's packages. `initdb`, `postgres`
/// and its clients are on its PATH; its user is 999; its entrypoint is not wanted, and says so.
const OFFICIAL: &str = r#"
RUN apt-get update && apt-get install -y --no-install-recommends postgresql-common \
 && sed -i 's/^#create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf \
 && apt-get install -y --no-install-recommends postgresql-17 && usermod -u 999 postgres \
 && printf '#!/bin/sh\necho "the entrypoint was run"; exit 1\n' >/usr/local/bin/docker-entrypoint.sh \
 && chmod +x /usr/local/bin/docker-entrypoint.sh \
 && rm -rf /var/lib/apt/lists/* /usr/lib/*/libLLVM* /usr/lib/postgresql/17/lib/bitcode /usr/share/doc
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/postgresql/17/bin
ENV PGDATA=/var/lib/postgresql/data
VOLUME /var/lib/postgresql/data
STOPSIGNAL SIGINT
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["postgres"]
"#;
const MADE: &str = "rapidclaw-e2e-postgres:17";
/// What the server asks for by itself.
const IMAGE: &str = "postgres:17";
const AGENT: &str = "e2e-pgimage";

/// On the test's own engine, once for all runs.
fn official_image() {
    let mut build = Command::new("docker");
    build.args(["build", "-q", "-t", MADE, "-"]).env("DOCKER_BUILDKIT", "0");
    said_with_stdin(&mut build, &format!("FROM {BASE}{OFFICIAL}")).ok();
}

/// Containers by what the engine says of them in this form.
fn containers(engine: &Engine, form: &str, filter: &str) -> BTreeSet<String> {
    let (_, said) = engine.docker(&["ps", "-a", "--no-trunc", "--format", form, "--filter", filter]);
    said.lines().map(str::to_owned).collect()
}

#[test]
fn postgres_comes_from_its_image_where_the_machine_has_none() {
    // Given a machine with an engine and a project, without Postgres, and without a way to any registry.
    need_docker();
    official_image();
    let project = Project::new(AGENT);
    let kept = Machine::new();
    let built = said(kept.command().args(["build", "--json"]).current_dir(project.path())).ok().json();
    let mut engine = Engine::for_builds_of(built["image"].as_str().unwrap());
    let machine = Machine::beside(&engine).without_postgres();

    // When a server is started, it says what is missing, and what to do.
    let listen = ["server", "start", "--listen=127.0.0.1:0", "--agents-listen=127.0.0.1:0"];
    let missing = machine.rapidclaw(&listen).fails(5).says("no Postgres on this machine");
    let missing = missing.says("the image postgres:17 cannot be used").says("`docker pull postgres:17`");
    missing.says("apt-get install postgresql").says("--postgres-image").says("DATABASE_URL");
    machine.rapidclaw(&["doctor"]).prints("none on this machine; postgres:17 is not in the engine");
    let other = machine.rapidclaw(&[&listen[..], &["--postgres-image", BASE]].concat()).fails(5);
    other.says(&format!("the image {BASE}"));

    // When the engine has the image, and runs what is somebody else's,
    engine.receive(&[MADE]);
    assert!(engine.docker(&["tag", MADE, IMAGE]).0);
    assert!(engine.docker(&["rmi", MADE]).0);
    let bystander = engine.docker(&["run", "-d", "--network=none", "--entrypoint=sleep", IMAGE, "infinity"]).1;
    machine.rapidclaw(&["doctor"]).prints("postgres:17 is in the engine");
    let at = ["127.0.0.1:4120", "127.0.0.1:4121"];
    let mut server = Server::listening(machine, at, &[], &[]);
    // then the server starts with it: no network, no rights, nobody's files but its own, and no secret anywhere.
    let label = format!("label=rapidclaw.postgres={}", server.machine.data_dir().join("postgres").display());
    let postgres = containers(&engine, "{{.ID}} {{.Image}}", &label);
    assert_eq!(postgres.len(), 1, "{postgres:?}");
    let (id, image) = postgres.first().unwrap().split_once(' ').unwrap();
    assert_eq!(image, IMAGE);
    let form = "{{.HostConfig.NetworkMode}} {{.HostConfig.CapDrop}} {{.HostConfig.ReadonlyRootfs}} {{.Config.User}}";
    assert_eq!(engine.docker(&["inspect", "-f", form, id]).1, "none [ALL] true 59432:59432");
    let whole = engine.docker(&["inspect", id]).1.to_lowercase();
    assert!(!whole.contains("password") && !whole.contains("secret"), "{whole}");
    // An agent is deployed and answers.
    let key = server.deploy(&project).ok().key();
    let turn = |server: &Server, message: &str| {
        let body = format!("{{\"thread_id\":\"t\",\"user_id\":\"u\",\"message\":\"{message}\"}}");
        let mut curl = server.machine.program("curl");
        curl.args([
            "-sS",
            "--fail-with-body",
            "-H",
            &format!("x-api-key: {key}"),
            "-H",
            "content-type: application/json",
        ]);
        let url = format!("{}/agents/{AGENT}/v1/chat", server.agents_url);
        said(curl.args(["--max-time", "60", "-d", &body, &url])).ok().json()["result"].as_str().unwrap().to_owned()
    };
    assert_eq!(turn(&server, "one"), "hello 1: one");

    // When its container is killed, another is started on the same data.
    assert!(engine.docker(&["kill", id]).0);
    until("the kept Postgres", || match server.log() {
        log if log.contains("the managed Postgres runs again") => Ok(()),
        log => Err(log),
    });
    assert_eq!(turn(&server, "two"), "hello 2: one");
    let second = containers(&engine, "{{.ID}}", &label);
    assert!(second.len() == 1 && !second.contains(id), "{second:?}");
    // When the server is killed and started again, the one that runs is adopted; so it is at a planned restart.
    server.kill();
    server.start_again();
    assert_eq!(turn(&server, "three"), "hello 3: one");
    server.rapidclaw(&["server", "restart"]).ok();
    assert_eq!((turn(&server, "four"), containers(&engine, "{{.ID}}", &label)), ("hello 4: one".to_owned(), second));

    // A backup is written and read by the image's programs.
    let file = server.machine.home().join("backup");
    server.rapidclaw(&["server", "backup", file.to_str().unwrap()]).ok();
    let (restored, key_file) =
        (server.machine.home().join("restored"), server.machine.data_dir().with_extension("key"));
    let arguments =
        ["server", "restore", file.to_str().unwrap(), "--key-file", key_file.to_str().unwrap(), "--data-dir"];
    server.rapidclaw(&[&arguments[..], &[restored.to_str().unwrap()]].concat()).ok();
    assert!(restored.join("postgres/data/PG_VERSION").is_file());

    // When the server is stopped, of Postgres' containers nothing is left, and nothing else is gone.
    server.rapidclaw(&["server", "stop"]).ok();
    until("no container of Postgres", || match containers(&engine, "{{.Names}}", "label=rapidclaw.postgres") {
        found if found.is_empty() => Ok(()),
        found => Err(format!("{found:?}")),
    });
    let others = containers(&engine, "{{.ID}} {{.State}}", "status=running");
    assert_eq!(others, BTreeSet::from([format!("{bystander} running")]));
    assert!(engine.docker(&["image", "inspect", IMAGE]).0);
    // The volume that the image declares is the bystander's alone.
    assert_eq!(engine.docker(&["volume", "ls", "-q"]).1.lines().count(), 1);
    // Started again, all is there.
    server.start_again();
    server.until_status(AGENT, "e2e-pgimage v1 running 1 replica ");
    assert_eq!(turn(&server, "five"), "hello 5: one");
    // An engine that dies takes it along, and when it is back, all goes on.
    let last = containers(&engine, "{{.ID}}", &label);
    engine.kill();
    engine.start_again();
    until("Postgres out of the engine that is back", || {
        match (containers(&engine, "{{.ID}}", &label), server.rapidclaw(&["status"])) {
            (now, said) if now.len() == 1 && now != last && said.code() == Some(0) => Ok(()),
            (now, said) => Err(format!("{now:?} {said}; {}", server.log())),
        }
    });
    server.until_status(AGENT, "e2e-pgimage v1 running 1 replica ");
    assert_eq!(turn(&server, "six"), "hello 6: one");
    server.rapidclaw(&["destroy", AGENT, "--yes"]).ok();
    docker_said(&["image", "inspect", "-f", "{{.Id}}", MADE]);
}
