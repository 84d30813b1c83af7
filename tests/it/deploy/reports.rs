//! The cases of public reports (`findings/cases` beside the corpus that `RAPIDCLAW_CORPUS` names), deployed with
//! the real binary. Those that share requirements are graphs of one manifest; all have one `kit.py`.

use crate::machine::{Answer, Project, Server, until};
use serde_json::{Value, json};
use std::path::PathBuf;

/// The folder of the cases; nothing where no corpus is named.
#[expect(clippy::print_stderr, reason = "what is left out is said")]
fn cases() -> Option<PathBuf> {
    let corpus = std::env::var_os("RAPIDCLAW_CORPUS").map(PathBuf::from);
    let folder = corpus.map(|corpus| corpus.join("../findings/cases")).filter(|folder| folder.is_dir());
    if folder.is_none() {
        eprintln!("LEFT OUT: RAPIDCLAW_CORPUS names no corpus with findings/cases beside it");
    }
    folder
}

/// The cases named, as graphs of one agent: `br01` is `br01.py:graph`.
fn project(name: &str, requirements: &str, names: &[&str]) -> Option<Project> {
    let folder = cases()?;
    let graphs: serde_json::Map<String, Value> =
        names.iter().map(|case| ((*case).to_owned(), json!(format!("./{case}.py:graph")))).collect();
    let project = Project::new(name).set("graphs", Value::Object(graphs));
    project.remove("agent.py");
    project.write("requirements.txt", requirements);
    let read = |path: String| std::fs::read_to_string(folder.join(path)).unwrap();
    project.write("kit.py", &read(format!("{}/kit.py", names[0])));
    for case in names {
        project.write(&format!("{case}.py"), &read(format!("{case}/agent.py")));
    }
    Some(project)
}

struct Agent<'a> {
    server: &'a Server,
    name: &'a str,
    key: String,
}

impl Agent<'_> {
    fn ask(&self, graph: &str, thread: &str, message: &str) -> Answer {
        self.send(
            &json!({ "graph": graph, "thread_id": format!("{graph}-{thread}"), "user_id": "ann", "message": message }),
        )
    }

    fn resume(&self, graph: &str, thread: &str, resume: &Value) -> Answer {
        self.send(
            &json!({ "graph": graph, "thread_id": format!("{graph}-{thread}"), "user_id": "ann", "resume": resume }),
        )
    }

    fn send(&self, body: &Value) -> Answer {
        self.server.chat(self.name, &self.key, body)
    }

    #[track_caller]
    fn says(&self, graph: &str, thread: &str, message: &str, result: &str) {
        let answer = self.ask(graph, thread, message).ok();
        assert_eq!(answer.body["result"], result, "{graph}, {message}: {answer:?}");
    }

    /// The error's type, of a run that failed alone: its replica is the one that was there.
    #[track_caller]
    fn fails(&self, graph: &str, thread: &str, message: &str) -> (String, Answer) {
        let answer = self.ask(graph, thread, message);
        assert!(answer.status >= 400, "{answer:?}");
        (answer.body["error"]["type"].as_str().unwrap_or_default().to_owned(), answer)
    }
}

const LANGCHAIN: &str = "langgraph>=1.0,<2\nlangchain>=1,<2\n";

#[test]
fn cases_of_one_set_of_requirements_end_as_a_user_expects() {
    let graphs =
        ["br01", "br02", "br03", "br05a", "br05b", "br06", "br07", "br08a", "br08b", "br09a", "br09b", "br10", "br11"];
    let Some(project) = project("e2e-cases", LANGCHAIN, &graphs) else { return };
    let project = project.set("rapidclaw.resources", json!({ "memory": "2GiB" }));
    let server = Server::start();
    let key = server.deploy(&project).ok().key();
    let agent = Agent { server: &server, name: "e2e-cases", key };
    let containers = server.containers_of("e2e-cases");

    // BR-01: an exit ends its own run.
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| agent.ask("br01", "slow", "hi"));
        until("the slow run", || match server.rapidclaw(&["runs", "e2e-cases"]).out {
            out if out.contains("br01-slow") => Ok(()),
            out => Err(out),
        });
        assert_eq!(agent.fails("br01", "other", "die").0, "SystemExit");
        let slow = slow.join().unwrap().ok();
        assert_eq!(slow.body["result"], "fine", "{slow:?}");
    });
    agent.says("br01", "other", "hi", "fine");
    // BR-02: an exception that cannot be printed, and its thread is free.
    assert_eq!(agent.fails("br02", "t", "fail").0, "Odd");
    agent.says("br02", "t", "hi", "fine");
    // BR-03: what could not be read back is refused in the turn that writes it, with its size and the limit.
    for (thread, message) in [("t", "first"), ("one", "one")] {
        let (kind, answer) = agent.fails("br03", thread, message);
        assert_eq!(kind, "StateTooLarge", "{answer:?}");
        assert!(answer.text.contains("limits.state_bytes"), "{answer:?}");
    }
    // BR-05: decisions where a text is no answer, and two questions at once.
    let asked = agent.ask("br05a", "t", "wipe").ok();
    assert!(asked.body["result"].is_null() && !asked.body["interrupts"].is_null(), "{asked:?}");
    let answer = agent.resume("br05a", "t", &json!({ "decisions": [{ "type": "approve" }] })).ok();
    assert_eq!(answer.body["result"], "done", "{answer:?}");
    let asked = agent.ask("br05b", "t", "go").ok();
    let ids: Vec<&str> =
        asked.body["interrupts"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 2, "{asked:?}");
    let unclear = agent.ask("br05b", "t", "yes");
    assert!(unclear.status == 409 && ids.iter().all(|id| unclear.text.contains(id)), "{unclear:?}");
    let answer = agent.resume("br05b", "t", &json!({ ids[0]: "yes", ids[1]: "yes" })).ok();
    assert_eq!(answer.body["result"], "yes yes", "{answer:?}");
    // BR-06: a resume that fails leaves the question open.
    assert!(agent.ask("br06", "t", "please delete").ok().body["result"].is_null());
    assert_eq!(agent.fails("br06", "t", "yes").0, "RuntimeError");
    agent.says("br06", "t", "yes", "deleted");
    // BR-07, BR-08: what LangGraph's server gives a graph.
    agent.says("br07", "t", "hi", "model small");
    agent.says("br08a", "t", "hi", "user ann");
    let (kind, _) = agent.fails("br08b", "t", "hi");
    assert_eq!(kind, "AttributeError");
    let logs = server.rapidclaw(&["logs", "e2e-cases"]).ok().out;
    assert!(logs.contains("store"), "the log says what is missing: {logs}");
    // BR-09: the answer of this turn, whatever its form.
    agent.says("br09a", "t", "hi", "DIRECT ANSWER");
    let answer = agent.ask("br09b", "t", "hi").ok();
    let structured: Value = serde_json::from_str(answer.body["result"].as_str().unwrap()).unwrap();
    assert_eq!(structured, json!({ "city": "Paris", "celsius": 21.0 }), "{answer:?}");
    // BR-10: a message is a message for every reducer.
    agent.says("br10", "t", "hi", "you said hi");
    agent.says("br10", "t", "again", "you said again");
    // BR-11: a sub-agent with its own memory.
    agent.says("br11", "t", "hi", "heard 1");
    agent.says("br11", "t", "hi", "heard 3");

    assert_eq!(server.containers_of("e2e-cases"), containers, "no run took its replica along");
    assert!(server.status("e2e-cases").contains("1 replica"), "{}", server.status("e2e-cases"));
}

#[test]
fn a_node_that_never_gives_the_loop_back_costs_its_replica_and_nobody_else() {
    let Some(project) = project("e2e-case-loop", LANGCHAIN, &["br04"]) else { return };
    let project = project.set("rapidclaw.limits", json!({ "run_timeout": "5s" }));
    let server = Server::start();
    let key = server.deploy(&project).ok().key();
    let agent = Agent { server: &server, name: "e2e-case-loop", key };
    let before = server.containers_of("e2e-case-loop");
    let answer = agent.ask("br04", "t1", "loop");
    assert_eq!(answer.status, 504, "{answer:?}");
    until("the replica is another one, and answers", || match agent.ask("br04", "u", "hi") {
        answer if answer.status == 200 && server.containers_of("e2e-case-loop") != before => Ok(()),
        answer => Err(format!("{answer:?}")),
    });
    let log = server.log();
    assert!(log.contains("br04.py"), "the log names the file that holds the loop: {log}");
}

#[test]
fn what_a_project_pins_and_brings_is_left_alone() {
    let all = "langgraph>=1.0,<2\nlangchain-core>=1,<2\npandas\nnest_asyncio\nuvicorn[standard]\n";
    let Some(project) = project("e2e-cases-libraries", all, &["br12", "br19"]) else { return };
    let server = Server::start();
    let key = server.deploy(&project).ok().key();
    let agent = Agent { server: &server, name: "e2e-cases-libraries", key };
    agent.says("br12", "t", "hi", "rows 2");
    agent.says("br12", "t", "hi", "rows 2");
    agent.says("br19", "t", "hi", "7");

    let pinned = "langgraph>=1.0,<2\nlangchain-core>=1,<2\nwebsockets==10.4\n";
    let Some(project) = self::project("e2e-case-pinned", pinned, &["br20"]) else { return };
    let key = server.deploy(&project).ok().key();
    Agent { server: &server, name: "e2e-case-pinned", key }.says("br20", "t", "hi", "fine");
}
