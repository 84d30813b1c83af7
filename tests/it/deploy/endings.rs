//! Each way a deploy can end, and that its exit code, its last line of JSON and what GitHub is told agree; and a
//! server that is stopped before it serves.

use crate::machine::{ECHO, Machine, Project, Said, Server, said, until};
use serde_json::{Value, json};
use std::process::{Command, Stdio};

/// A graph that takes so many seconds to load.
fn slow(seconds: u32) -> String {
    format!("import time\nprint(\"loading\", flush=True)\ntime.sleep({seconds})\n{ECHO}")
}

/// The lines of a stream: each names its schema and counts on, the last one is the only result.
#[track_caller]
fn stream(text: &str, said: &impl std::fmt::Display) -> Vec<Value> {
    let lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {said}"))).collect();
    for (index, line) in lines.iter().enumerate() {
        assert_eq!(line["seq"], json!(index + 1), "{said}");
        assert!(line["schema"].as_str().unwrap().starts_with("rapidclaw."), "{said}");
        assert_eq!(line["type"] == "result", index + 1 == lines.len(), "{said}");
    }
    lines
}

/// Sees that a deploy with `--json` ended with this code and says so in its last line, which is returned.
#[track_caller]
fn ends(said: &Said, exit: i32) -> Value {
    let said = said.clone().exits(exit);
    let last = stream(&said.out, &said).pop().unwrap_or_else(|| panic!("no line: {said}"));
    assert_eq!((&last["exit"], &last["ok"]), (&json!(exit), &json!(exit == 0)), "{said}");
    if exit != 0 {
        assert!(!last["message"].as_str().unwrap().is_empty() && last["schema"] == "rapidclaw.error/v1", "{said}");
    }
    last
}

fn kinds(said: &Said) -> Vec<String> {
    stream(&said.out, said).iter().map(|line| line["type"].as_str().unwrap().to_owned()).collect()
}

/// A deploy whose image is made here, whether or not there is an engine.
const HERE: [&str; 4] = ["deploy", "--json", "--build", "local"];

#[test]
fn every_way_a_deploy_can_end() {
    // Given a server and a project.
    let mut server = Server::start();
    let deploy = |server: &Server, project: &Project, arguments: &[&str]| {
        server.deploy_with(project, &[&["--json"], arguments].concat())
    };
    let project = Project::new("e2e-ends");

    // 8 and 0: what would change, before anything is there.
    let plan = deploy(&server, &project, &["--dry-run"]);
    assert_eq!(ends(&plan, 0)["outcome"], "rollout");
    let plan = deploy(&server, &project, &["--dry-run", "--exit-code"]).exits(8);
    assert_eq!(stream(&plan.out, &plan).pop().unwrap()["exit"], 8);
    assert_eq!(stream(&plan.out, &plan).pop().unwrap()["changes"], json!(["the agent is new", "secret GREETING: new"]));
    assert_eq!(server.rapidclaw(&["status"]).ok().out, "", "a dry run deployed");

    // 0: the first release, with its key, and its phases as they went.
    let first = deploy(&server, &project, &[]);
    let last = ends(&first, 0);
    assert_eq!(
        (&last["version"], &last["outcome"], &last["schema"]),
        (&json!(1), &json!("rollout"), &json!("rapidclaw.deploy/v1"))
    );
    assert!(last["key"].as_str().unwrap().starts_with("rck_") && last["seconds"].as_f64().unwrap() > 0.0, "{first}");
    assert!(kinds(&first).contains(&"phase".to_owned()), "{first}");
    // 0: nothing changed; with --exit-code as well.
    assert_eq!(ends(&deploy(&server, &project, &[]), 0)["outcome"], "unchanged");
    assert_eq!(ends(&deploy(&server, &project, &["--dry-run", "--exit-code"]), 0)["outcome"], "unchanged");
    // 8: only a secret is another.
    let project = project.env("GREETING=hi\n");
    let plan = server.deploy_with(&project, &["--dry-run", "--exit-code"]).exits(8);
    assert_eq!(
        plan.out,
        "secret GREETING: changed\ne2e-ends: a deploy would roll out a release of the same image with other secrets\n"
    );
    assert_eq!(ends(&deploy(&server, &project, &[]), 0)["outcome"], "secrets");

    // 2: wrong usage.
    let usage = deploy(&server, &project, &["--timeout", "soon"]).exits(2);
    assert_eq!((&usage.json()["exit"], &usage.json()["class"]), (&json!(2), &json!("usage")));
    deploy(&server, &project, &["--exit-code"]).exits(2).says("--dry-run");
    // 3: the manifest, with the place of its fault; the dependencies.
    let wrong = Project::new("e2e-ends").set("rapidclaw.max_replica", json!(3));
    let fault = ends(&deploy(&server, &wrong, &[]), 3)["faults"][0].clone();
    assert_eq!((&fault["code"], &fault["line"]), (&json!("unknown-key"), &json!(1)));
    let wrong = Project::new("e2e-ends");
    wrong.write("requirements.txt", "langgraph>=1.0,<2\nlanggraph<0.1\n");
    ends(&deploy(&server, &wrong, &[]), 3);
    // 1: a build that fails, with the step's last lines.
    let wrong = Project::new("e2e-ends").set("dockerfile_lines", json!(["RUN echo broken; exit 7"]));
    let last = ends(&deploy(&server, &wrong, &[]), 1);
    assert!(last["evidence"].as_str().unwrap().contains("broken"), "{last}");
    // 4: a token that opens nothing; none at all.
    let run = |project: &Project, name: &str, value: &str| {
        said(server.machine.command().args(HERE).env(name, value).current_dir(project.path()))
    };
    assert_eq!(ends(&run(&project, "RAPIDCLAW_TOKEN", "rcadmin_wrong"), 4)["code"], "not-authenticated");
    assert_eq!(ends(&run(&project, "RAPIDCLAW_SERVER", "https://127.0.0.1:1"), 4)["class"], "not-allowed");
    ends(&run(&project, "DOCKER_HOST", "unix:///none.sock"), 5);

    // 6: the release does not get ready; what served before serves.
    let broken = Project::new("e2e-ends").graph(&format!("raise SystemExit('no')\n{ECHO}"));
    let last = ends(&deploy(&server, &broken, &[]), 6);
    assert_eq!((&last["serving"], &last["version"], &last["phase"]), (&json!(2), &json!(3), &json!("ready")));
    assert_eq!(last["class"], "rollout-failed");
    server.until_status("e2e-ends", "e2e-ends v2 running");

    // 0, --detach: it is being rolled out, and is seen to its end by who asks.
    let last = ends(&deploy(&server, &Project::new("e2e-ends").graph(&slow(3)), &["--detach"]), 0);
    assert_eq!(last["version"], 4);
    // 1: another is under way.
    assert_eq!(ends(&deploy(&server, &project, &[]), 1)["code"], "rollout-under-way");
    let watched = server.rapidclaw(&["rollouts", "e2e-ends", "--watch", "--json"]);
    assert_eq!(ends(&watched, 0)["state"], "succeeded");

    // 7: it takes longer than anybody waits, and goes on.
    let last = ends(&deploy(&server, &Project::new("e2e-ends").graph(&slow(4)), &["--timeout", "1"]), 7);
    assert_eq!((&last["class"], &last["version"]), (&json!("timed-out"), &json!(5)));
    assert!(last["hints"].to_string().contains("rapidclaw status"), "{last}");
    server.until_status("e2e-ends", "e2e-ends v5 running");

    // 130: who watches is interrupted; the rollout is not.
    let interrupted = {
        let slow = Project::new("e2e-ends").graph(&slow(5));
        let mut command = server.machine.command();
        command.args(["deploy", "--json"]).current_dir(slow.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        until("the rollout", || match server.status("e2e-ends") {
            line if line.contains("rolling") => Ok(()),
            line => Err(line),
        });
        assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
        child.wait_with_output().unwrap()
    };
    let (out, err) = (String::from_utf8_lossy(&interrupted.stdout), String::from_utf8_lossy(&interrupted.stderr));
    assert_eq!(interrupted.status.code(), Some(130), "{out}{err}");
    let last = stream(&out, &err).pop().unwrap();
    assert_eq!((&last["exit"], &last["class"]), (&json!(130), &json!("interrupted")));
    assert!(err.contains("hint: the rollout goes on"), "{err}");
    server.until_status("e2e-ends", "e2e-ends v6 running");

    // 5: the server is lost on the way, for longer than anybody waits; back again, it goes on.
    let slow = Project::new("e2e-ends").graph(&slow(6));
    let mut command = server.machine.command();
    command.args(["deploy", "--json", "--timeout", "6"]).current_dir(slow.path());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("the rollout", || match server.status("e2e-ends") {
        line if line.contains("rolling") => Ok(()),
        line => Err(line),
    });
    server.kill();
    let gone = child.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&gone.stdout), String::from_utf8_lossy(&gone.stderr));
    assert_eq!(gone.status.code(), Some(5), "{out}{err}");
    assert_eq!(stream(&out, &err).pop().unwrap()["class"], "unreachable");
    assert!(err.contains("the rollout goes on when the server is back"), "{err}");
    server.start_again();
    server.until_status("e2e-ends", "e2e-ends v7 running");

    // The other long commands stream as well.
    let rolled = server.rapidclaw(&["rollback", "--agent", "e2e-ends", "--json"]);
    assert_eq!(ends(&rolled, 0)["to_version"], 6);
    assert_eq!(ends(&server.rapidclaw(&["scale", "e2e-ends", "1", "--json"]), 0)["ready"], 1);
    let logs = server.rapidclaw(&["logs", "e2e-ends", "--json"]).ok();
    assert!(kinds(&logs).contains(&"log".to_owned()), "{logs}");
    ends(&server.rapidclaw(&["rollback", "v99", "--agent", "e2e-ends", "--json"]), 1);
}

#[test]
fn a_step_of_github_actions() {
    // Given a step of GitHub Actions, its files, and a repository with the project in a folder of it.
    let server = Server::start();
    let project = Project::new("e2e-gh").env("GREETING=hello\nAPI_TOKEN=tok-e2e-gh-0123456789\n");
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let workspace = project.path().parent().unwrap().canonicalize().unwrap();
    let within = project.path().file_name().unwrap().to_str().unwrap();
    let step = |project: &Project, arguments: &[&str]| {
        let mut command = server.machine.command();
        command.args(arguments).current_dir(project.path()).env("CI", "true").env("GITHUB_ACTIONS", "true");
        command.env("GITHUB_WORKSPACE", &workspace).env("GITHUB_OUTPUT", file("output"));
        said(command.env("GITHUB_STEP_SUMMARY", file("summary")).env("RAPIDCLAW_OUTPUT_FILE", file("events")))
    };
    let text = |name: &str| std::fs::read_to_string(file(name)).unwrap_or_default();

    // When it deploys, secrets and the new key are masked before anything else is said of them,
    let deployed = step(&project, &["deploy"]).ok();
    let key = deployed.key();
    let masks: Vec<&str> = deployed.err.lines().filter_map(|line| line.strip_prefix("::add-mask::")).collect();
    assert_eq!(masks, ["tok-e2e-gh-0123456789", &key]);
    // the steps behind it get what came of it,
    let (version, url) = ("version=1\n", format!("url={}/agents/e2e-gh\n", server.agents_url));
    assert!(text("output").contains(version) && text("output").contains(&url), "{}", text("output"));
    assert!(!text("output").contains(&key) && text("output").contains("agent=e2e-gh\nversion=1\n"));
    // people a table, programs the events, whatever stdout shows.
    assert!(text("summary").contains("### rapidclaw deploy") && text("summary").contains("| version | v1 |"));
    let events = stream(&text("events"), &"events");
    assert_eq!(events.last().unwrap()["key"], json!(key));
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(file("events")).unwrap()) & 0o777, 0o600);

    // Faults of the manifest are shown at their places; other failures by their words.
    let wrong = Project::new("e2e-gh").set("rapidclaw.max_replica", json!(3));
    let fault = step(&wrong, &["deploy"]).exits(3);
    let annotation = fault.err.lines().find(|line| line.starts_with("::error ")).unwrap().to_owned();
    let wanted = format!("::error file={},line=1,col=", wrong.path().file_name().unwrap().to_str().unwrap());
    assert!(annotation.starts_with(&wanted.replace(",line", "/langgraph.json,line")), "{annotation}");
    assert!(annotation.contains(",title=unknown-key::unknown key `max_replica`"), "{annotation}");
    assert!(annotation.contains("%0Ahelp: did you mean `max_replicas`?"), "{annotation}");
    assert!(!within.is_empty() && text("summary").contains("| exit | 3 |"), "{}", text("summary"));
    let broken = Project::new("e2e-gh").graph(&format!("raise SystemExit('no')\n{ECHO}"));
    step(&broken, &["deploy"]).exits(6).says("::error title=rapidclaw deploy::");
    assert!(text("output").contains("exit=6\n"));
    // Arguments that are none are told to programs, too.
    step(&broken, &["deploy", "--no-such-flag"]).exits(2);
    let last: Value = serde_json::from_str(text("events").lines().last().unwrap()).unwrap();
    assert_eq!((&last["schema"], &last["exit"]), (&json!("rapidclaw.error/v1"), &json!(2)), "{last}");
    // A file that cannot be written to is said before anything is done.
    let mut command = server.machine.command();
    command.args(["deploy"]).current_dir(project.path()).env("RAPIDCLAW_OUTPUT_FILE", "/none/events");
    said(&mut command).fails(2).says("RAPIDCLAW_OUTPUT_FILE");
    // Elsewhere nothing of it is said.
    let plain = said(Machine::new().command().args(["status"])).fails(4);
    assert!(!plain.err.contains("::"), "{plain}");
}

#[test]
fn a_server_that_is_stopped_while_it_starts_leaves_nothing_running() {
    // Given a server that is making its Postgres.
    let machine = Machine::new();
    let mut command = machine.command();
    command.args(["server", "run", "--listen", "127.0.0.1:0", "--agents-listen", "127.0.0.1:0"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let postgres = machine.data_dir().join("postgres");
    until("the server makes its Postgres", || if postgres.exists() { Ok(()) } else { Err(String::new()) });

    // When it is asked to stop, then it stops, and its Postgres with it.
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    let ended = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(130), "{text}");
    assert!(text.contains("the server was stopped before it served"), "{text}");
    assert!(!postgres.join("data/postmaster.pid").exists());

    // And a stop right behind a restart finds one server, not two.
    let server = Server::start();
    for _ in 0..3 {
        server.rapidclaw(&["server", "restart"]).ok();
    }
    server.rapidclaw(&["server", "stop"]).ok().prints("server stopped; all data stay");
    server.rapidclaw(&["server", "status"]).prints("no server runs");
}
