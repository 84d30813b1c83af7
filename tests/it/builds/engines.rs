//! Engines are found and spoken to as `docker` does it: over TLS, behind a context; and those that give containers
//! other user ids are met, or named.

use crate::machine::{Authority, BASE, Engine, Machine, Project, Said, dependencies_of, need_docker, said};
use std::path::Path;

/// Builds on the machine, with these variables.
fn build(machine: &Machine, project: &Project, variables: &[(&str, &str)]) -> Said {
    let mut build = machine.command();
    build.arg("build").current_dir(project.path()).env_remove("DOCKER_HOST");
    said(build.envs(variables.iter().copied()))
}

fn certificates(folder: &Path, authority: &Authority, (cert, key): &(std::path::PathBuf, std::path::PathBuf)) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::copy(authority.certificate(), folder.join("ca.pem")).unwrap();
    std::fs::copy(cert, folder.join("cert.pem")).unwrap();
    std::fs::copy(key, folder.join("key.pem")).unwrap();
}

#[test]
fn an_engine_behind_tls_or_a_context_is_found_as_docker_finds_it() {
    need_docker();
    // Given an engine that takes certificates of one authority, with what the project's build needs.
    let project = Project::new("e2e-tls-engine");
    let kept = Machine::new();
    let built = said(kept.command().args(["build", "--json"]).current_dir(project.path())).ok().json();
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new(&folder.path().join("ours")), Authority::new(&folder.path().join("theirs")));
    let (cert, key) = ours.issue("engine", &["IP:127.0.0.1"]);
    let path = |path: &Path| path.display().to_string();
    let options = [
        "--tlsverify".to_owned(),
        format!("--tlscacert={}", path(&ours.certificate())),
        format!("--tlscert={}", path(&cert)),
        format!("--tlskey={}", path(&key)),
        "-H=tcp://127.0.0.1:2376".to_owned(),
    ];
    let engine = Engine::with_options(&options);
    engine.receive(&[BASE, &dependencies_of(built["image"].as_str().unwrap())]);
    let machine = Machine::beside(&engine);
    let (good, bad) = (folder.path().join("good"), folder.path().join("bad"));
    certificates(&good, &ours, &ours.issue("client", &["DNS:client"]));
    certificates(&bad, &theirs, &theirs.issue("client", &["DNS:client"]));
    let (good, bad) = (path(&good), path(&bad));
    let host = ("DOCKER_HOST", "tcp://127.0.0.1:2376");

    // Without certificates, or with those of somebody else, it is said what to do.
    build(&machine, &project, &[host]).fails(5).says("TLS").says("DOCKER_TLS_VERIFY=1");
    let verify = ("DOCKER_TLS_VERIFY", "1");
    build(&machine, &project, &[host, verify, ("DOCKER_CERT_PATH", &bad)]).fails(5).says("are those of this engine");
    let nowhere = folder.path().join("nowhere").display().to_string();
    build(&machine, &project, &[host, verify, ("DOCKER_CERT_PATH", &nowhere)]).fails(5).says("is not there");

    // With its own it builds; and by a context that the docker command has made, current or named.
    build(&machine, &project, &[host, verify, ("DOCKER_CERT_PATH", &good)]).ok().prints("rapidclaw/e2e-tls-engine:");
    let endpoint = format!("host=tcp://127.0.0.1:2376,ca={good}/ca.pem,cert={good}/cert.pem,key={good}/key.pem");
    let docker = |arguments: &[&str]| said(machine.program("docker").args(arguments).env_remove("DOCKER_HOST")).ok();
    docker(&["context", "create", "far", "--docker", &endpoint]);
    build(&machine, &project, &[("DOCKER_CONTEXT", "far")]).ok().prints("(nothing changed)");
    docker(&["context", "use", "far"]);
    build(&machine, &project, &[]).ok().prints("(nothing changed)");
    // One that is not there is named; what names an engine outright comes first.
    build(&machine, &project, &[("DOCKER_CONTEXT", "lost")]).fails(5).says("lost").says("docker context ls");
    let socket = engine.host();
    build(&machine, &project, &[("DOCKER_HOST", &socket)]).ok().prints("(nothing changed)");
}
