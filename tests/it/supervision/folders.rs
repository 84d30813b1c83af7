//! The folder that a replica may write to: what it does there harms nobody else.

use super::agent::project;
use crate::machine::{Server, said};

#[test]
fn a_replica_that_fills_its_folder_harms_nobody_and_lives_through_a_restart() {
    // Given two agents, one of which has filled its folder to the last byte,
    let server = Server::start();
    let greedy = server.deploy(&project("e2e-greedy", 1)).ok().key();
    let result = server.turn("e2e-greedy", &greedy, "t", "fill");
    assert!(result.contains("No space left on device"), "the folder has a bound: {result}");
    let files: usize = result.split(' ').next().unwrap().parse().unwrap();
    assert!(files < 200, "and the bound is small: {result}");
    let containers = server.containers_of("e2e-greedy");

    // when another is deployed beside it, and the server is replaced,
    let modest = server.deploy(&project("e2e-modest", 1)).ok().key();
    server.rapidclaw(&["server", "restart"]).ok();
    // then both serve, by the replicas they had.
    assert_eq!(server.turn("e2e-greedy", &greedy, "t", "hello"), "well 2");
    assert_eq!(server.turn("e2e-modest", &modest, "t", "hello"), "well 1");
    assert_eq!(server.containers_of("e2e-greedy"), containers);

    // What it was is gone with it: folder, files and file system.
    let folders = server.replica_folders();
    said(server.machine.command().args(["destroy", "e2e-greedy", "--yes"])).ok();
    let left: Vec<_> = folders.into_iter().filter(|folder| folder.exists()).collect();
    assert_eq!(left.len(), 1, "{left:?}");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let own = server.machine.run_dir().to_str().unwrap().to_owned();
    let mounted: Vec<&str> = mounts.lines().filter(|line| line.contains(&own)).collect();
    assert!(mounted.iter().all(|line| line.contains(left[0].to_str().unwrap())), "{mounted:?}");
}
