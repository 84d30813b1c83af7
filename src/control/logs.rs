//! `logs`: what an agent's replicas wrote, merged by time: as the engine keeps it, and of those that are gone as it
//! was kept in the data folder.

use super::{Control, ControlError};
use crate::api::logs::{LogLine, LogQuery};
use crate::base::ids;
use crate::base::redact::Redactor;
use crate::gateway::committer::chain;
use crate::runtime::kept::KeptLog;
use crate::runtime::{KnownReplica, LineRange, RuntimeError, Stage, WrittenLine};
use crate::store::agents::Agent;
use futures_util::future::join_all;
use jiff::Timestamp;
use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use uuid::Uuid;

/// Lines that are shown when nobody says how many, and the most that are.
const LINES: usize = 100;
const MOST_LINES: usize = 10_000;
/// Lines on their way to a client; a slow one holds its replicas' logs up, and nothing else.
const BUFFER: usize = 256;
/// How often new replicas are looked for while somebody follows.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What follows the line of a run within this time, and bears no run of its own, belongs to it: tracebacks.
const RECORD_MILLIS: i64 = 50;

impl Control {
    /// The lines that are asked for, oldest first. They end when the receiver is dropped, at the last line,
    /// or, with `follow`, when the agent is gone.
    pub async fn logs(&self, name: &str, query: LogQuery) -> Result<mpsc::Receiver<LogLine>, ControlError> {
        let agent = self.find(name).await?;
        let after = query.after.as_deref().map(|text| text.parse().map_err(|_| ControlError::Time(text.to_owned())));
        let after: Option<Timestamp> = after.transpose()?;
        let reading = Reading {
            control: self.clone(),
            redactor: self.redactor(&agent).await?,
            agent,
            which: Which::of(&query),
            replica: query.replica.as_deref().map(|id| id.replace('-', "").to_lowercase()),
        };
        let replicas = reading.replicas().await?;
        let most = query.lines.unwrap_or(if after.is_some() { MOST_LINES } else { LINES }).min(MOST_LINES);
        let past = if query.follow && after.is_some() {
            // Those who are there are followed from then on; what others wrote is what is missing.
            let gone = reading.gone(replicas.iter().map(|one| one.id).collect()).await?;
            reading.kept(gone, MOST_LINES, after, Vec::new()).await?
        } else {
            reading.past(&replicas, most, after).await?
        };
        let settled: HashSet<Uuid> = reading.gone(HashSet::new()).await?.iter().map(|log| log.replica).collect();
        let (sender, receiver) = mpsc::channel(BUFFER);
        self.0.parts.shutdown.spawn_until_cancelled(async move {
            let mut seen: HashMap<Uuid, Timestamp> = HashMap::new();
            for (replica, line) in past {
                seen.insert(replica, line.at);
                if sender.send(wire(replica, line, &reading.redactor)).await.is_err() {
                    return;
                }
            }
            if query.follow {
                // What is not shown because of `lines` is not shown later either.
                let began = after.unwrap_or_else(Timestamp::now);
                let known = replicas.iter().map(|one| (one.id, seen.get(&one.id).copied().unwrap_or(began)));
                reading.follow(known.collect(), settled, after, sender).await;
            }
        });
        Ok(receiver)
    }
}

fn wire(replica: Uuid, line: WrittenLine, redactor: &Redactor) -> LogLine {
    LogLine { at: line.at.to_string(), replica, text: redactor.redact(line.text) }
}

/// One question for an agent's log.
struct Reading {
    control: Control,
    agent: Agent,
    which: Which,
    /// The end of a replica's id, without dashes.
    replica: Option<String>,
    redactor: Redactor,
}

impl Reading {
    async fn replicas(&self) -> Result<Vec<KnownReplica>, RuntimeError> {
        let mut known = self.control.runtime().list().await?;
        known.retain(|one| {
            let asked = self.replica.as_ref().is_none_or(|end| one.id.simple().to_string().ends_with(end));
            one.agent == self.agent.name && one.stage != Stage::Made && asked
        });
        Ok(known)
    }

    /// The last lines that are there, by time.
    async fn past(
        &self,
        replicas: &[KnownReplica],
        most: usize,
        after: Option<Timestamp>,
    ) -> Result<Vec<(Uuid, WrittenLine)>, ControlError> {
        let read = join_all(replicas.iter().map(|one| self.past_of(one.id, most, after))).await;
        let failed = read.iter().all(Result::is_err);
        let (mut lines, mut there) = (Vec::new(), HashSet::new());
        for (one, found) in replicas.iter().zip(read) {
            match found {
                Ok(found) => {
                    there.insert(one.id);
                    lines.extend(found.into_iter().map(|line| (one.id, line)));
                }
                Err(error @ RuntimeError::Unreachable(_)) if failed => return Err(error.into()),
                // It has been removed meanwhile: its log is kept.
                Err(error) => tracing::debug!(replica = %one.id, error = %chain(&error), "a log could not be read"),
            }
        }
        let gone = self.gone(there).await?;
        self.kept(gone, most, after, lines).await
    }

    /// The kept logs that are asked for, but for those of replicas that are `there`, the last first.
    async fn gone(&self, there: HashSet<Uuid>) -> Result<Vec<KeptLog>, ControlError> {
        let (logs, agent) = (self.control.0.parts.logs.clone(), self.agent.id);
        let listed = tokio::task::spawn_blocking(move || logs.list(agent)).await;
        let mut listed = listed.map_err(io::Error::other).flatten().map_err(ControlError::Logs)?;
        listed.retain(|log| {
            let asked = self.replica.as_ref().is_none_or(|end| log.replica.simple().to_string().ends_with(end));
            asked && !there.contains(&log.replica)
        });
        Ok(listed)
    }

    /// These lines with those of kept logs, the last by time.
    async fn kept(
        &self,
        logs: Vec<KeptLog>,
        most: usize,
        after: Option<Timestamp>,
        lines: Lines,
    ) -> Result<Lines, ControlError> {
        let which = self.which.clone();
        let read = tokio::task::spawn_blocking(move || read_kept(&logs, &which, most, after, lines));
        read.await.map_err(io::Error::other).flatten().map_err(ControlError::Logs)
    }

    async fn past_of(
        &self,
        replica: Uuid,
        most: usize,
        after: Option<Timestamp>,
    ) -> Result<VecDeque<WrittenLine>, RuntimeError> {
        // The last lines of a run may stand before many others.
        let last = if self.which.is_all() { Some(most) } else { None };
        let (sender, mut receiver) = mpsc::channel(BUFFER);
        let read = self.control.runtime().read_lines(replica, LineRange { last, after, follow: false }, sender);
        let keep = async {
            let mut selection = Selection::default();
            let mut kept = VecDeque::new();
            while let Some(line) = receiver.recv().await {
                if most > 0 && selection.takes(&self.which, &line) {
                    if kept.len() == most {
                        kept.pop_front();
                    }
                    kept.push_back(line);
                }
            }
            kept
        };
        let (read, kept) = tokio::join!(read, keep);
        read.map(|()| kept)
    }

    /// Hands on what is written from now on, also by replicas that are yet to come. `known` says up to which
    /// time a replica's lines have been handed on.
    async fn follow(
        mut self,
        mut known: HashMap<Uuid, Timestamp>,
        mut settled: HashSet<Uuid>,
        after: Option<Timestamp>,
        sender: mpsc::Sender<LogLine>,
    ) {
        let mut readers: JoinSet<(Uuid, Option<Timestamp>)> = JoinSet::new();
        let mut open: HashSet<Uuid> = HashSet::new();
        let mut tick = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                () = sender.closed() => return,
                Some(ended) = readers.join_next(), if !readers.is_empty() => {
                    let Ok((id, last)) = ended else { continue };
                    open.remove(&id);
                    if let Some(last) = last {
                        known.insert(id, last);
                    }
                }
                _ = tick.tick() => {
                    let Ok(there) = self.replicas().await else { continue };
                    if there.is_empty() && readers.is_empty() && self.is_gone().await {
                        return;
                    }
                    // What a reader has missed of one that was removed, or of one that nobody has seen.
                    let there_ids: HashSet<Uuid> = there.iter().map(|one| one.id).collect();
                    let gone = self.gone(there_ids).await.unwrap_or_default();
                    for log in gone.into_iter().filter(|log| !open.contains(&log.replica)) {
                        if !settled.insert(log.replica) {
                            continue;
                        }
                        let from = known.remove(&log.replica).or(after).filter(|from| *from > Timestamp::MIN);
                        for (replica, line) in self.kept(vec![log], MOST_LINES, from, Vec::new()).await.unwrap_or_default() {
                            if sender.send(wire(replica, line, &self.redactor)).await.is_err() {
                                return;
                            }
                        }
                    }
                    for one in there {
                        let finished = one.stage == Stage::Ended && known.contains_key(&one.id);
                        if finished || open.contains(&one.id) {
                            continue;
                        }
                        // It may be new because secrets changed.
                        if let Ok(newer) = self.control.redactor(&self.agent).await {
                            self.redactor.join(&newer);
                        }
                        let from = known.get(&one.id).copied().or(after);
                        let read = follow_one(self.control.clone(), one.id, from, self.which.clone(), self.redactor.clone(), sender.clone());
                        readers.spawn(read);
                        open.insert(one.id);
                        known.entry(one.id).or_insert(Timestamp::MIN);
                    }
                }
            }
        }
    }

    async fn is_gone(&self) -> bool {
        matches!(self.control.store().find_agent_by_id(self.agent.id).await, Ok(None))
    }
}

/// Lines, and who wrote them.
type Lines = Vec<(Uuid, WrittenLine)>;

/// `lines` with those of these logs (the last first), the last `most` by time. Logs that ended before all of what is
/// found already are not read. Blocks.
fn read_kept(
    logs: &[KeptLog],
    which: &Which,
    most: usize,
    after: Option<Timestamp>,
    mut lines: Lines,
) -> io::Result<Lines> {
    let cut = |lines: &mut Lines| {
        // A stable order: what one replica wrote in one moment stays as it was.
        lines.sort_by_key(|(_, line)| line.at);
        lines.drain(..lines.len().saturating_sub(most));
    };
    cut(&mut lines);
    for log in logs {
        let is_before = |at: Timestamp| log.end.as_millisecond() < at.as_millisecond();
        let is_full = lines.len() >= most;
        if after.is_some_and(is_before) || (is_full && lines.first().is_none_or(|(_, line)| is_before(line.at))) {
            break;
        }
        let mut selection = Selection::default();
        let mut found = VecDeque::new();
        let read = log.read(|line| {
            if after.is_none_or(|after| line.at > after) && selection.takes(which, &line) {
                if found.len() == most {
                    found.pop_front();
                }
                found.push_back((log.replica, line));
            }
            true
        });
        match read {
            // It was too old meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            read => read?,
        }
        lines.extend(found);
        cut(&mut lines);
    }
    Ok(lines)
}

/// Follows one replica until it ends; says when its last line was written.
async fn follow_one(
    control: Control,
    replica: Uuid,
    after: Option<Timestamp>,
    which: Which,
    redactor: Redactor,
    sender: mpsc::Sender<LogLine>,
) -> (Uuid, Option<Timestamp>) {
    let (lines, mut receiver) = mpsc::channel(BUFFER);
    let range = LineRange { last: None, after: after.filter(|after| *after > Timestamp::MIN), follow: true };
    let read = control.runtime().read_lines(replica, range, lines);
    let hand_on = async {
        let mut selection = Selection::default();
        let mut last = None;
        while let Some(line) = receiver.recv().await {
            last = Some(line.at);
            if selection.takes(&which, &line) && sender.send(wire(replica, line, &redactor)).await.is_err() {
                break;
            }
        }
        // Whoever reads sees by it that nobody takes lines any more.
        drop(receiver);
        last
    };
    let (read, last) = tokio::join!(read, hand_on);
    if let Err(error) = read {
        tracing::debug!(%replica, error = %chain(&error), "a log could not be followed");
    }
    (replica, last)
}

/// Which lines are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Which {
    /// Words of which one must stand in the line.
    thread: Vec<String>,
    run: Option<String>,
}

impl Which {
    fn of(query: &LogQuery) -> Self {
        let thread = query.thread.as_ref().map(|given| {
            let mut words = vec![format!("thread_id={}", ids::thread_id(given)), format!("thread_id={given}")];
            words.dedup();
            words
        });
        Self { thread: thread.unwrap_or_default(), run: query.run.map(|run| format!("run_id={run}")) }
    }

    fn is_all(&self) -> bool {
        self.thread.is_empty() && self.run.is_none()
    }

    fn is_in(&self, text: &str) -> bool {
        let has = |word: &String| contains_word(text, word);
        (self.thread.is_empty() || self.thread.iter().any(has)) && self.run.as_ref().is_none_or(has)
    }
}

/// Whether `word` stands in `text` with nothing of a word behind it.
fn contains_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        text[at + word.len()..].chars().next().is_none_or(|next| next.is_whitespace() || ",;)]}\"'".contains(next))
    })
}

/// Which lines of one replica pass: those that bear what is asked for, and the tracebacks behind them.
#[derive(Debug, Default)]
struct Selection {
    /// The last line that passed, while no other record has begun.
    record: Option<Timestamp>,
}

impl Selection {
    fn takes(&mut self, which: &Which, line: &WrittenLine) -> bool {
        if which.is_all() || which.is_in(&line.text) {
            self.record = Some(line.at);
            return true;
        }
        let soon = |at: Timestamp| line.at.as_millisecond() - at.as_millisecond() <= RECORD_MILLIS;
        let goes_on = self.record.is_some_and(soon) && !begins_record(&line.text);
        self.record = goes_on.then_some(line.at);
        goes_on
    }
}

/// Whether a line is the first of a log record: it bears a run, or begins with a date.
fn begins_record(text: &str) -> bool {
    let start: Vec<u8> = text.bytes().take(11).collect();
    let dated = start.len() == 11 && start[..4].iter().all(u8::is_ascii_digit) && start[4] == b'-' && start[7] == b'-';
    dated || text.contains("run_id=") || text.starts_with("rapidclaw: ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(query: &LogQuery, lines: &[(i64, &str)]) -> Vec<String> {
        let which = Which::of(query);
        let mut selection = Selection::default();
        let lines = lines
            .iter()
            .map(|(at, text)| WrittenLine { at: Timestamp::from_millisecond(*at).unwrap(), text: (*text).to_owned() });
        lines.filter(|line| selection.takes(&which, line)).map(|line| line.text).collect()
    }

    #[test]
    fn a_threads_lines_are_found_by_its_name_and_by_its_id_with_their_tracebacks() {
        let query = LogQuery { thread: Some("customer-7".into()), ..LogQuery::default() };
        let id = ids::thread_id("customer-7");
        let named = format!("2026-11-22 19:40:48,001 ERROR rapidclaw: run failed thread_id={id} run_id=1");
        let lines = [
            (0, "2026-11-22 19:40:48,000 INFO graph: other thread_id=x run_id=2"),
            (1, named.as_str()),
            (1, "Traceback (most recent call last):"),
            (2, "ValueError: no"),
            (3, "2026-11-22 19:40:48,003 INFO graph: nobody's"),
            (3, "  not a part of it"),
            (4, "thread_id=customer-7"),
            (500, "somebody prints later"),
            (501, "thread_id=customer-77 run_id=3"),
        ];
        let passed = pass(&query, &lines);
        assert_eq!(passed, [&named, "Traceback (most recent call last):", "ValueError: no", "thread_id=customer-7"]);
    }

    #[test]
    fn a_run_within_a_thread_must_be_both() {
        let run = Uuid::from_u128(5);
        let query = LogQuery { thread: Some("t".into()), run: Some(run), ..LogQuery::default() };
        let (right, wrong) = (format!("thread_id=t run_id={run}"), format!("thread_id=u run_id={run}"));
        assert_eq!(pass(&query, &[(0, &wrong), (1, &right), (2, "thread_id=t run_id=0")]), [right]);
    }

    #[test]
    fn kept_lines_are_merged_by_time_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let (logs, agent) = (crate::runtime::kept::KeptLogs::new(folder.path()), Uuid::from_u128(1));
        let line = |at: i64| WrittenLine { at: Timestamp::from_millisecond(at).unwrap(), text: at.to_string() };
        for (replica, times) in [(1, [10, 40]), (2, [20, 50]), (3, [1, 2])] {
            let mut copy = logs.begin(agent, Uuid::from_u128(replica)).unwrap();
            for at in times {
                copy.add(&line(at)).unwrap();
            }
            copy.finish().unwrap();
        }
        let still_there = vec![(Uuid::from_u128(9), line(30))];
        let read = |most, after: Option<i64>, which: &Which| {
            let after = after.map(|at| Timestamp::from_millisecond(at).unwrap());
            let listed = logs.list(agent).unwrap();
            let found = read_kept(&listed, which, most, after, still_there.clone()).unwrap();
            found.into_iter().map(|(_, line)| line.text).collect::<Vec<_>>()
        };
        assert_eq!(read(100, None, &Which::default()), ["1", "2", "10", "20", "30", "40", "50"]);
        assert_eq!(read(3, None, &Which::default()), ["30", "40", "50"]);
        assert_eq!(read(100, Some(20), &Which::default()), ["30", "40", "50"]);
        let of_run = Which { run: Some("none".into()), ..Which::default() };
        assert_eq!(read(100, None, &of_run), ["30"]);
        assert_eq!(read(0, None, &Which::default()), Vec::<String>::new());
    }

    #[test]
    fn without_a_question_all_lines_pass() {
        assert_eq!(pass(&LogQuery::default(), &[(0, "a"), (9, "b")]), ["a", "b"]);
    }
}
