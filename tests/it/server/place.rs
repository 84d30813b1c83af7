//! The data folder: whose it is, who has it, and the key beside it.

use super::wire::connect;
use crate::machine::{Server, said, until};
use base64::Engine as _;
use std::io::Write as _;
use std::os::unix::fs::{chown, symlink};
use std::path::Path;

fn is_alive(pid: &str) -> bool {
    // A zombie is none: nobody waits for a server that was started in the background.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn a_server_is_found_without_its_file_and_a_stop_after_a_restart_leaves_none() {
    let mut server = Server::start();
    let file = server.machine.data_dir().join("server.json");
    // Without the file it is found, not started twice, and replaced.
    std::fs::remove_file(&file).unwrap();
    server.rapidclaw(&["server", "status"]).ok().prints(&server.url).prints(&server.pid);
    server.rapidclaw(&["server", "start"]).ok().prints("already runs");
    server.rapidclaw(&["server", "restart"]).ok();
    let second = server.rapidclaw(&["server", "status", "--json"]).ok().json()["server"]["pid"].to_string();
    assert_ne!(second, server.pid);

    // When one that is being replaced still takes an upload,
    let token = std::fs::read_to_string(server.machine.data_dir().join("admin-token")).unwrap();
    let login = base64::engine::general_purpose::STANDARD.encode(format!("any:{}", token.trim()));
    let mut upload = connect(&server.url);
    let zeros = "0".repeat(64);
    let head = format!(
        "POST /v2/any/blobs/uploads/?digest=sha256:{zeros} HTTP/1.1\r\nhost: localhost\r\nauthorization: Basic {login}\r\n\
         content-length: 1000\r\n\r\nbegun"
    );
    upload.write_all(head.as_bytes()).unwrap();
    let uploads = server.machine.data_dir().join("registry/repositories/any/_uploads");
    until("the upload", || {
        let count = std::fs::read_dir(&uploads).map_err(|error| error.to_string())?.count();
        if count > 0 { Ok(()) } else { Err("none".to_owned()) }
    });
    server.rapidclaw(&["server", "restart"]).ok();
    assert!(is_alive(&second), "it has not waited for what it took");
    // then a stop right behind it ends both, also without the file.
    std::fs::remove_file(&file).unwrap();
    server.rapidclaw(&["server", "stop"]).ok().prints("server stopped");
    assert!(!is_alive(&second));
    server.rapidclaw(&["server", "status"]).exits(1).prints("no server runs");
    assert!(!server.machine.data_dir().join("postgres/data/postmaster.pid").exists());
    server.start_again();
}

#[test]
fn a_key_that_is_lost_or_another_one_is_an_error_and_folders_of_others_are_refused() {
    let mut server = Server::start();
    server.rapidclaw(&["server", "stop"]).ok();
    let data = server.machine.data_dir();
    let start = |arguments: &[&str], run: &Path| {
        let mut command = server.machine.command();
        command.args(["server", "start", "--listen=127.0.0.1:0", "--agents-listen=127.0.0.1:0"]).args(arguments);
        said(command.env("RAPIDCLAW_RUN_DIR", run))
    };
    let run = server.machine.run_dir();
    let key = data.with_extension("key");
    let kept = data.with_extension("kept");

    // Without the key, with a link to it, with one that others read, or with another one: no start, and no new key.
    std::fs::rename(&key, &kept).unwrap();
    start(&[], run).fails(1).says("is not there").says("restore the key file");
    assert!(!key.exists());
    symlink(&kept, &key).unwrap();
    start(&[], run).exits(1).says("it is a link");
    std::fs::remove_file(&key).unwrap();
    let other = "ab".repeat(32);
    rapidclaw::base::paths::write_private(&key, other.as_bytes()).unwrap();
    start(&[], run).fails(1).says("is not the one").says("restore the key file").hides(&other);
    rapidclaw::base::paths::write_atomically(&key, other.as_bytes(), 0o644).unwrap();
    start(&[], run).exits(1).says("chmod 600");
    std::fs::remove_file(&key).unwrap();
    std::fs::rename(&kept, &key).unwrap();

    // Folders that are another user's, or links, are refused: the run folder and the data folder.
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let (foreign, link) = (folder.path().join("foreign"), folder.path().join("link"));
    std::fs::create_dir(&foreign).unwrap();
    chown(&foreign, Some(4711), None).unwrap();
    symlink(run, &link).unwrap();
    start(&[], &foreign).fails(1).says("belongs to user 4711").says("RAPIDCLAW_RUN_DIR");
    start(&[], &link).fails(1).says("it is a link");
    start(&["--data-dir", foreign.to_str().unwrap()], run).fails(1).says("belongs to user 4711");
    start(&["--data-dir", link.to_str().unwrap()], run).fails(1).says("it is a link");

    // As it was, it starts.
    server.start_again();
    server.rapidclaw(&["status"]).ok();
}
