//! Images that move: to a server on another Docker Engine, and into other people's registries.

use super::tools::{Debian, PASSWORD, base64};
use crate::machine::{ECHO, Engine, Machine, Project, Said, Server, said};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;

/// Seconds that the phase took, by the line that `deploy` prints.
fn phase(said: &Said, name: &str) -> f64 {
    let words: Vec<&str> = said.out.lines().next().unwrap().split([' ', '(', ')']).collect();
    let at = words.iter().position(|word| *word == name).unwrap_or_else(|| panic!("no {name}: {said}"));
    words[at + 1].parse().unwrap()
}

#[test]
fn a_deploy_reaches_a_server_on_another_engine_and_moves_what_it_lacks() {
    // given a server whose engine has no image at all
    let engine = Engine::start();
    let server = Server::on_engine(&engine.host());
    let project = Project::new("e2e-push");
    // when it is deployed
    let first = server.deploy(&project).ok();
    assert!(phase(&first, "push") > 0.0, "{first}");
    let key = first.key();
    // then it answers from there
    assert_eq!(server.turn("e2e-push", &key, "t1", "one"), "hello 1: one");
    let (_, images) = engine.docker(&["images", "--format", "{{.Repository}}"]);
    assert_eq!(images, "rapidclaw/e2e-push");
    // and the same again moves and changes nothing
    server.deploy(&project).ok().prints("nothing changed");
    // and a changed line moves a small layer, and the rest stays where it is
    let project = project.graph(&ECHO.replace("{len(said)}", "{len(said)}!"));
    let blobs = blobs(&server);
    server.deploy(&project).ok();
    assert_eq!(server.turn("e2e-push", &key, "t1", "two"), "hello 2!: one");
    let new: Vec<u64> =
        self::blobs(&server).into_iter().filter(|blob| !blobs.contains(blob)).map(|blob| blob.1).collect();
    assert_eq!(new.len(), 3, "a layer, a config, a manifest: {new:?}");
    assert!(new.iter().sum::<u64>() < 40_000, "{new:?}");
    // and an image that the engine has forgotten comes back from the registry
    let (_, before) = engine.docker(&["ps", "-aq", "--filter", "label=rapidclaw.version=1"]);
    for container in before.lines() {
        engine.docker(&["rm", "-f", container]);
    }
    let project = project.graph(&ECHO.replace("{len(said)}", "{len(said)}?"));
    server.deploy(&project).ok();
    let (_, all) = engine.docker(&["images", "-q", "--no-trunc"]);
    for image in all.lines() {
        engine.docker(&["rmi", "-f", image]);
    }
    server.rapidclaw(&["rollback", "v1", "--agent", "e2e-push"]).ok();
    assert_eq!(server.turn("e2e-push", &key, "t2", "three"), "hello 1: three");
}

/// Contents of the server's registry: name and bytes.
fn blobs(server: &Server) -> Vec<(String, u64)> {
    crate::machine::walk(&server.machine.data_dir().join("registry/blobs"))
}

#[test]
fn engines_with_one_id_are_told_apart_by_what_they_have() {
    let engine = Engine::copy();
    let server = Server::on_engine(&engine.host());
    let project = Project::new("e2e-copied");
    let first = server.deploy(&project).ok();
    assert_eq!(server.turn("e2e-copied", &first.key(), "t1", "one"), "hello 1: one");
}

#[test]
fn on_one_engine_nothing_is_pushed() {
    let server = Server::start();
    let project = Project::new("e2e-still");
    server.deploy(&project).ok();
    assert_eq!(blobs(&server), []);
    // but an image can be, by itself
    let mut pushing = server.machine.command();
    pushing.args(["build", "--push", "--json"]).current_dir(project.path());
    let built = said(&mut pushing).ok().json();
    let digest = built["pushed"].as_str().unwrap().split('@').nth(1).unwrap().to_owned();
    let token = std::fs::read_to_string(server.machine.data_dir().join("admin-token")).unwrap();
    let url = format!("{}/v2/rapidclaw/e2e-still/manifests/{digest}", server.url);
    let manifest = crate::machine::get(&url, &[("authorization", &format!("Bearer {}", token.trim()))]).ok();
    assert_eq!(manifest.body["config"]["digest"], built["image"]);
    // and once more it moves nothing
    assert_eq!(said(&mut pushing).ok().json()["pushed_bytes"], 0);
}

/// A machine with a Docker login of its own for a registry, by the file or by a helper.
fn logged_in(machine: &Machine, config: &Value, helper: Option<&str>) -> String {
    let folder = machine.home().join(".docker");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let bin = machine.home().join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    if let Some(script) = helper {
        let path = bin.join("docker-credential-e2e");
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    format!("{}:{}", bin.display(), std::env::var("PATH").unwrap())
}

#[test]
fn another_registry_gets_the_image_with_dockers_own_login() {
    // given Debian's registry with a password whose base64 has `+` and `/` in it, and no server of ours
    let debian = Debian::with_password();
    let machine = Machine::new();
    let project = Project::new("e2e-elsewhere");
    let push = |path: &str| {
        let mut build = machine.command();
        build.args(["build", "--push", "--registry", &format!("{}/team", debian.host), "--json"]);
        said(build.env("PATH", path).current_dir(project.path()))
    };
    // when there is no login, or a wrong one: it is said, with what to do
    let path = logged_in(&machine, &serde_json::json!({}), None);
    push(&path).exits(4).says("there is none for it").says(&format!("docker login {}", debian.host));
    let wrong = serde_json::json!({"auths": {debian.host.as_str(): {"auth": base64("ann:wrong")}}});
    let path = logged_in(&machine, &wrong, None);
    push(&path).exits(4).says("refuses the login").hides("ann:wrong");
    // when Docker has one in its file, or a helper has it
    let file = serde_json::json!({"auths": {debian.host.as_str(): {"auth": base64(&format!("ann:{PASSWORD}"))}}});
    let path = logged_in(&machine, &file, None);
    let first = push(&path).ok().json();
    let store = serde_json::json!({"auths": {debian.host.as_str(): {}}, "credsStore": "e2e"});
    let script = format!("#!/bin/sh\ncat >/dev/null\necho '{{\"Username\":\"ann\",\"Secret\":\"{PASSWORD}\"}}'\n");
    let path = logged_in(&machine, &store, Some(&script));
    let second = push(&path).ok().json();
    // then the image is there, under its digest and as the latest, and the second push moved nothing
    assert_eq!(first["pushed"], second["pushed"]);
    assert!(first["pushed_bytes"].as_u64().unwrap() > 1_000_000, "{first}");
    assert_eq!(second["pushed_bytes"], 0);
    let got = crate::machine::get(
        &format!("http://{}/v2/team/e2e-elsewhere/manifests/latest", debian.host),
        &[
            ("authorization", &format!("Basic {}", base64(&format!("ann:{PASSWORD}")))),
            ("accept", "application/vnd.docker.distribution.manifest.v2+json"),
        ],
    );
    assert_eq!(got.ok().body["config"]["digest"], first["image"]);
    // and a helper that fails is named
    let locked = "#!/bin/sh\necho 'the keychain is locked'\nexit 1\n";
    let path = logged_in(&machine, &store, Some(locked));
    push(&path).exits(1).says("the credential helper e2e failed: the keychain is locked");
    // and what is no registry is refused before anything is built
    let mut build = machine.command();
    build.args(["build", "--push", "--registry", "team/agents"]);
    said(build.current_dir(project.path())).fails(2).says("\"team/agents\" is not the name of a registry");
}
