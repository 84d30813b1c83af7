//! Bad surroundings: each gets one clear word, the right exit code, and nothing is left behind. Two servers on
//! one data folder and missing rights are in `bad_input.rs`; a keyring that hangs and a proxy in remote.rs; a
//! Postgres that is away in faults/.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod machine;

use machine::{Machine, Said, Server, said};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder of a small file system of its own.
struct Small(PathBuf);

impl Small {
    fn mount(path: &Path, options: &str) -> Self {
        std::fs::create_dir_all(path).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(path).output().unwrap();
        let why = String::from_utf8_lossy(&mounted.stderr).into_owned();
        assert!(mounted.status.success(), "this test mounts a tmpfs, as root: `sudo -E cargo nextest run`: {why}");
        Self(path.to_owned())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn stable(said: &Said, machine: &Machine) -> String {
    let text = said.err.replace(machine.data_dir().to_str().unwrap(), "[DATA]");
    text.replace(machine.home().to_str().unwrap(), "[HOME]")
}

const START: [&str; 4] = ["server", "start", "--listen=127.0.0.1:0", "--agents-listen=127.0.0.1:0"];

/// No process of a Postgres is left in a data folder.
fn nothing_runs_in(machine: &Machine) {
    assert!(!machine.data_dir().join("postgres/data/postmaster.pid").exists());
    machine.rapidclaw(&["server", "status"]).exits(1);
}

#[test]
fn a_full_disk_under_the_data_folder() {
    let machine = Machine::new();
    let _small = Small::mount(&machine.data_dir(), "size=8m,mode=711");
    machine.rapidclaw(&START).fails(5).says("hint: free space on the disk of the data folder");
    nothing_runs_in(&machine);
}

#[test]
fn a_data_folder_that_cannot_be_written_to() {
    let machine = Machine::new();
    let _small = Small::mount(&machine.data_dir(), "ro,mode=711");
    let read_only = machine.rapidclaw(&START).fails(1);
    insta::assert_snapshot!(stable(&read_only, &machine), @r"
    error: Read-only file system (os error 30)

    hint: is [DATA] a folder that you may write to? name another with --data-dir
    ");
    let run = machine.rapidclaw(&["server", "run", "--listen=127.0.0.1:0", "--agents-listen=127.0.0.1:0"]).fails(1);
    insta::assert_snapshot!(stable(&run, &machine), @r"
    error: the data folder [DATA]
    caused by: Read-only file system (os error 30)

    hint: name another with --data-dir
    ");
}

#[test]
fn a_full_disk_under_the_logins() {
    // Given a server and a full disk where logins rest.
    let server = Server::start();
    let machine = Machine::new();
    let small = Small::mount(&machine.home().join("full"), "size=4k");
    std::fs::write(small.0.join("rest"), vec![0; 4096]).unwrap();
    let token = std::fs::read_to_string(server.machine.data_dir().join("admin-token")).unwrap();
    let mut login = machine.command();
    login.args(["login", &server.url, "--token-stdin"]).env("RAPIDCLAW_CONFIG_DIR", small.0.join("config"));
    let full = machine::said_with_stdin(&mut login, &token).fails(1).hides(token.trim());
    insta::assert_snapshot!(stable(&full, &machine), @r"
    error: the file of logins [HOME]/full/config/credentials.json
    caused by: No space left on device (os error 28)

    hint: name another folder with RAPIDCLAW_CONFIG_DIR
    ");
}

#[test]
fn no_network() {
    // Given a network with nothing in it, not even a name service.
    let machine = Machine::new();
    let mut alone = Command::new("unshare");
    machine.clean(&mut alone);
    alone.args(["--net", env!("CARGO_BIN_EXE_rapidclaw"), "whoami", "--server", "https://rapidclaw.example.com"]);
    let lost = said(alone.env("RAPIDCLAW_TOKEN", "t")).fails(5);
    insta::assert_snapshot!(stable(&lost, &machine), @r"
    error: the server at https://rapidclaw.example.com cannot be reached
    caused by: failed to lookup address information: Temporary failure in name resolution

    hint: look whether it runs there and whether this machine has a way to it; HTTPS_PROXY and NO_PROXY say whether a proxy is on it
    ");
    let mut alone = Command::new("unshare");
    machine.clean(&mut alone);
    alone.args(["--net", env!("CARGO_BIN_EXE_rapidclaw"), "whoami", "--server", "https://192.0.2.1"]);
    let lost = said(alone.env("RAPIDCLAW_TOKEN", "t")).fails(5);
    insta::assert_snapshot!(stable(&lost, &machine), @r"
    error: the server at https://192.0.2.1 cannot be reached
    caused by: Network is unreachable (os error 101)

    hint: look whether it runs there and whether this machine has a way to it; HTTPS_PROXY and NO_PROXY say whether a proxy is on it
    ");
}
