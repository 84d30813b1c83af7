//! A replica's log as the engine keeps it, with the time of each line.

use super::calls::{CALL, refused};
use crate::runtime::{LineRange, RuntimeError, WrittenLine};
use bollard::Docker;
use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::StreamExt as _;
use jiff::Timestamp;
use std::time::Duration;
use tokio::sync::mpsc;

/// The engine cuts longer lines into records of 16 KiB; of one that goes on and on so much is kept together.
const LINE_BYTES: usize = 256 << 10;
/// How long a log that is followed may be silent.
const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);

/// Reads until the log ends (with `follow`: until the container does) or nobody takes lines any more.
pub async fn read(
    docker: &Docker,
    container: &str,
    range: LineRange,
    lines: &mpsc::Sender<WrittenLine>,
) -> Result<(), RuntimeError> {
    let tail = range.last.map_or_else(|| "all".to_owned(), |last| last.to_string());
    let mut options =
        LogsOptionsBuilder::new().stdout(true).stderr(true).timestamps(true).follow(range.follow).tail(&tail);
    // The engine takes whole seconds here: what is older within the second is dropped below.
    if let Some(since) = range.after.and_then(|after| i32::try_from(after.as_second()).ok()) {
        options = options.since(since);
    }
    let mut stream = std::pin::pin!(docker.logs(container, Some(options.build())));
    let mut records = Records::default();
    let silence = if range.follow { FOREVER } else { CALL };
    loop {
        let next = tokio::select! {
            () = lines.closed() => return Ok(()),
            next = tokio::time::timeout(silence, stream.next()) => {
                next.map_err(|elapsed| RuntimeError::Unreachable(Box::new(elapsed)))?
            }
        };
        let (found, ended) = match next {
            Some(Ok(chunk)) => (records.take(&String::from_utf8_lossy(&chunk.into_bytes())), false),
            Some(Err(error)) => return Err(refused("reading a replica's log", error)),
            None => (records.rest(), true),
        };
        for line in found.into_iter().filter(|line| range.after.is_none_or(|after| line.at > after)) {
            if lines.send(line).await.is_err() {
                return Ok(());
            }
        }
        if ended {
            return Ok(());
        }
    }
}

/// Puts the engine's records together again: each begins with its time, and one without a line's end is
/// continued by the next.
#[derive(Default)]
struct Records {
    open: Option<WrittenLine>,
}

impl Records {
    fn take(&mut self, chunk: &str) -> Vec<WrittenLine> {
        let mut whole = Vec::new();
        for record in chunk.split_inclusive('\n') {
            let text = record.trim_end_matches(['\n', '\r']);
            let stamped = text.split_once(' ').or(Some((text, "")));
            let stamped = stamped.and_then(|(at, rest)| Some((at.parse::<Timestamp>().ok()?, rest)));
            match (&mut self.open, stamped) {
                (Some(open), Some((_, rest))) => open.text.push_str(rest),
                (Some(open), None) => open.text.push_str(text),
                (None, Some((at, rest))) => self.open = Some(WrittenLine { at, text: rest.to_owned() }),
                // Without a time it cannot be put in order.
                (None, None) => continue,
            }
            let long = self.open.as_ref().is_some_and(|open| open.text.len() >= LINE_BYTES);
            if long || record.ends_with('\n') {
                whole.extend(self.open.take());
            }
        }
        whole
    }

    fn rest(&mut self) -> Vec<WrittenLine> {
        self.open.take().into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_become_lines_with_their_times() {
        let mut records = Records::default();
        let one = "2026-11-22T19:40:48.000000001Z";
        let two = "2026-11-22T19:40:48.000000002Z";
        let lines = records.take(&format!("{one} first\r\n{two} \n{two} a b\n"));
        let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(texts, ["first", "", "a b"]);
        assert_eq!(lines[0].at, one.parse().unwrap());
        assert!(lines[0].at < lines[1].at);
        // A long line comes in several records, each with a time.
        assert_eq!(records.take(&format!("{one} long ")), []);
        assert_eq!(records.take(&format!("{two} line\n"))[0].text, "long line");
        assert_eq!(records.take(&format!("{one} without an end")), []);
        assert_eq!(records.rest()[0].text, "without an end");
        assert_eq!(records.take("no time\n"), []);
    }
}
