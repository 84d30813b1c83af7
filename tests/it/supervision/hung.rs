//! A replica that is there and gets nowhere is replaced; what was on it goes on elsewhere.

use super::agent::{project, turn};
use crate::machine::{Server, until};
use serde_json::json;

/// Waits until none of the agent's containers is one of those, and the one there is ready. Half of this agent's
/// turns fail, so that its status may say `degraded` besides.
fn until_replaced(server: &Server, agent: &str, before: &std::collections::BTreeSet<String>) {
    until("another replica", || match server.containers_of(agent) {
        found if !found.is_empty() && found.is_disjoint(before) => Ok(()),
        found => Err(format!("{found:?}; {}", server.status(agent))),
    });
    until("a ready replica", || match server.status(agent) {
        status if status.contains(" 1 replica ") => Ok(()),
        status => Err(status),
    });
}

#[test]
fn replicas_that_hang_are_replaced_and_the_log_names_the_run() {
    let server = Server::start();
    let agent = "e2e-hung";
    let project = project(agent, 1).set("rapidclaw.limits", json!({ "run_timeout": "4s" }));
    let key = server.deploy(&project).ok().key();

    // A loop that holds the interpreter, and one that holds the event loop alone: their runs end by their time, the
    // replica by never moving again.
    for (word, said) in [("regex", "well 1"), ("spin", "well 2")] {
        let before = server.containers_of(agent);
        let answer = turn(&server, agent, &key, word, word).problem(504, "run-timeout");
        until_replaced(&server, agent, &before);
        assert_eq!(server.turn(agent, &key, "t", "hello"), said);
        // Who looks at the run, or at the agent, is told that it was this one.
        let run = answer.body["run_id"].as_str().unwrap();
        let shown = server.rapidclaw(&["runs", "show", run]).ok().prints("its replica was replaced: nothing has moved");
        let status = server.rapidclaw(&["status", agent]).says("a replica was replaced: ").says(&format!("run {run}"));
        if word == "spin" {
            shown.prints("node \"act\", /deps/app/agent.py:");
            status.says("node \"act\", /deps/app/agent.py:");
        }
    }
    let log = server.log();
    assert!(log.lines().any(|line| line.contains("a replica is hung") && line.contains("run_id=Some")), "{log}");

    // A runner that a signal has stopped: its supervisor says so.
    let before = server.containers_of(agent);
    turn(&server, agent, &key, "stopped", "stop").problem(504, "run-timeout");
    until_replaced(&server, agent, &before);
    assert_eq!(server.turn(agent, &key, "t", "hello"), "well 3");

    // Sockets that are gone, and a connection that breaks: nobody can come back to it.
    let before = server.containers_of(agent);
    server.turn(agent, &key, "unlinked", "unlink");
    turn(&server, agent, &key, "cut", "cut once");
    until_replaced(&server, agent, &before);
    assert_eq!(server.turn(agent, &key, "t", "hello"), "well 4");
}

#[test]
fn a_long_computation_is_no_death() {
    let server = Server::start();
    let agent = "e2e-computes";
    let key = server.deploy(&project(agent, 1)).ok().key();
    let before = server.containers_of(agent);
    assert_eq!(server.turn(agent, &key, "t", "sleep 25"), "well 1");
    assert_eq!(server.containers_of(agent), before);
}
