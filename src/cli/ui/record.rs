//! What programs read: events as they happen and a result at the end, one JSON object a line, on stdout with
//! `--json` and in the file of `RAPIDCLAW_OUTPUT_FILE`.

use crate::base::shutdown::CancellationToken;
use crate::base::text;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Which command speaks, and whether it speaks while it works.
#[derive(Debug, Clone, Copy)]
struct Speaker {
    command: &'static str,
    streams: bool,
}

/// Writes for programs.
#[derive(Default)]
pub struct Record {
    speaker: OnceLock<Speaker>,
    /// Whether stdout is for programs.
    stdout: bool,
    file: Option<Mutex<File>>,
    seq: AtomicU64,
    /// Whether the result is known.
    ended: AtomicBool,
    /// The result of a stream: its last line, when the command has ended.
    last: Mutex<Option<Map<String, Value>>>,
    /// Cancelled when stdout has no reader any more.
    reader_gone: CancellationToken,
}

impl Record {
    /// `stdout` with `--json`; the file is appended to, and nobody else may read it.
    pub fn new(stdout: bool, file: Option<&Path>) -> std::io::Result<Self> {
        let open = |path| File::options().create(true).append(true).mode(0o600).open(path).map(Mutex::new);
        Ok(Self { stdout, file: file.map(open).transpose()?, ..Self::default() })
    }

    /// Without a file.
    pub fn only_stdout(stdout: bool) -> Self {
        Self { stdout, ..Self::default() }
    }

    /// Names the command. One that streams says what it does while it does it.
    pub fn begin(&self, command: &'static str, streams: bool) {
        let _ = self.speaker.set(Speaker { command, streams });
    }

    fn speaker(&self) -> Speaker {
        *self.speaker.get().unwrap_or(&Speaker { command: "rapidclaw", streams: false })
    }

    /// Whether lines are said while the command works.
    pub fn streams(&self) -> bool {
        self.speaker().streams
    }

    /// Something happened.
    pub fn event(&self, kind: &str, fields: Value) {
        if !self.streams() || (!self.stdout && self.file.is_none()) {
            return;
        }
        let mut line = Map::new();
        line.insert("schema".to_owned(), json!("rapidclaw.event/v1"));
        line.insert("type".to_owned(), json!(kind));
        self.number(&mut line);
        line.extend(object(fields));
        self.write(&Value::Object(line), true);
    }

    /// What came of the command. Of one that does not stream stdout gets a whole document.
    pub fn result(&self, fields: Value) {
        if self.ended.swap(true, Ordering::Relaxed) {
            return;
        }
        let Speaker { command, streams } = self.speaker();
        let mut line = Map::new();
        line.insert("schema".to_owned(), json!(format!("rapidclaw.{command}/v1")));
        if streams {
            line.extend(object(fields));
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(line);
        } else {
            line.extend(object(fields));
            self.write(&Value::Object(line), false);
        }
    }

    /// That the command failed, and why.
    pub fn failure(&self, fields: Value) {
        if self.ended.swap(true, Ordering::Relaxed) {
            return;
        }
        let Speaker { command, streams } = self.speaker();
        let mut line = Map::new();
        line.insert("schema".to_owned(), json!("rapidclaw.error/v1"));
        line.insert("type".to_owned(), json!("result"));
        line.insert("command".to_owned(), json!(command));
        if streams {
            self.number(&mut line);
        }
        line.insert("ok".to_owned(), json!(false));
        line.extend(object(fields));
        self.write(&Value::Object(line), streams);
    }

    /// The command has ended with this code: a stream that has no result yet gets one, and so does the file.
    pub fn finish(&self, exit: u8) {
        let Speaker { command, streams } = self.speaker();
        let result = self.last.lock().unwrap_or_else(PoisonError::into_inner).take();
        if self.ended.swap(true, Ordering::Relaxed) && result.is_none() {
            return;
        }
        let mut line = Map::new();
        line.insert("schema".to_owned(), json!(format!("rapidclaw.{command}/v1")));
        line.insert("type".to_owned(), json!("result"));
        if streams {
            self.number(&mut line);
        }
        line.insert("ok".to_owned(), json!(exit == 0));
        line.insert("exit".to_owned(), json!(exit));
        line.extend(result.unwrap_or_default());
        let line = Value::Object(line);
        if streams { self.write(&line, true) } else { self.write_file(&line) }
    }

    fn number(&self, line: &mut Map<String, Value>) {
        line.insert("seq".to_owned(), json!(self.seq.fetch_add(1, Ordering::Relaxed) + 1));
        line.insert("at".to_owned(), json!(jiff::Timestamp::now().to_string()));
    }

    fn write(&self, value: &Value, on_one_line: bool) {
        if self.stdout {
            let text =
                if on_one_line { value.to_string() } else { serde_json::to_string_pretty(value).unwrap_or_default() };
            self.on_stdout(&text::escaped_json(&text));
        }
        self.write_file(value);
    }

    /// Writes a line, or several, to stdout. A reader that has gone away is no error, but is remembered.
    pub fn on_stdout(&self, text: &str) {
        let written = writeln!(anstream::stdout(), "{text}");
        if written.is_err_and(|error| error.kind() == ErrorKind::BrokenPipe) {
            self.reader_gone.cancel();
        }
    }

    /// Waits until stdout was found to have no reader any more.
    pub async fn reader_gone(&self) {
        self.reader_gone.cancelled().await;
    }

    fn write_file(&self, value: &Value) {
        if let Some(file) = &self.file {
            // One write a line: what another process appends stands between lines.
            let _ = file.lock().unwrap_or_else(PoisonError::into_inner).write_all(format!("{value}\n").as_bytes());
        }
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        Value::Null => Map::new(),
        other => Map::from_iter([("items".to_owned(), other)]),
    }
}

/// What serializes, as JSON.
pub fn value(one: &impl Serialize) -> Value {
    serde_json::to_value(one).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(streams: bool, work: impl FnOnce(&Record)) -> Vec<Value> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let record = Record::new(false, Some(&path)).unwrap();
        record.begin("deploy", streams);
        work(&record);
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_stream_has_one_result_and_it_is_the_last_line() {
        let said = lines(true, |record| {
            record.event("note", json!({ "message": "one" }));
            record.result(json!({ "version": 2 }));
            record.event("note", json!({ "message": "two" }));
            record.failure(json!({}));
            record.finish(0);
            record.finish(1);
        });
        assert_eq!(said.len(), 3);
        assert_eq!((&said[0]["seq"], &said[0]["type"]), (&json!(1), &json!("note")));
        assert_eq!(
            (&said[2]["type"], &said[2]["version"], &said[2]["ok"]),
            (&json!("result"), &json!(2), &json!(true))
        );
        assert_eq!(said[2]["schema"], "rapidclaw.deploy/v1");
    }

    #[test]
    fn a_command_that_only_answers_says_no_events_and_always_how_it_ended() {
        let said = lines(false, |record| {
            record.event("note", json!({ "message": "one" }));
            record.finish(4);
        });
        assert_eq!(said, [json!({ "schema": "rapidclaw.deploy/v1", "type": "result", "ok": false, "exit": 4 })]);
    }
}
