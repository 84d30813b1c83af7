//! The way of log lines to a file or pipe: a bounded queue, and one thread that writes. Whoever logs never waits
//! for a disk or a reader, and no error of theirs comes back to it; what could not be written is counted.

use crate::base::secret::{ExposeSecret as _, SecretString};
use crate::base::text;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// Lines that wait to be written; more are dropped.
const QUEUE_LINES: usize = 8192;
/// Bytes that wait to be written; more are dropped.
const QUEUE_BYTES: usize = 8 << 20;
/// The longest line; of a longer one the rest is dropped.
const LINE_BYTES: usize = 32 << 10;
/// A pipe that is full and does not block is tried again so often, so long after each other.
const TRIES: u32 = 200;
const TRY_EVERY: Duration = Duration::from_millis(5);
/// What stands in the place of a secret.
const BLOT: &str = "***";

enum Entry {
    Line(Vec<u8>),
    /// Answered when all before it has been written or dropped.
    Flush(SyncSender<()>),
}

/// Takes lines, from any thread.
pub struct Sink {
    queue: SyncSender<Entry>,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct Counters {
    queued_bytes: AtomicUsize,
    dropped: AtomicU64,
    /// Values that are blotted out of every line, longest first.
    concealed: RwLock<Vec<SecretString>>,
}

impl Sink {
    /// Starts the thread that writes; `json` says of what form lines are. `lost` is told how many lines were dropped once one could be written again.
    pub fn start(
        out: impl Write + Send + 'static,
        json: bool,
        lost: impl Fn(u64) + Send + 'static,
    ) -> io::Result<Self> {
        let (queue, entries) = sync_channel(QUEUE_LINES);
        let counters = Arc::new(Counters::default());
        let shared = Arc::clone(&counters);
        let write = move || write_all(&entries, &shared, out, json, &lost);
        std::thread::Builder::new().name("log".to_owned()).spawn(write)?;
        Ok(Self { queue, counters })
    }

    /// Queues a line, or drops it.
    pub fn push(&self, line: &[u8]) {
        let bytes = line.len().min(LINE_BYTES);
        let queued = &self.counters.queued_bytes;
        if queued.fetch_add(bytes, Ordering::Relaxed) + bytes <= QUEUE_BYTES
            && self.queue.try_send(Entry::Line(line[..bytes].to_vec())).is_ok()
        {
            return;
        }
        queued.fetch_sub(bytes, Ordering::Relaxed);
        self.counters.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// How many lines were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.counters.dropped.load(Ordering::Relaxed)
    }

    /// Blots these values out of every line from now on.
    pub fn conceal<'a>(&self, values: impl Iterator<Item = &'a str>) {
        let mut concealed = self.counters.concealed.write().unwrap_or_else(PoisonError::into_inner);
        for value in values.filter(|value| !value.is_empty()) {
            if concealed.iter().all(|known| known.expose_secret() != value) {
                concealed.push(SecretString::from(value));
            }
        }
        // A value that holds another goes first, or its rest would stay.
        concealed.sort_by_key(|value| std::cmp::Reverse(value.expose_secret().len()));
    }

    /// Waits until what was queued is written or dropped, `patience` at most; also behind a full queue.
    pub fn flush(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let (done, written) = sync_channel(1);
        let mut entry = Entry::Flush(done);
        loop {
            match self.queue.try_send(entry) {
                Ok(()) => break,
                Err(TrySendError::Full(back)) if Instant::now() < deadline => entry = back,
                Err(_) => return,
            }
            std::thread::sleep(TRY_EVERY);
        }
        let _ = written.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

fn write_all(entries: &Receiver<Entry>, counters: &Counters, mut out: impl Write, json: bool, lost: &impl Fn(u64)) {
    let (mut told, mut torn) = (0, false);
    for entry in entries {
        let line = match entry {
            Entry::Line(line) => line,
            Entry::Flush(done) => {
                let _ = done.try_send(());
                continue;
            }
        };
        counters.queued_bytes.fetch_sub(line.len(), Ordering::Relaxed);
        let mut text = shown(&line, json, &counters.concealed.read().unwrap_or_else(PoisonError::into_inner));
        if torn {
            text.insert(0, '\n');
        }
        match write(&mut out, text.as_bytes()) {
            Ok(()) => {
                torn = false;
                let dropped = counters.dropped.load(Ordering::Relaxed);
                if dropped > told {
                    lost(dropped - told);
                    told = dropped;
                }
            }
            Err(written) => {
                // The next line shall not go on in this one.
                torn = if written == 0 { torn } else { written > usize::from(torn) };
                counters.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Writes the whole of it; an error says how much was written.
fn write(out: &mut impl Write, bytes: &[u8]) -> Result<(), usize> {
    let (mut written, mut tries) = (0, 0);
    while written < bytes.len() {
        match out.write(&bytes[written..]) {
            Ok(0) => return Err(written),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && tries < TRIES => {
                tries += 1;
                std::thread::sleep(TRY_EVERY);
            }
            Err(_) => return Err(written),
        }
    }
    let _ = out.flush();
    Ok(())
}

/// One line, whatever others have put into it: control characters are escaped, secrets blotted out.
fn shown(line: &[u8], json: bool, concealed: &[SecretString]) -> String {
    let text = String::from_utf8_lossy(line);
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let mut text = concealed
        .iter()
        .map(SecretString::expose_secret)
        .fold(text.to_owned(), |text, value| if text.contains(value) { text.replace(value, BLOT) } else { text });
    if text.contains(text::is_control) {
        text = if json { text::escaped_json(&text) } else { text::escaped(&text) }.into_owned();
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::atomic::AtomicBool;

    /// A disk that can be full: then it takes `room` bytes more.
    #[derive(Clone, Default)]
    struct Disk(Arc<(Mutex<Vec<u8>>, AtomicBool)>);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0.1.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            // Short writes, as pipes make them.
            let count = bytes.len().min(7);
            self.0.0.lock().unwrap().extend(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Disk {
        fn fill(&self, full: bool) {
            self.0.1.store(full, Ordering::Relaxed);
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.0.lock().unwrap().clone()).unwrap()
        }
    }

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn what_a_full_disk_does_not_take_is_counted_and_told_when_there_is_room() {
        let (disk, told) = (Disk::default(), Arc::new(AtomicU64::new(0)));
        let heard = Arc::clone(&told);
        let sink = Sink::start(disk.clone(), false, move |count| {
            heard.fetch_add(count, Ordering::Relaxed);
        })
        .unwrap();
        sink.push(b"before\n");
        sink.flush(PATIENCE);
        disk.fill(true);
        sink.push(b"lost\n");
        sink.push(b"lost, too\n");
        sink.flush(PATIENCE);
        assert_eq!((sink.dropped(), told.load(Ordering::Relaxed)), (2, 0));
        disk.fill(false);
        sink.push(b"after\n");
        sink.flush(PATIENCE);
        assert_eq!((disk.text().as_str(), told.load(Ordering::Relaxed)), ("before\nafter\n", 2));
    }

    #[test]
    fn a_reader_that_reads_nothing_keeps_nobody_waiting() {
        // Given a pipe whose buffer is full and that nobody reads,
        let (reader, writer) = io::pipe().unwrap();
        let sink = Sink::start(writer, false, |_| ()).unwrap();
        // when more is logged than it and the queue hold,
        let line = vec![b'x'; 1023];
        for _ in 0..QUEUE_LINES * 2 {
            sink.push(&line);
        }
        // then the rest is dropped and counted, by bytes before lines,
        let dropped = sink.dropped();
        let most = u64::try_from(QUEUE_LINES * 2 - QUEUE_BYTES / 1024).unwrap();
        assert!(dropped > 0 && dropped <= most, "{dropped}");
        // and a reader that is gone ends the thread's waiting.
        drop(reader);
        sink.flush(PATIENCE);
        assert!(sink.dropped() > dropped);
    }

    #[test]
    fn a_line_is_one_line_and_tells_no_secret() {
        let disk = Disk::default();
        let sink = Sink::start(disk.clone(), false, |_| ()).unwrap();
        sink.conceal(["hunter2", "hunter2-and-more"].into_iter());
        sink.push("a\nforged ERROR line \x1b[2J\u{9b}1m\ttab hunter2-and-more hunter2\n".as_bytes());
        sink.push(&[vec![b'y'; LINE_BYTES * 2], vec![b'\n']].concat());
        sink.flush(PATIENCE);
        let text = disk.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0], "a\\nforged ERROR line \\x1b[2J\\u{9b}1m\ttab *** ***");
        assert_eq!(lines[1].len(), LINE_BYTES);
    }
}
