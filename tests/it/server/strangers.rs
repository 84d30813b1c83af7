//! Who shows no key takes nothing from those who do.

use super::foreground::{Foreground, RUN};
use super::wire::{answer, ask, connect};
use crate::machine::{Machine, get, until};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;

const BODY: usize = 16 << 20;

#[test]
fn no_byte_of_a_body_is_read_before_the_key_and_a_request_names_one_host() {
    let machine = Machine::new();
    let mut command = machine.command();
    command.args(RUN).stdout(Stdio::null()).stderr(Stdio::null());
    let server = Foreground::start(machine, &mut command);
    let token = std::fs::read_to_string(server.machine.data_dir().join("admin-token")).unwrap();

    // Whoever announces a body and shows no key, or a wrong one, is refused before a byte of it has come.
    for (url, line) in [
        (&server.agents_url, "POST /agents/any/v1/chat"),
        (&server.url, "POST /v1/agents/any/deploys"),
        (&server.url, "POST /v1/agents/any/keys"),
        (&server.url, "PATCH /v1/agents/any/secrets"),
        (&server.url, "PUT /v1/agents/any/scale"),
        (&server.url, "PUT /v2/any/manifests/latest"),
        (&server.url, "POST /v2/any/blobs/uploads/"),
    ] {
        for key in ["", "x-api-key: rck_wrong\r\n", "authorization: Bearer wrong\r\n"] {
            let head = format!("{line} HTTP/1.1\r\nhost: localhost\r\n{key}content-length: {BODY}\r\n\r\n");
            let (status, text) = ask(url, &head);
            assert_eq!(status, 401, "{line} {key}: {text}");
        }
    }
    // With the key it is told how much may come, and again before any of it has.
    let head = format!(
        "POST /v1/agents/any/deploys HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-length: {BODY}\r\n\r\n",
        token.trim()
    );
    let (status, text) = ask(&server.url, &head);
    assert!(status == 413 && text.contains("8 MiB") && text.contains("urn:rapidclaw:problem:body-too-large"), "{text}");

    for url in [&server.url, &server.agents_url] {
        for (head, wanted) in [
            ("HTTP/1.1\r\nhost: localhost\r\n", 200),
            ("HTTP/1.1\r\nhost: localhost\r\nhost: localhost\r\n", 400),
            ("HTTP/1.1\r\nhost: localhost\r\nHost: evil.example\r\n", 400),
            ("HTTP/1.1\r\nhost: evil.example\r\nhost: localhost\r\n", 400),
            ("HTTP/1.1\r\n", 400),
            ("HTTP/1.0\r\n", 421),
            ("HTTP/1.1\r\nhost: evil.example\r\n", 421),
        ] {
            let (status, text) = ask(url, &format!("GET /healthz {head}\r\n"));
            assert_eq!(status, wanted, "{head:?}: {text}");
        }
    }
}

#[test]
fn idle_slow_and_greedy_strangers_leave_the_server_to_those_with_a_key() {
    // Given a server that may have 1,024 files, and raises a soft limit that is lower,
    rapidclaw::base::open_files::raise();
    let machine = Machine::new();
    let mut command = machine.program("sh");
    command
        .args(["-c", "ulimit -Sn 300; ulimit -Hn 1024; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_rapidclaw")])
        .args(RUN);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut server = Foreground::start(machine, &mut command);
    let process = std::path::PathBuf::from(format!("/proc/{}", server.child.id()));
    let limits = std::fs::read_to_string(process.join("limits")).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(files.split_whitespace().nth(3), Some("1024"), "{files}");
    // and a connection that has shown a key.
    let token = std::fs::read_to_string(server.machine.data_dir().join("admin-token")).unwrap();
    let whoami =
        format!("GET /v1/whoami HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\r\n", token.trim());
    let mut known = connect(&server.url);
    known.write_all(whoami.as_bytes()).unwrap();
    assert_eq!(answer(&mut known).0, 200);
    let memory = resident_kib(&process);

    // When strangers open 1,200 connections to each port and say nothing, or half a head,
    let mut strangers: Vec<TcpStream> = Vec::new();
    for n in 0..1_200 {
        if n % 200 == 0 {
            // It has something to say now and then: an idle one is closed.
            known.write_all(whoami.as_bytes()).unwrap();
            assert_eq!(answer(&mut known).0, 200);
        }
        for url in [&server.url, &server.agents_url] {
            let mut stream = connect(url);
            if n % 6 == 0 {
                // One that has had to make room may be closed already.
                let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: loc");
            }
            strangers.push(stream);
        }
    }
    // and others send bodies of 16 MiB without a key,
    let head =
        format!("POST /agents/any/v1/chat HTTP/1.1\r\nhost: localhost\r\ncontent-length: {BODY}\r\n\r\n").into_bytes();
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..10 {
        let mut stream = connect(&server.agents_url);
        let sent = std::iter::once(&head).chain(std::iter::repeat_n(&piece, 16));
        // Until it is refused.
        let _ = sent.map(|piece| stream.write_all(piece)).find(Result::is_err);
        strangers.push(stream);
    }
    // then both ports answer newcomers, commands work, and the known connection is as it was,
    for _ in 0..5 {
        for url in [&server.url, &server.agents_url] {
            assert_eq!(get(&format!("{url}/healthz"), &[]).status, 200);
        }
        server.rapidclaw(&["status"]).ok();
    }
    known.write_all(whoami.as_bytes()).unwrap();
    assert_eq!(answer(&mut known).0, 200);
    // the files and the memory of the process are bounded,
    let open = std::fs::read_dir(process.join("fd")).unwrap().count();
    let grown = resident_kib(&process).saturating_sub(memory);
    assert!(open < 700 && grown < 50 << 10, "{open} files, {grown} KiB more");
    // and those who had to make room were closed, oldest first.
    let closed = until("closed strangers", || {
        let is_closed = |stream: &mut TcpStream| {
            stream.set_nonblocking(true).unwrap();
            matches!(stream.read(&mut [0; 16]), Ok(0)) || stream.take_error().unwrap().is_some()
        };
        let closed = strangers[..200].iter_mut().map(is_closed).filter(|closed| *closed).count();
        if closed > 150 { Ok(closed) } else { Err(closed.to_string()) }
    });
    assert!(closed > 150);
    server.signal("-TERM");
    assert_eq!(server.ended(), Some(0));
}

fn resident_kib(process: &std::path::Path) -> u64 {
    let status = std::fs::read_to_string(process.join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().split(' ').next().unwrap().parse().unwrap()
}
