//! `threads AGENT`, `threads show AGENT THREAD`.

use super::history::second;
use super::runs;
use crate::api::history::ThreadView;
use crate::base::text;
use crate::cli::args::{Global, ThreadsArgs, ThreadsCommand};
use crate::cli::exit::{Exit, Failure};
use crate::cli::session;
use crate::cli::ui::{Format, Printer, table, words};

/// Those that ran last first.
pub async fn run(args: &ThreadsArgs, global: &Global, printer: &Printer) -> Result<Exit, Failure> {
    let client = session::client(global)?;
    let agent = match (&args.command, &args.agent) {
        (Some(ThreadsCommand::Show { agent, thread }), _) => return show(agent, thread, global, printer).await,
        (None, Some(agent)) => agent,
        (None, None) => return Err(Failure::said(Exit::Usage, "threads of which agent?")),
    };
    let threads = client.threads(agent, args.limit).await?;
    match printer.format() {
        Format::Json => printer.json_list("threads", &threads),
        Format::Line => threads.iter().for_each(|one| printer.line(words(row(one)))),
        Format::Table if threads.is_empty() => printer.note(format!("{agent} has no threads")),
        Format::Table => {
            printer.line(table(["THREAD", "STATUS", "RUNS", "CREATED", "UPDATED", "ID"], threads.iter().map(row)));
        }
    }
    Ok(Exit::Done)
}

fn row(one: &ThreadView) -> [String; 6] {
    [
        one.thread.clone(),
        one.status.clone(),
        one.runs.to_string(),
        second(&one.created_at),
        second(&one.updated_at),
        one.thread_id.to_string(),
    ]
}

async fn show(agent: &str, thread: &str, global: &Global, printer: &Printer) -> Result<Exit, Failure> {
    let detail = session::client(global)?.thread(agent, thread).await?;
    if printer.format() == Format::Json {
        printer.json(&detail);
        return Ok(Exit::Done);
    }
    let view = &detail.thread;
    let number = |step: Option<i64>| step.map_or_else(|| "-".to_owned(), |step| step.to_string());
    printer.line(format!("thread: {}", text::escaped(&view.thread)));
    printer.line(format!("thread_id: {}", view.thread_id));
    printer.line(format!("status: {}", view.status));
    printer.line(format!("created: {}", second(&view.created_at)));
    printer.line(format!("updated: {}", second(&view.updated_at)));
    match &detail.state {
        None => printer.line("checkpoints: 0"),
        Some(state) => {
            printer.line(format!("checkpoints: {}", state.checkpoints));
            printer.line(format!(
                "newest: {}, step {} ({})",
                state.checkpoint_id,
                number(state.step),
                state.source.as_deref().unwrap_or("-")
            ));
            printer.line(format!("channels: {} ({})", state.channels.len(), text::escaped(&state.channels.join(", "))));
            printer.line(format!("metadata: {}", state.metadata));
        }
    }
    printer.line(format!("runs: {}", view.runs));
    runs::print(&detail.runs, printer);
    printer.note("its values are not shown: they are in LangGraph's own form, which only Python reads");
    Ok(Exit::Done)
}
