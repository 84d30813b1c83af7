//! A log that cannot be written ends nothing.

use super::foreground::{Foreground, RUN};
use crate::machine::{Machine, get, until};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

#[test]
fn a_full_disk_under_the_log_stops_nothing_and_is_told() {
    // Given a server that logs to a disk of 1 MiB that is full,
    let machine = Machine::new();
    let folder = machine.home().join("log");
    std::fs::create_dir(&folder).unwrap();
    let script = "mount -t tmpfs -o size=1m tmpfs $HOME/log && head -c 1m /dev/zero >$HOME/log/fill; \
        exec \"$0\" \"$@\" 2>$HOME/log/server.log";
    let mut command = machine.program("unshare");
    command.args(["-m", "sh", "-c", script, env!("CARGO_BIN_EXE_rapidclaw")]).args(RUN);
    command.stdout(Stdio::null());
    let mut server = Foreground::start(machine, &mut command);

    // then it answers, and says what it has lost,
    assert_eq!(get(&format!("{}/healthz", server.agents_url), &[]).status, 200);
    server.rapidclaw(&["status"]).ok().says("server: ").says(" lines of its log could not be written");
    let doctor = server.rapidclaw(&["doctor"]);
    assert!(doctor.out.contains("warn  server health: "), "{doctor}");

    // and with room again it goes on to write, and tells the gap.
    let seen = std::path::PathBuf::from(format!("/proc/{}/root{}", server.child.id(), folder.display()));
    std::fs::remove_file(seen.join("fill")).unwrap();
    until("the log", || {
        server.has_to_log();
        let text = std::fs::read_to_string(seen.join("server.log")).unwrap();
        if text.contains("lines of this log could not be written and are lost") { Ok(()) } else { Err(text) }
    });
    server.signal("-TERM");
    assert_eq!(server.ended(), Some(0));
}

#[test]
fn a_reader_that_goes_away_stops_nothing_and_ctrl_c_stops_all_in_order() {
    // Given `server run 2>&1 | head -1`,
    let machine = Machine::new();
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = machine.command();
    command.args(RUN).stdout(writer.try_clone().unwrap()).stderr(writer);
    let mut server = Foreground::start(machine, &mut command);
    drop(command);
    let mut first = String::new();
    let mut reader = BufReader::new(reader);
    reader.read_line(&mut first).unwrap();
    drop(reader);

    // when it has more to say,
    until("what is told of the log", || {
        server.has_to_log();
        let health = server.rapidclaw(&["status"]).ok();
        if health.err.contains("could not be written") { Ok(()) } else { Err(health.to_string()) }
    });
    assert_eq!(get(&format!("{}/healthz", server.url), &[]).status, 200);

    // then Ctrl-C ends it as SIGTERM does: nothing of it stays.
    let data = server.machine.data_dir();
    assert!(data.join("postgres/data/postmaster.pid").exists());
    server.signal("-INT");
    assert_eq!(server.ended(), Some(0));
    assert!(!data.join("server.json").exists() && !data.join("postgres/data/postmaster.pid").exists());
    server.rapidclaw(&["server", "status"]).exits(1).prints("no server runs");
}

#[test]
fn what_cannot_be_printed_is_no_panic() {
    // Given stdout and stderr that nobody reads, and a disk without room,
    let machine = Machine::new();
    std::fs::set_permissions(machine.home(), std::fs::Permissions::from_mode(0o755)).unwrap();
    for arguments in [&["--help"][..], &["schema"], &["status"], &["nonsense"], &["completions", "bash"], &["doctor"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = machine.command();
        command.args(arguments).stdout(writer.try_clone().unwrap()).stderr(writer);
        // then a command ends with a code of its own: 101 is a panic's, and none a signal's.
        let gone = command.status().unwrap().code();
        let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
        let mut command = machine.command();
        let full = command.args(arguments).stdout(full()).stderr(full()).status().unwrap().code();
        for code in [gone, full] {
            assert!(matches!(code, Some(0..=8)), "{arguments:?}: {gone:?} {full:?}");
        }
    }
}
