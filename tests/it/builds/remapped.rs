//! An engine whose containers have other users than the machine (`userns-remap`).

use crate::machine::{Engine, Machine, Project, Server, said};

#[test]
fn replicas_on_an_engine_with_users_of_its_own_answer_as_anywhere() {
    let project = Project::new("e2e-remapped");
    let built = said(Machine::new().command().args(["build", "--json"]).current_dir(project.path())).ok().json();
    let engine = Engine::remapped_for_builds_of(built["image"].as_str().unwrap());
    let server = Server::on_engine(&engine.host());
    let deploy =
        said(server.machine.command().arg("deploy").current_dir(project.path()).env("DOCKER_HOST", engine.host()));
    let key = deploy.ok().key();
    assert_eq!(server.turn("e2e-remapped", &key, "t", "hi"), "hello 1: hi");
    let (is_there, users) = engine.docker(&["info", "--format", "{{json .SecurityOptions}}"]);
    assert!(is_there && users.contains("name=userns"), "{users}");
    let doctor = said(server.machine.command().arg("doctor").env("DOCKER_HOST", engine.host()));
    assert!(doctor.out.contains("(the one of DOCKER_HOST), with users of its own (userns-remap)"), "{doctor}");
}
