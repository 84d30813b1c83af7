//! `status`: replicas, p95 and cost per turn of each agent.

use crate::api::control::AgentStatus;
use crate::cli::args::{Global, StatusArgs};
use crate::cli::exit::{Exit, Failure};
use crate::cli::session;
use crate::cli::ui::{Format, Printer, table};
use crate::release::state::{dollars, latency, status_line};

/// Exit 0; 1 when the agent asked for is not there or not healthy.
pub async fn run(args: &StatusArgs, global: &Global, printer: &Printer) -> Result<Exit, Failure> {
    let client = session::client(global)?;
    let agents = match &args.name {
        None => client.agents().await?,
        Some(name) => match client.agent(name).await? {
            Some(agent) => vec![agent],
            None => {
                return Err(Failure::said(Exit::Failed, format!("there is no agent {name:?}"))
                    .hint("`rapidclaw status` lists the agents"));
            }
        },
    };
    match printer.format() {
        Format::Json => printer.json(&agents),
        Format::Line => agents.iter().for_each(|agent| printer.line(line(agent))),
        Format::Table if agents.is_empty() => printer.note("nothing is deployed"),
        Format::Table => printer
            .line(table(["AGENT", "VERSION", "STATE", "REPLICAS", "P95", "$/TURN", "URL"], agents.iter().map(row))),
    }
    for agent in &agents {
        if let Some(reason) = &agent.reason {
            printer.note(format!("{}: {reason}", agent.name));
        }
    }
    let unhealthy = args.name.is_some() && agents.iter().any(|agent| !agent.state.is_healthy());
    Ok(if unhealthy { Exit::Failed } else { Exit::Done })
}

fn line(agent: &AgentStatus) -> String {
    status_line(&agent.name, agent.version, agent.state, agent.ready, agent.p95_ms, agent.cost_per_turn)
}

fn row(agent: &AgentStatus) -> [String; 7] {
    [
        agent.name.clone(),
        format!("v{}", agent.version),
        agent.state.to_string(),
        if agent.ready == agent.wanted { agent.ready.to_string() } else { format!("{}/{}", agent.ready, agent.wanted) },
        latency(agent.p95_ms),
        dollars(agent.cost_per_turn),
        agent.url.clone(),
    ]
}
