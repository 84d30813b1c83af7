//! `logs AGENT`: what its replicas wrote.

use crate::api::logs::{LogLine, LogQuery, short_replica};
use crate::cli::args::{Global, LogsArgs};
use crate::cli::exit::{Exit, Failure};
use crate::cli::session;
use crate::cli::ui::{Format, Printer};
use crate::client::ClientError;
use std::time::{Duration, Instant};

/// How many lines are shown where nobody says.
const LINES: usize = 100;

/// How long a server that went away is waited for.
const LOST: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_millis(500);

/// Oldest first. With `--follow` until somebody ends it; a server that starts again is waited for.
pub async fn run(args: &LogsArgs, global: &Global, printer: &Printer) -> Result<Exit, Failure> {
    let client = session::client(global)?;
    let mut query = LogQuery {
        thread: args.thread.clone(),
        run: args.run,
        replica: args.replica.clone(),
        lines: args.lines.or_else(|| args.since.is_none().then_some(LINES)),
        after: args.since.map(|since| since.to_string()),
        follow: args.follow,
    };
    if args.follow {
        printer.become_endless();
    }
    let (mut heard, mut said) = (Instant::now(), false);
    loop {
        // Where a next question goes on: after the last line, or after the time of this one.
        let asked = jiff::Timestamp::now().to_string();
        let mut last = query.after.clone();
        let answer = client
            .logs(&args.agent, &query, |line| {
                show(&line, printer);
                heard = Instant::now();
                said = false;
                last = Some(line.at);
            })
            .await;
        match answer {
            Ok(()) if !args.follow => {
                if last == query.after {
                    printer.note("its replicas wrote no such lines");
                }
                return Ok(Exit::Done);
            }
            Ok(()) => heard = Instant::now(),
            Err(ClientError::Silent { .. }) if args.follow => heard = Instant::now(),
            Err(error) if args.follow && error.is_passing() && heard.elapsed() < LOST => {}
            Err(error) => return Err(error.into()),
        }
        if !said {
            printer.note("the server has gone away; trying again");
            said = true;
        }
        query.after = last.or(Some(asked));
        tokio::time::sleep(RETRY).await;
    }
}

fn show(line: &LogLine, printer: &Printer) {
    printer.event("log", serde_json::json!(line));
    if printer.format() != Format::Json {
        printer.foreign_line(&format!("{} {}", short_replica(line.replica), line.text));
    }
}
