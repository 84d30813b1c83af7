//! Logs of replicas that are gone, in the data folder: `logs/AGENT/END-REPLICA`, a line each as the engine has them,
//! its time and its text. A file gets its name when it is whole and on the disk, and only then its replica is removed:
//! a server that is killed in between finds the replica again and copies it once more. All of it blocks.

use super::{KnownReplica, WrittenLine};
use jiff::Timestamp;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use uuid::Uuid;

/// Bytes of an agent's kept logs; the oldest replicas' go first.
const MOST_BYTES: u64 = 64 << 20;

/// The kept logs of a server.
#[derive(Debug, Clone)]
pub struct KeptLogs {
    folder: PathBuf,
}

/// A kept log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptLog {
    /// Whose it is.
    pub replica: Uuid,
    /// When its last line was written.
    pub end: Timestamp,
    path: PathBuf,
}

impl KeptLogs {
    /// Those of a data folder.
    pub fn new(data_dir: &Path) -> Self {
        Self { folder: data_dir.join("logs") }
    }

    fn of(&self, agent: Uuid) -> PathBuf {
        self.folder.join(agent.simple().to_string())
    }

    /// Begins a replica's log.
    pub fn begin(&self, agent: Uuid, replica: Uuid) -> io::Result<Copy> {
        let folder = self.of(agent);
        crate::base::paths::ensure_dir(&self.folder, 0o700)?;
        crate::base::paths::ensure_dir(&folder, 0o700)?;
        let draft = tempfile::Builder::new().prefix(".").tempfile_in(&folder)?;
        Ok(Copy { draft: BufWriter::new(draft), folder, replica, end: None })
    }

    /// An agent's kept logs, those that ended last first.
    pub fn list(&self, agent: Uuid) -> io::Result<Vec<KeptLog>> {
        let entries = match fs::read_dir(self.of(agent)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut found: Vec<KeptLog> = entries.flatten().filter_map(|entry| named(&entry.path())).collect();
        found.sort_by_key(|log| std::cmp::Reverse(log.end));
        Ok(found)
    }

    /// Removes what is older than `retention`, and the oldest where all are too large.
    pub fn sweep(&self, agent: Uuid, retention: Duration, now: Timestamp) -> io::Result<usize> {
        let mut removed = 0;
        let mut bytes = 0;
        for log in self.list(agent)? {
            bytes += fs::metadata(&log.path).map_or(0, |meta| meta.len());
            let age = now.as_millisecond() - log.end.as_millisecond();
            let is_old = u128::try_from(age).is_ok_and(|age| age > retention.as_millis());
            if is_old || retention.is_zero() || bytes > MOST_BYTES {
                removed += usize::from(gone(fs::remove_file(&log.path))?);
            }
        }
        Ok(removed)
    }

    /// Removes all of an agent that is gone.
    pub fn forget(&self, agent: Uuid) -> io::Result<()> {
        gone(fs::remove_dir_all(self.of(agent))).map(drop)
    }

    /// Removes what is there of agents that are gone.
    pub fn forget_all_but(&self, agents: &HashSet<Uuid>) -> io::Result<()> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries.flatten() {
            let agent = entry.file_name().to_str().and_then(|name| Uuid::try_parse(name).ok());
            if let Some(agent) = agent.filter(|agent| !agents.contains(agent)) {
                self.forget(agent)?;
            }
        }
        Ok(())
    }
}

/// Whether it was there.
fn gone(removed: io::Result<()>) -> io::Result<bool> {
    match removed {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn named(path: &Path) -> Option<KeptLog> {
    let (end, replica) = path.file_name()?.to_str()?.split_once('-')?;
    let end = Timestamp::from_millisecond(end.parse().ok()?).ok()?;
    Some(KeptLog { replica: Uuid::try_parse(replica).ok()?, end, path: path.to_owned() })
}

impl KeptLog {
    /// Hands its lines on, oldest first, until nobody wants more.
    pub fn read(&self, mut each: impl FnMut(WrittenLine) -> bool) -> io::Result<()> {
        let mut reader = BufReader::new(File::open(&self.path)?);
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            if reader.read_until(b'\n', &mut bytes)? == 0 {
                return Ok(());
            }
            let text = String::from_utf8_lossy(&bytes);
            let text = text.trim_end_matches('\n');
            let (at, text) = text.split_once(' ').unwrap_or((text, ""));
            let Ok(at) = at.parse() else { continue };
            if !each(WrittenLine { at, text: text.to_owned() }) {
                return Ok(());
            }
        }
    }
}

/// A log on its way into the folder; what is dropped was never there.
pub struct Copy {
    draft: BufWriter<tempfile::NamedTempFile>,
    folder: PathBuf,
    replica: Uuid,
    end: Option<Timestamp>,
}

impl Copy {
    /// Adds a line; nobody's secrets are in it.
    pub fn add(&mut self, line: &WrittenLine) -> io::Result<()> {
        self.end = Some(self.end.map_or(line.at, |end| end.max(line.at)));
        writeln!(self.draft, "{} {}", line.at, line.text.replace('\n', " "))
    }

    /// Gives it its name. A replica that wrote nothing leaves nothing.
    pub fn finish(self) -> io::Result<()> {
        let Some(end) = self.end else { return Ok(()) };
        let draft = self.draft.into_inner().map_err(io::IntoInnerError::into_error)?;
        draft.as_file().sync_all()?;
        let name = format!("{}-{}", end.as_millisecond(), self.replica.simple());
        draft.persist(self.folder.join(&name)).map_err(|error| error.error)?;
        // One that was copied before, when its last lines were not there yet.
        for entry in fs::read_dir(&self.folder)?.flatten() {
            if entry.file_name() != *name && named(&entry.path()).is_some_and(|log| log.replica == self.replica) {
                gone(fs::remove_file(entry.path()))?;
            }
        }
        File::open(&self.folder)?.sync_all()
    }
}

/// Those of the replicas' kept logs whose containers are not there any more.
pub fn without(mut logs: Vec<KeptLog>, known: &[KnownReplica]) -> Vec<KeptLog> {
    logs.retain(|log| known.iter().all(|one| one.id != log.replica));
    logs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(at: i64, text: &str) -> WrittenLine {
        WrittenLine { at: Timestamp::from_millisecond(at).unwrap(), text: text.to_owned() }
    }

    fn keep(logs: &KeptLogs, agent: Uuid, replica: u128, lines: &[WrittenLine]) {
        let mut copy = logs.begin(agent, Uuid::from_u128(replica)).unwrap();
        for line in lines {
            copy.add(line).unwrap();
        }
        copy.finish().unwrap();
    }

    fn replicas(logs: &KeptLogs, agent: Uuid) -> Vec<u128> {
        logs.list(agent).unwrap().iter().map(|log| log.replica.as_u128()).collect()
    }

    #[test]
    fn lines_come_back_as_they_were_and_a_copy_that_was_not_finished_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let (logs, agent) = (KeptLogs::new(folder.path()), Uuid::from_u128(1));
        assert_eq!(logs.list(agent).unwrap(), []);
        let lines = [line(1_000, "one"), line(2_000, ""), line(2_000, "  two ü"), line(3_000, "a b")];
        keep(&logs, agent, 7, &lines);
        let mut copy = logs.begin(agent, Uuid::from_u128(8)).unwrap();
        copy.add(&lines[0]).unwrap();
        drop(copy);
        keep(&logs, agent, 9, &[]);
        let kept = logs.list(agent).unwrap();
        assert_eq!(kept.len(), 1);
        let mut read = Vec::new();
        kept[0]
            .read(|line| {
                read.push(line);
                true
            })
            .unwrap();
        assert_eq!(read, lines);
        // copied again with one more line, it is there once
        keep(&logs, agent, 7, &[line(1_000, "one"), line(4_000, "more")]);
        assert_eq!(replicas(&logs, agent), [7]);
        assert_eq!(fs::read_dir(logs.of(agent)).unwrap().count(), 1);
    }

    #[test]
    fn old_logs_go_by_age_and_by_size_and_with_their_agent() {
        let folder = tempfile::tempdir().unwrap();
        let (logs, agent) = (KeptLogs::new(folder.path()), Uuid::from_u128(1));
        for replica in 1..=3_u32 {
            keep(&logs, agent, replica.into(), &[line(i64::from(replica) * 1_000, "x")]);
        }
        let at = |seconds: i64| Timestamp::from_second(seconds).unwrap();
        assert_eq!(logs.sweep(agent, Duration::from_secs(10), at(12)).unwrap(), 1);
        assert_eq!(replicas(&logs, agent), [3, 2]);
        // Two of more than half the room: the older goes.
        let long = "y".repeat(1 << 20);
        let lines: Vec<WrittenLine> = (0..40).map(|_| line(4_000, &long)).collect();
        keep(&logs, agent, 4, &lines);
        keep(&logs, agent, 5, &[line(5_000, &long)]);
        keep(&logs, agent, 6, &lines.iter().map(|one| line(6_000, &one.text)).collect::<Vec<_>>());
        logs.sweep(agent, Duration::from_secs(10), at(12)).unwrap();
        assert_eq!(replicas(&logs, agent), [6, 5]);
        assert_eq!(logs.sweep(agent, Duration::ZERO, at(12)).unwrap(), 2);
        keep(&logs, agent, 7, &[line(1, "x")]);
        logs.forget_all_but(&HashSet::from([agent])).unwrap();
        assert_eq!(replicas(&logs, agent), [7]);
        logs.forget_all_but(&HashSet::new()).unwrap();
        assert_eq!(replicas(&logs, agent), Vec::<u128>::new());
    }
}
