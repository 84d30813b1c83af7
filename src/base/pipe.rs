//! From a thread that may block to a stream: what a writer writes comes out as it is read, and no faster.

use bytes::Bytes;
use futures_util::{Stream, stream};
use std::io::{self, BufWriter, Read, Write};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Pieces on their way.
const PIECES: usize = 16;
/// Bytes of a piece.
const PIECE: usize = 64 << 10;

/// Has something written by a thread that may block, and gives what it wrote as it comes. What fails ends the
/// stream with an error; the error itself is the thread's.
pub fn piped<E: Send + 'static>(
    write: impl FnOnce(BufWriter<Pipe>) -> Result<(), E> + Send + 'static,
) -> (JoinHandle<Result<(), E>>, impl Stream<Item = io::Result<Bytes>> + Send + 'static) {
    let (sender, receiver) = mpsc::channel(PIECES);
    let writing = tokio::task::spawn_blocking(move || {
        let written = write(BufWriter::with_capacity(PIECE, Pipe(sender.clone())));
        if written.is_err() {
            let _ = sender.blocking_send(Err(io::Error::other("what is sent is incomplete")));
        }
        written
    });
    let parts = stream::unfold(receiver, async |mut receiver: mpsc::Receiver<io::Result<Bytes>>| {
        let part = receiver.recv().await?;
        Some((part, receiver))
    });
    (writing, parts)
}

/// The writer's end. It ends where nobody reads.
pub struct Pipe(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The other way: a stream that a thread which may block reads from, no faster than it does.
pub struct Incoming {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    open: Bytes,
}

/// The stream's end of an [`Incoming`].
pub struct Feed(mpsc::Sender<io::Result<Bytes>>);

/// A reader, and what feeds it.
pub fn incoming() -> (Feed, Incoming) {
    let (sender, pieces) = mpsc::channel(PIECES);
    (Feed(sender), Incoming { pieces, open: Bytes::new() })
}

impl Feed {
    /// Hands a piece on, or that there is no more to come. Says whether anybody still reads.
    pub async fn hand(&self, piece: io::Result<Bytes>) -> bool {
        self.0.send(piece).await.is_ok()
    }
}

impl Read for Incoming {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.open.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.open = piece?,
                None => return Ok(0),
            }
        }
        let count = into.len().min(self.open.len());
        into[..count].copy_from_slice(&self.open.split_to(count));
        Ok(count)
    }
}
