//! Terminals of all sizes: tiny, without a size, and those on which nothing moves.

use crate::machine::{self, Project, Server, Terminal};
use regex::Regex;
use std::num::NonZero;

/// What stands on a terminal of this width after all that was written. It is high: nothing is lost at its top.
fn screen(written: &str, columns: u16) -> vt100::Parser {
    let mut parser = vt100::Parser::new(NonZero::new(400).unwrap(), NonZero::new(columns).unwrap(), 0);
    parser.process(written.as_bytes());
    parser
}

/// Lines as they stand there, broken ones made whole, without what differs from run to run.
fn stable(parser: &vt100::Parser) -> String {
    let mut text = parser.screen().contents();
    for (what, name) in [
        (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "[ID]"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "[TIME]"),
        (r"127\.0\.0\.1:\d+", "127.0.0.1:[PORT]"),
        (r"\b[0-9a-f]{12}\b", "[IMAGE]"),
        (r"\b\d+(ms|\.\ds)", "[SECONDS]"),
        (r"\b(start|ready|switch|build|push|rehearse) \d+\.\d\b", "$1 [N]"),
        (r"/\S+/\.env", "[PROJECT]/.env"),
        (" {2,}", "  "),
        (r"rck_\S+|rcagent_\S+|key: \S+", "[KEY]"),
    ] {
        text = Regex::new(what).unwrap().replace_all(&text, name).into_owned();
    }
    text.trim_end().to_owned()
}

/// Nothing of a moving line is left.
fn no_spinner(text: &str) {
    assert!(!text.chars().any(|one| ('\u{2800}'..='\u{28ff}').contains(&one)), "{text}");
}

#[test]
fn a_tiny_terminal_one_without_a_size_and_a_dumb_one() {
    // Given a deployed agent that has answered a turn.
    let server = Server::start();
    let project = Project::new("e2e-tiny");
    let key = server.deploy(&project).ok().key();
    server.turn("e2e-tiny", &key, "t", "hello");

    // When all that lists is shown at 20 x 5, then each value has a line of its own,
    let on = |columns: u16, rows: u16, environment: &[(&str, &str)], arguments: &[&str]| {
        let terminal = Terminal::sized(&server.machine, columns, rows, environment, project.path(), arguments);
        let (code, written) = terminal.ends();
        assert_eq!(code, Some(0), "{arguments:?}: {written}");
        written
    };
    let tiny = |arguments: &[&str]| screen(&on(20, 5, &[("TERM", "xterm")], arguments), 20);
    insta::assert_snapshot!("tiny_status", stable(&tiny(&["status"])));
    insta::assert_snapshot!("tiny_releases", stable(&tiny(&["releases", "e2e-tiny"])));
    insta::assert_snapshot!("tiny_runs", stable(&tiny(&["runs", "e2e-tiny"])));

    // and a deploy's moving line stays in its line.
    project.write("agent.py", &machine::ECHO.replace("answer", "reply"));
    let deployed = on(20, 5, &[("TERM", "xterm")], &["deploy"]);
    assert!(deployed.contains('\u{2819}'), "it moved: {deployed}");
    for end in deployed.match_indices('\r').map(|(at, _)| at).chain([deployed.len()]) {
        let parser = screen(&deployed[..end], 20);
        let rows: Vec<String> = parser.screen().rows(0, 20).collect();
        for (number, row) in rows.iter().enumerate() {
            let moves = row.starts_with(|one: char| ('\u{2801}'..='\u{28ff}').contains(&one));
            let wraps = parser.screen().row_wrapped(u16::try_from(number).unwrap());
            assert!(!(moves && wraps), "the moving line wraps: {rows:?}");
        }
    }
    // A line that stays fills its last row with blanks.
    let shown = stable(&screen(&deployed, 20)).replace("  ", "\n");
    no_spinner(&shown);
    insta::assert_snapshot!("tiny_deploy", shown);

    // A terminal that says it has no size gets whole lines.
    let unsized_status = stable(&screen(&on(0, 0, &[("TERM", "xterm")], &["status"]), 200));
    insta::assert_snapshot!("status_without_a_size", unsized_status);

    // On a dumb one, and without colour, nothing is written but text.
    for environment in [[("TERM", "dumb"), ("LANG", "C.UTF-8")], [("TERM", "xterm"), ("NO_COLOR", "1")]] {
        let status = on(100, 30, &environment, &["status"]);
        assert!(!status.contains('\x1b'), "{status:?}");
    }
    project.write("agent.py", &machine::ECHO.replace("answer", "speak"));
    let dumb = on(80, 24, &[("TERM", "dumb")], &["deploy"]);
    assert!(!dumb.contains('\x1b'), "{dumb:?}");
    no_spinner(&dumb);
    // Without colour it moves, and bears none.
    project.write("agent.py", &machine::ECHO.replace("answer", "say"));
    let plain = on(80, 24, &[("TERM", "xterm"), ("NO_COLOR", "1")], &["deploy"]);
    let colours = Regex::new("\x1b\\[[0-9;]*m").unwrap();
    assert!(colours.find_iter(&plain).all(|code| code.as_str() == "\x1b[0m" || code.as_str() == "\x1b[m"), "{plain:?}");
}
