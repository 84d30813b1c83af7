//! Frames that cost more to decode than to send.

use crate::machine::{Project, Server};
use crate::supervision::agent::{project, turn};
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn replicas_that_flood_frames_keep_no_neighbour_from_its_turns() {
    // Given an agent of two replicas, and another that answers in time or not at all,
    let server = Server::start();
    let flooding = server.deploy(&project("e2e-floods", 2)).ok().key();
    let limits = json!({ "run_timeout": "30s" });
    let key = server.deploy(&Project::new("e2e-neighbour").set("rapidclaw.limits", limits)).ok().key();
    let floods = ["one", "two"];
    let flooded = AtomicBool::new(false);
    let (answers, turns) = std::thread::scope(|scope| {
        // when both replicas send what they are granted, frame after frame,
        let (server, flooding, flooded) = (&server, &flooding, &flooded);
        let floods = floods.map(|thread| scope.spawn(move || turn(server, "e2e-floods", flooding, thread, "flood 8")));
        let neighbour = scope.spawn(|| {
            let mut turns = 0;
            while !flooded.load(Ordering::Relaxed) {
                turns += 1;
                // then every turn of the neighbour is answered.
                assert_eq!(server.turn("e2e-neighbour", &key, "t", "hi"), format!("hello {turns}: hi"));
            }
            turns
        });
        let answers = floods.map(std::thread::ScopedJoinHandle::join);
        flooded.store(true, Ordering::Relaxed);
        (answers, neighbour.join().unwrap())
    });
    assert!(turns > 1, "{turns} turns");
    // They were on both replicas, and what they sent was taken.
    let answers = answers.map(|answer| answer.unwrap().ok());
    assert_ne!(answers[0].replica, answers[1].replica);
    for answer in answers {
        let frames: usize = answer.body["result"].as_str().unwrap().split(' ').next().unwrap().parse().unwrap();
        assert!(frames > 20, "{frames} frames");
    }
}
