//! A run that ends its replica is tried alone before it is given up; nobody else notices more than a pause.

use super::agent::{project, turn};
use crate::machine::{Server, until};
use std::sync::atomic::{AtomicBool, Ordering};
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

#[test]
fn five_runs_out_of_memory_at_once_end_themselves_and_no_turn_beside_them() {
    // Given an agent with two replicas, and a client whose turns never stop,
    let server = Server::start();
    let agent = "e2e-greedy-runs";
    let small = project(agent, 2).set("rapidclaw.resources", serde_json::json!({ "memory": "512MiB" }));
    let key = server.deploy(&small).ok().key();
    let (is_over, greedy) = (AtomicBool::new(false), 5);
    let (turns, poisoned) = std::thread::scope(|scope| {
        let (server, key, is_over) = (&server, &key, &is_over);
        let neighbours: Vec<_> = (0..2)
            .map(|n| {
                scope.spawn(move || {
                    let mut turns = 0;
                    loop {
                        let is_last = is_over.load(Ordering::Relaxed);
                        turns += 1;
                        let answer = turn(server, agent, key, &format!("modest-{n}"), "wait 0.2").ok();
                        assert_eq!(answer.body["result"], format!("well {turns}"));
                        if is_last {
                            return turns;
                        }
                    }
                })
            })
            .collect();
        // when five runs take all the memory there is, at once,
        let poison = |n| scope.spawn(move || turn(server, agent, key, &format!("greedy-{n}"), "memory"));
        let poison: Vec<_> = (0..greedy).map(poison).collect();
        let poisoned: Vec<_> = poison.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        is_over.store(true, Ordering::Relaxed);
        (neighbours.into_iter().map(|one| one.join().unwrap()).sum::<i64>(), poisoned)
    });
    // then each of them fails, and no other turn does.
    for poisoned in poisoned {
        let poisoned = poisoned.unwrap();
        assert_eq!(poisoned.status, 500, "{poisoned:?}");
        assert!(poisoned.text.contains("ReplicaLost"), "{poisoned:?}");
    }
    assert!(turns > 2);
    assert_eq!(server.query("SELECT count(*) FROM rapidclaw.runs WHERE status = 'error'"), greedy);
    assert_eq!(server.query("SELECT count(*) FROM rapidclaw.runs WHERE status = 'success'"), turns);
    server.until_status(agent, &format!("{agent} v1"));
}
