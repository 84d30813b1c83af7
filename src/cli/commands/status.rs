//! `status`: replicas, p95 and cost per turn of each agent.

use crate::api::control::AgentStatus;
use crate::cli::args::{Global, StatusArgs};
use crate::cli::exit::{Exit, Failure};
use crate::cli::session;
use crate::cli::ui::{Format, Printer, Screen, table};
use crate::client::Client;
use crate::release::state::{dollars, draining_line, error_rate, latency, status_line};
use std::collections::HashMap;
use std::time::Duration;

/// How often it is looked again.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Exit 0; 1 when the agent asked for is not there or not healthy.
pub async fn run(args: &StatusArgs, global: &Global, printer: &Printer) -> Result<Exit, Failure> {
    let client = session::client(global)?;
    if args.watch {
        return watch(&client, args.name.as_deref(), printer).await;
    }
    let (agents, health) = tokio::join!(look(&client, args.name.as_deref()), client.server_health());
    let agents = agents?;
    match printer.format() {
        Format::Json => printer.json_list("agents", &agents),
        Format::Line => agents.iter().for_each(|agent| printer.line(line(agent))),
        Format::Table if agents.is_empty() => printer.note("nothing is deployed"),
        Format::Table => printer.line(table_of(&agents)),
    }
    remarks(&agents).for_each(|reason| printer.note(reason));
    // A server of before does not say how it is.
    for problem in health.unwrap_or_default().problems() {
        printer.note(format!("server: {problem}"));
    }
    let unhealthy = args.name.is_some() && agents.iter().any(|agent| !agent.state.is_healthy());
    Ok(if unhealthy { Exit::Failed } else { Exit::Done })
}

async fn look(client: &Client, name: Option<&str>) -> Result<Vec<AgentStatus>, Failure> {
    let Some(name) = name else { return Ok(client.agents().await?) };
    let missing = || {
        Failure::said(Exit::Failed, format!("there is no agent {name:?}")).hint("`rapidclaw status` lists the agents")
    };
    Ok(vec![client.agent(name).await?.ok_or_else(missing)?])
}

/// Until somebody ends it: in place on a terminal; elsewhere an agent's line each time it changes.
async fn watch(client: &Client, name: Option<&str>, printer: &Printer) -> Result<Exit, Failure> {
    printer.become_endless();
    let mut screen = Screen::default();
    let mut known: HashMap<String, String> = HashMap::new();
    // What is wrong at the start is an error; a server that goes away later may come back.
    let mut found = Some(look(client, name).await?);
    let mut away = false;
    loop {
        match found.take() {
            Some(agents) if printer.format() == Format::Table => screen.show(&picture(&agents)),
            Some(agents) => {
                away = false;
                for agent in &agents {
                    let line = line(agent);
                    if known.insert(agent.name.clone(), line.clone()).is_some_and(|before| before == line) {
                        continue;
                    }
                    printer.event("agent", serde_json::json!(agent));
                    if printer.format() != Format::Json {
                        printer.line(line);
                    }
                }
                known.retain(|name, _| agents.iter().any(|agent| agent.name == *name));
            }
            None if printer.format() == Format::Table => screen.show("the server cannot be reached; trying again"),
            None if away => {}
            None => {
                printer.note("the server cannot be reached; trying again");
                away = true;
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
        found = match look(client, name).await {
            Ok(agents) => Some(agents),
            Err(failure) if failure.exit == Exit::Unreachable => None,
            Err(failure) => return Err(failure),
        };
    }
}

fn picture(agents: &[AgentStatus]) -> String {
    if agents.is_empty() {
        return "nothing is deployed".to_owned();
    }
    [table_of(agents)].into_iter().chain(remarks(agents)).collect::<Vec<_>>().join("\n")
}

fn table_of(agents: &[AgentStatus]) -> String {
    table(["AGENT", "VERSION", "STATE", "REPLICAS", "P95", "$/TURN", "ERRORS", "URL"], agents.iter().map(row))
}

/// Why an agent is not healthy, which run held a replica, what failed in the server for it, and which releases still drain.
fn remarks(agents: &[AgentStatus]) -> impl Iterator<Item = String> {
    agents.iter().flat_map(|agent| {
        let draining = agent.draining.iter().map(|old| draining_line(old.version, old.runs, old.oldest_seconds));
        let tasks = agent.tasks.iter().map(|task| format!("the server's {task}"));
        agent
            .reason
            .iter()
            .chain(&agent.held)
            .cloned()
            .chain(tasks)
            .chain(draining)
            .map(|line| format!("{}: {line}", agent.name))
    })
}

fn line(agent: &AgentStatus) -> String {
    status_line(&agent.name, agent.version, agent.state, agent.ready, agent.p95_ms, agent.cost_per_turn)
}

fn row(agent: &AgentStatus) -> [String; 8] {
    [
        agent.name.clone(),
        format!("v{}", agent.version),
        agent.state.to_string(),
        if agent.ready == agent.wanted { agent.ready.to_string() } else { format!("{}/{}", agent.ready, agent.wanted) },
        latency(agent.p95_ms),
        dollars(agent.cost_per_turn),
        error_rate(agent.runs, agent.failed),
        agent.url.clone(),
    ]
}
