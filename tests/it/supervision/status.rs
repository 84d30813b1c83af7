//! What `status` says right after a start, and of an agent whose turns fail.

use super::agent::{project, turn};
use crate::machine::Server;

#[test]
fn a_server_that_has_just_begun_says_starting_and_one_whose_turns_fail_degraded() {
    let server = Server::start();
    let agent = "e2e-states";
    let key = server.deploy(&project(agent, 1)).ok().key();
    let mut seen = Vec::new();
    server.rapidclaw(&["server", "restart"]).ok();
    // The first looks after a restart; at the latest the last of them says running.
    for _ in 0..10 {
        let said = server.rapidclaw(&["status", agent]);
        assert_eq!(said.code(), Some(0), "{said}");
        seen.push(said.out.split(' ').nth(2).unwrap_or_default().to_owned());
    }
    assert!(seen.iter().all(|state| state == "starting" || state == "running"), "{seen:?}");
    server.until_status(agent, &format!("{agent} v1 running"));

    // Scaled to nothing and up again: not failed in between.
    server.rapidclaw(&["scale", agent, "0"]).ok();
    server.until_containers(agent, 0);
    let scaled = server.machine.command().args(["scale", agent, "1"]).spawn().unwrap();
    server.until_containers(agent, 1);
    let said = server.rapidclaw(&["status", agent]);
    assert_eq!(said.code(), Some(0), "{said}");
    let _ = scaled.wait_with_output();

    // Most turns fail.
    for n in 0..6 {
        turn(&server, agent, &key, &format!("t-{n}"), "fail x").problem(500, "run-failed");
    }
    let said = server.rapidclaw(&["status", agent]).exits(1).prints(&format!("{agent} v1 degraded 1 replica"));
    said.says("6 of the last 6 turns failed, most of them with KeyError");
    let json = server.rapidclaw(&["status", agent, "--json"]).exits(1).json();
    let of_agent = &json["agents"][0];
    assert_eq!(
        (of_agent["state"].as_str(), of_agent["runs"].as_i64(), of_agent["failed"].as_i64()),
        (Some("degraded"), Some(6), Some(6))
    );
    // And when they do not any more, it is well.
    for n in 0..7 {
        server.turn(agent, &key, &format!("t-{n}"), "hello");
    }
    server.until_status(agent, &format!("{agent} v1 running"));
}
