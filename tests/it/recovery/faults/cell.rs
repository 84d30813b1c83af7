//! One cell of the matrix: an agent whose deploy or rollback is in one phase when the victim is killed.

use crate::machine::{Project, Said, Server};
use serde_json::{Value, json};
use std::process::{Child, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    Deploy,
    /// To a release whose replicas are kept.
    RollbackToStandby,
    /// To a release of which nothing runs.
    Rollback,
}

/// Where it stands. There is no push yet: the engine that builds is the one that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Build,
    Start,
    Ready,
    Switch,
    Draining,
}

pub const CELLS: [(Work, Phase); 13] = [
    (Work::Deploy, Phase::Build),
    (Work::Deploy, Phase::Start),
    (Work::Deploy, Phase::Ready),
    (Work::Deploy, Phase::Switch),
    (Work::Deploy, Phase::Draining),
    (Work::RollbackToStandby, Phase::Start),
    (Work::RollbackToStandby, Phase::Ready),
    (Work::RollbackToStandby, Phase::Switch),
    (Work::RollbackToStandby, Phase::Draining),
    (Work::Rollback, Phase::Start),
    (Work::Rollback, Phase::Ready),
    (Work::Rollback, Phase::Switch),
    (Work::Rollback, Phase::Draining),
];

impl Work {
    pub fn words(self) -> &'static str {
        match self {
            Self::Deploy => "deploy",
            Self::RollbackToStandby => "rollback (standby)",
            Self::Rollback => "rollback",
        }
    }
}

impl Phase {
    pub fn word(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Start => "start",
            Self::Ready => "ready",
            Self::Switch => "switch",
            Self::Draining => "draining",
        }
    }
}

/// Says its word, how many turns the thread has, and the last of them. Its module waits for the file `load` in
/// the replica's folder, a turn that says "wait" for the file `go`: the test says when.
const GRAPH: &str = r#"import asyncio
import os
import time

from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph

WORD = "@WORD@"
FOLDER = "/run/rapidclaw/r/"

print(WORD, "is being loaded", flush=True)
while not os.path.exists(FOLDER + "load"):
    time.sleep(0.02)


async def answer(state: MessagesState) -> dict:
    said = [message.content for message in state["messages"] if message.type == "human"]
    while said[-1] == "wait" and not os.path.exists(FOLDER + "go"):
        await asyncio.sleep(0.05)
    return {"messages": [AIMessage(f"{WORD} {len(said)}: {said[-1]}")]}


graph = StateGraph(MessagesState).add_node(answer).add_edge(START, "answer").compile()
"#;

/// The run that keeps an old release draining.
pub type Turn = JoinHandle<Result<String, String>>;

/// One cell.
pub struct Cell {
    pub work: Work,
    pub phase: Phase,
    pub agent: String,
    pub key: String,
    /// What answers before the switch, and after it.
    pub words: [String; 2],
    /// Their versions.
    pub versions: [i64; 2],
    pub project: Project,
    pub cli: Option<Child>,
    pub turn: Option<Turn>,
}

impl Cell {
    /// The agent with its first release.
    pub fn deployed(server: &Server, suffix: &str, work: Work, phase: Phase) -> Self {
        let begin = match work {
            Work::Deploy => "deploy",
            Work::RollbackToStandby => "standby",
            Work::Rollback => "rollback",
        };
        let agent = format!("f-{begin}-{}-{suffix}", phase.word());
        let project = Project::new(&agent).graph(&GRAPH.replace("@WORD@", "one"));
        let key = server.deploy(&project).ok().key();
        assert_eq!(server.turn(&agent, &key, "t", "first"), "one 1: first");
        let words = ["one".to_owned(), "two".to_owned()];
        Self { work, phase, agent, key, words, versions: [1, 2], project, cli: None, turn: None }
    }

    /// For a rollback: the second release, which it takes back.
    pub fn prepare(&mut self, server: &Server) {
        if self.work == Work::Deploy {
            return;
        }
        self.next("two");
        server.deploy(&self.project).ok();
        self.words.reverse();
        self.versions = [2, 3];
    }

    fn next(&self, word: &str) {
        self.project.write("agent.py", &GRAPH.replace("@WORD@", word));
    }

    /// Begins the deploy or the rollback.
    pub fn begin(&mut self, server: &Server) {
        let mut command = server.machine.command();
        match self.work {
            Work::Deploy => {
                self.next("two");
                command.arg("deploy").current_dir(self.project.path());
            }
            Work::RollbackToStandby | Work::Rollback => {
                command.args(["rollback", "--agent", &self.agent]);
            }
        }
        let out = |name: &str| std::fs::File::create(self.project.path().join(name)).unwrap();
        self.cli = Some(command.stdout(out(".out")).stderr(out(".err")).stdin(Stdio::null()).spawn().unwrap());
    }

    /// Begins a turn that goes on until its gate opens; repeated under its key when its connection is cut.
    pub fn begin_turn(&mut self, server: &Server) {
        let url = format!("{}/agents/{}/v1/chat", server.agents_url, self.agent);
        let key = self.key.clone();
        self.turn = Some(std::thread::spawn(move || {
            let body = json!({ "thread_id": "long", "user_id": "u", "message": "wait" });
            let began = Instant::now();
            let mut last = String::new();
            while began.elapsed() < Duration::from_secs(120) {
                match crate::machine::try_post(&url, &[("x-api-key", &key), ("idempotency-key", "long")], &body) {
                    Ok(answer) if answer.status == 200 => {
                        return Ok(answer.body["result"].as_str().unwrap_or_default().to_owned());
                    }
                    Ok(answer) if answer.status == 503 => last = answer.text,
                    Ok(answer) => return Err(answer.text),
                    Err(error) => last = format!("{error:?}"),
                }
                std::thread::sleep(Duration::from_millis(200));
            }
            Err(format!("no answer: {last}"))
        }));
    }

    /// SIGKILL of its CLI. Says whether it ran still.
    pub fn kill_cli(&mut self) -> bool {
        let cli = self.cli.as_mut().unwrap();
        let ran = cli.try_wait().unwrap().is_none();
        cli.kill().unwrap();
        ran
    }

    /// What the CLI said in the end.
    pub fn said(&mut self) -> Said {
        let mut cli = self.cli.take().unwrap();
        let began = Instant::now();
        let status = loop {
            if let Some(status) = cli.try_wait().unwrap() {
                break status;
            }
            assert!(began.elapsed() < Duration::from_secs(90), "the CLI of {} does not end", self.agent);
            std::thread::sleep(Duration::from_millis(50));
        };
        let read = |name: &str| std::fs::read_to_string(self.project.path().join(name)).unwrap();
        Said::new(&format!("{} of {}", self.work.words(), self.agent), status.code(), read(".out"), read(".err"))
    }

    /// The newest of something that the CLI lists.
    pub fn newest(&self, server: &Server, what: &str) -> Value {
        server.rapidclaw(&[what, &self.agent, "--json"]).ok().json()[what][0].clone()
    }
}
