//! A run that ends its replica is tried alone before it is given up; nobody else notices more than a pause.

use super::agent::{project, turn};
use crate::machine::{Server, until};
use std::time::{Duration, Instant};

#[test]
fn runs_that_end_their_replica_are_given_up_and_those_beside_them_are_not() {
    // Given an agent with two replicas, and turns that take a while on both,
    let server = Server::start();
    let agent = "e2e-poison";
    let key = server
        .deploy(&project(agent, 2).set("rapidclaw.resources", serde_json::json!({ "memory": "512MiB" })))
        .ok()
        .key();
    for poison in ["exit", "segfault", "memory"] {
        let (done, poisoned) = std::thread::scope(|scope| {
            let neighbours: Vec<_> = (0..4)
                .map(|n| {
                    let (server, key) = (&server, &key);
                    scope.spawn(move || turn(server, agent, key, &format!("{poison}-{n}"), "wait 1.5"))
                })
                .collect();
            until("the neighbours run", || {
                let running = server.query("SELECT count(*) FROM rapidclaw.runs WHERE status = 'running'");
                if running == 4 { Ok(()) } else { Err(format!("{running}")) }
            });
            // when one of them ends what it runs on,
            let poisoned = turn(&server, agent, &key, &format!("poison-{poison}"), poison);
            (neighbours.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>(), poisoned)
        });
        // then it fails, and only it, however it has done it;
        assert_eq!(poisoned.status, 500, "{poison}: {poisoned:?}");
        assert!(poisoned.text.contains("ReplicaLost"), "{poison}: {poisoned:?}");
        for answer in done {
            assert_eq!(answer.ok().body["result"], "well 1", "{poison}");
        }
        // and the replicas that it has ended are replaced at once.
        let began = Instant::now();
        server.until_status(agent, &format!("{agent} v1 running 2 replicas"));
        assert!(began.elapsed() < Duration::from_secs(20), "{poison}: {:?}", began.elapsed());
    }
    assert_eq!(server.query("SELECT count(*) FROM rapidclaw.runs WHERE status = 'error'"), 3);
    assert_eq!(server.query("SELECT count(*) FROM rapidclaw.runs WHERE losses > 0 AND status = 'success'"), 0);
}
