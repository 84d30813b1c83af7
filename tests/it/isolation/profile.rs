//! What the kernel does for a replica.

use crate::machine::Server;
use crate::supervision::agent::project;
use serde_json::{Value, json};

#[test]
fn a_replica_may_call_what_programs_call_and_no_more() {
    if !cfg!(target_arch = "x86_64") {
        return; // the numbers are that processor's
    }
    let server = Server::start();
    let key = server.deploy(&project("e2e-calls", 1)).ok().key();
    let refused = ["vsock", "packet", "alg", "io_uring", "keyctl", "bpf", "userfaultfd", "unshare", "perf", "ptrace"];
    let allowed = ["unix", "inet6", "getpid"];
    let names = [&refused[..], &allowed[..], &["clone3"]].concat().join(" ");
    let said = server.turn("e2e-calls", &key, "t", &format!("syscalls {names}"));
    let said: Value = serde_json::from_str(said.rsplit_once(' ').unwrap().0).unwrap();
    for name in refused {
        assert_eq!(said[name], "Operation not permitted", "{name}");
    }
    for name in allowed {
        assert_eq!(said[name], "allowed", "{name}");
    }
    // Threads ask for this first, and take the older call when there is none.
    assert_eq!(said["clone3"], json!("Function not implemented"));
}
