//! LangSmith's tracing switched on where nothing may leave: turns, log, memory and the replica's end are as
//! without it.

use crate::machine::{Project, Server, until};

/// Answers with the process's memory in MiB; its state is a megabyte that each trace carries.
const HEAVY: &str = r#"from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph


class State(MessagesState, total=False):
    ballast: str


def memory():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) >> 10 for line in file if line.startswith("VmRSS"))


async def answer(state: State) -> dict:
    return {"messages": [AIMessage(str(memory()))], "ballast": "x" * (1 << 20)}


graph = StateGraph(State).add_node(answer).add_edge(START, "answer").compile()
"#;

#[test]
fn tracing_to_where_nothing_may_go_costs_neither_memory_nor_log_nor_the_replicas_end() {
    let server = Server::start();
    let traced = "LANGSMITH_TRACING=true\nLANGSMITH_API_KEY=lsv2_x\n";
    let project = Project::new("traced").graph(HEAVY).env(traced);
    let deployed = server.deploy(&project).ok();
    let key = deployed.says("LANGSMITH_TRACING is not used: no trace would arrive; ").key();

    let memory = |number: usize| server.turn("traced", &key, &format!("t{number}"), "hi").parse::<u64>().unwrap();
    let turns: Vec<u64> = (0..100).map(memory).collect();
    assert!(turns[99] < turns[10] + 60, "MiB after each turn: {turns:?}");

    // Nothing is tried, so that nothing is said of it at each turn.
    let log = server.rapidclaw(&["logs", "traced"]).ok().out;
    assert!(!log.contains("api.smith.langchain.com"), "{log}");

    let containers = server.containers_of("traced");
    server.rapidclaw(&["scale", "traced", "0"]).ok();
    until("the replica has ended", || match server.containers_of("traced") {
        left if left.is_disjoint(&containers) => Ok(()),
        left => Err(format!("{left:?}")),
    });
}
