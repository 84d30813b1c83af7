//! The route is right or empty, never stale.

use super::agent::{project, turn};
use crate::machine::Server;

#[test]
fn a_connection_that_breaks_and_is_made_again_is_the_one_that_serves() {
    // Given an agent with one replica, whose code cuts the connection in the middle of its runs,
    let server = Server::start();
    let key = server.deploy(&project("e2e-cut", 1)).ok().key();
    server.turn("e2e-cut", &key, "t", "hello");
    let before = server.containers_of("e2e-cut");
    // when it does so again and again, then each run that cuts goes on and is answered, and so is the next.
    for round in 0..2 {
        let cut = turn(&server, "e2e-cut", &key, &format!("cut-{round}"), &format!("cut {round}")).ok();
        assert_eq!(cut.body["result"], "well 1", "{cut:?}");
        server.turn("e2e-cut", &key, &format!("next-{round}"), "hello");
    }
    server.until_status("e2e-cut", "e2e-cut v1 running 1 replica");
    assert_eq!(server.containers_of("e2e-cut"), before, "no replica was replaced");
}
