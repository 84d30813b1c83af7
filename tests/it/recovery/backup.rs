//! All that a server keeps, written into one file and restored on a machine that has nothing.

use crate::machine::{Project, Server, said_with_stdin};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

#[test]
fn a_server_that_lost_everything_comes_back_from_its_backup() {
    // Given an agent with a conversation and a secret,
    let mut server = Server::start();
    let project = Project::new("e2e-backup").env("GREETING=bonjour\n");
    let key = server.deploy(&project).ok().key();
    assert_eq!(server.turn("e2e-backup", &key, "t", "one"), "bonjour 1: one");
    let set = ["secrets", "set", "e2e-backup", "TOKEN"];
    said_with_stdin(server.machine.command().args(set), "hunter2-hunter2").ok();
    let old_id = server.id.clone();

    // when a backup is written beside the running server, and then all is lost but the backup and the key,
    let home = server.machine.home();
    let (file, key_file) = (home.join("backup.tar"), home.join("kept.key"));
    let backup = ["server", "backup", file.to_str().unwrap()];
    server.rapidclaw(&backup).ok().prints("written: ").prints("1 database").says("keep a copy of ");
    let written = fs::read(&file).unwrap();
    assert!(!written.windows(8).any(|part| part == b"hunter2-"), "the secret is in the backup in clear");
    // What is said after the backup is not in it.
    assert_eq!(server.turn("e2e-backup", &key, "t", "lost"), "bonjour 2: one");
    server.rapidclaw(&["server", "stop"]).ok();
    let data = server.machine.data_dir();
    fs::rename(data.with_extension("key"), &key_file).unwrap();
    let restore = ["server", "restore", file.to_str().unwrap()];
    server.rapidclaw(&restore).fails(1).says("is not empty");
    fs::remove_dir_all(&data).unwrap();

    // then another key does not open it, nor none,
    server.rapidclaw(&restore).fails(1).says("the key file ").says("--key-file");
    let other_key = home.join("other.key");
    fs::write(&other_key, "0".repeat(64)).unwrap();
    fs::set_permissions(&other_key, fs::Permissions::from_mode(0o600)).unwrap();
    let other = [&restore[..], &["--key-file", other_key.to_str().unwrap()]].concat();
    server.rapidclaw(&other).fails(1).says("is not the one that the backup's secrets are sealed with");
    assert!(!data.exists());

    // and with the right one the agent serves again, with its key, its thread as it was and its secrets.
    let right = [&restore[..], &["--key-file", key_file.to_str().unwrap()]].concat();
    server.rapidclaw(&right).ok().prints("restored: ").says("rapidclaw server start");
    server.start_again();
    server.rapidclaw(&["login", "--local"]).ok();
    let who = server.rapidclaw(&["whoami", "--json"]).ok().json();
    who["server"]["id"].as_str().unwrap().clone_into(&mut server.id);
    assert_ne!(server.id, old_id);
    server.until_status("e2e-backup", "e2e-backup v2 running 1 replica");
    assert_eq!(server.turn("e2e-backup", &key, "t", "two"), "bonjour 2: one");
    server.rapidclaw(&["secrets", "list", "e2e-backup"]).ok().prints("GREETING").prints("TOKEN");
    server.deploy(&project).ok();

    // A backup needs no running server, and leaves none.
    server.rapidclaw(&["server", "stop"]).ok();
    server.rapidclaw(&backup).ok();
    server.rapidclaw(&["server", "status"]).exits(1);
    assert!(!data.join("postgres/data/postmaster.pid").exists());
}
