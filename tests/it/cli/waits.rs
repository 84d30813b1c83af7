//! Commands that wait for a person, for the end of a pipe or for a server: Ctrl-C or their time ends them.

use crate::machine::{ECHO, Machine, Project, Server, Terminal};
use rustix::process::{Pid, Signal, kill_process};
use std::process::Stdio;

#[test]
fn ctrl_c_ends_a_prompt_and_a_pipe_that_does_not_end() {
    let machine = Machine::new();
    let mut terminal = Terminal::run(&machine, &["login"]);
    terminal.shows("another address");
    terminal.interrupts();
    let (code, shown) = terminal.ends();
    assert_eq!(code, Some(130), "{shown}");
    // The cursor, which the prompt had hidden, is there again (DECTCEM).
    assert!(shown.rfind("\x1b[?25h") > shown.rfind("\x1b[?25l"), "{shown:?}");

    let mut command = machine.command();
    let mut waits = command
        .args(["login", "http://127.0.0.1:9", "--token-stdin"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Held open: `wait` would close it, and the end of the pipe is another answer.
    let held = waits.stdin.take();
    // It reads: a thread of its waits in the pipe.
    crate::machine::until("a thread that reads stdin", || {
        let threads = std::fs::read_dir(format!("/proc/{}/task", waits.id())).unwrap().flatten();
        let calls = threads.map(|one| std::fs::read_to_string(one.path().join("syscall")).unwrap_or_default());
        // `read` of descriptor 0, on x86-64 and on 64-bit ARM.
        let calls: Vec<_> = calls.collect();
        let reads = calls.iter().any(|call| call.starts_with("0 0x0 ") || call.starts_with("63 0x0 "));
        if reads { Ok(()) } else { Err(format!("{calls:?}")) }
    });
    kill_process(Pid::from_child(&waits), Signal::INT).unwrap();
    let ended = waits.wait().unwrap();
    assert_eq!(ended.code(), Some(130));
    drop(held);
}

#[test]
fn a_server_that_stays_away_is_not_waited_for_longer_than_was_said() {
    let server = Server::start();
    server.kill();
    // Without a limit it would be waited for a minute.
    server.rapidclaw(&["scale", "agent", "1", "--timeout", "1"]).fails(7).says("the server cannot be reached");
}

#[test]
fn a_rollout_under_way_is_waited_for_as_long_as_was_said() {
    let server = Server::start();
    let slow = Project::new("e2e-waits").graph(&format!("import time\ntime.sleep(20)\n{ECHO}"));
    server.deploy_with(&slow, &["--detach"]).ok();
    let next = Project::new("e2e-waits");
    let late = server.deploy_with(&next, &["--wait", "--timeout", "2"]).fails(7);
    late.says("the rollout under way takes longer; nothing was deployed");
    // Without a limit it is its turn, and nothing of the first attempt stands in its way.
    server.deploy_with(&next, &["--wait"]).ok().prints("e2e-waits v2 live");
}
