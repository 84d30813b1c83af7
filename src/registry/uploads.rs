//! Uploads: bytes go to a file as they come, and into the digest with them. What has come stays when the
//! client or the server goes away, and the upload goes on from there.

use super::disk::{self, Disk};
use super::names::{Digest, Repository};
use super::slots::Progress;
use super::{
    Registry,
    error::{RegistryError, at},
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use sha2::{Digest as _, Sha256};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedMutexGuard, mpsc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How long a request waits to be one of them, or for the request before it to let go of the upload.
const PATIENCE: Duration = Duration::from_secs(20);
/// A client that sends nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(60);
/// Pieces between the network and the disk.
const PIECES: usize = 8;
/// After so many bytes the disk is asked for room again.
const ROOM_EVERY: u64 = 16 << 20;

/// Where a chunk belongs: its first byte and its last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkRange {
    /// The first.
    pub first: u64,
    /// The last; it belongs to the chunk.
    pub last: u64,
}

impl ChunkRange {
    /// Reads a `Content-Range` of the specification: `0-1023`; with HTTP's own `bytes ` before it, too.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().strip_prefix("bytes").unwrap_or(text).trim_start_matches(['=', ' ']);
        let (first, last) = text.split_once('-')?;
        let last = last.split_once('/').map_or(last, |(last, _)| last);
        let range = Self { first: first.trim().parse().ok()?, last: last.trim().parse().ok()? };
        (range.first <= range.last).then_some(range)
    }

    fn bytes(self) -> u64 {
        (self.last - self.first).saturating_add(1)
    }
}

/// A part of an upload, on its way in.
pub struct Chunk<S> {
    /// Where it belongs; a chunk that does not say belongs behind what has come.
    pub range: Option<ChunkRange>,
    /// How many bytes it says that it has.
    pub length: Option<u64>,
    /// The bytes.
    pub body: S,
}

impl Registry {
    /// Begins an upload.
    pub async fn begin_upload(&self, name: &Repository) -> Result<Uuid, RegistryError> {
        let id = Uuid::new_v4();
        let name = name.clone();
        self.on_disk(move |disk| {
            let _naming = disk.name();
            disk::write(&disk.upload_path(&name, id), b"", false)
        })
        .await?;
        Ok(id)
    }

    /// How many bytes of an upload have come.
    pub async fn received(&self, name: &Repository, id: Uuid) -> Result<u64, RegistryError> {
        let name = name.clone();
        let found = self.on_disk(move |disk| match std::fs::metadata(disk.upload_path(&name, id)) {
            Ok(meta) => Ok(meta.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(RegistryError::UploadUnknown),
            Err(error) => Err(at("reading an upload")(error)),
        });
        found.await
    }

    /// Ends an upload; what has come of it is lost.
    pub async fn cancel_upload(&self, name: &Repository, id: Uuid) -> Result<(), RegistryError> {
        if let Some(slot) = self.uploads.forget(id) {
            slot.take_over();
        }
        let name = name.clone();
        let removed = self.on_disk(move |disk| disk::remove(&disk.upload_path(&name, id))).await?;
        if removed { Ok(()) } else { Err(RegistryError::UploadUnknown) }
    }

    /// Adds a chunk. Returns how many bytes there are now.
    pub async fn append<S, E>(&self, name: &Repository, id: Uuid, chunk: Chunk<S>) -> Result<u64, RegistryError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send,
    {
        let written = self.write(name, id, chunk).await?;
        Ok(written.progress.bytes)
    }

    /// Adds the last chunk, which may be empty, and gives the content its name.
    pub async fn finish_upload<S, E>(
        &self,
        name: &Repository,
        id: Uuid,
        chunk: Chunk<S>,
        digest: &Digest,
    ) -> Result<(), RegistryError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send,
    {
        let Written { mut progress, file, path } = self.write(name, id, chunk).await?;
        let (name, asked) = (name.clone(), digest.clone());
        let finished = self.on_disk(move |disk| {
            let found = Digest::finish(progress.hasher.take().unwrap_or_default());
            if found != asked {
                disk::remove(&path)?;
                return Err(RegistryError::Digest { asked, found });
            }
            let _naming = disk.name();
            disk.adopt(&file, &path, &found)?;
            disk.link(&name, &found)
        });
        let finished = finished.await;
        if matches!(finished, Ok(()) | Err(RegistryError::Digest { .. })) {
            self.uploads.forget(id);
        }
        finished
    }

    async fn write<S, E>(&self, name: &Repository, id: Uuid, chunk: Chunk<S>) -> Result<Written, RegistryError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send,
    {
        // Before there is a slot for whatever is asked for.
        self.received(name, id).await?;
        let place = tokio::time::timeout(PATIENCE, Arc::clone(&self.uploads.writers).acquire_owned()).await;
        let Ok(Ok(place)) = place else { return Err(RegistryError::TooMany) };
        let slot = self.uploads.slot(id);
        // The newest request goes on: one before it has lost its client, or the client has lost patience.
        let ended = slot.take_over();
        let progress = tokio::time::timeout(PATIENCE, Arc::clone(&slot.progress).lock_owned()).await;
        let progress = progress.map_err(|_| RegistryError::Busy)?;
        let (sender, receiver) = mpsc::channel(PIECES);
        let (disk, path) = (Arc::clone(&self.disk), self.disk.upload_path(name, id));
        let (range, length) = (chunk.range, chunk.length);
        // It ends when the sender is gone, which is also so when the request is dropped.
        let writing = tokio::task::spawn_blocking(move || {
            let _place = place;
            Writer { disk, path, progress }.write(range, length, receiver)
        });
        let came_whole = pump(chunk.body, &sender, &ended).await;
        drop(sender);
        let written = writing.await.unwrap_or_else(|error| Err(at("writing")(io::Error::other(error))));
        let written = written?;
        if !came_whole {
            return Err(RegistryError::BrokeOff { received: written.progress.bytes });
        }
        Ok(written)
    }
}

/// Hands the body to the disk. Says whether it came whole; a disk that takes no more says why itself.
async fn pump<S, E>(body: S, sender: &mpsc::Sender<Bytes>, ended: &CancellationToken) -> bool
where
    S: Stream<Item = Result<Bytes, E>> + Send,
{
    let mut body = pin!(body);
    loop {
        let next = tokio::select! {
            () = ended.cancelled() => return false,
            next = tokio::time::timeout(SILENCE, body.next()) => next,
        };
        match next {
            Ok(Some(Ok(piece))) => {
                if sender.send(piece).await.is_err() {
                    return true;
                }
            }
            Ok(None) => return true,
            Ok(Some(Err(_))) | Err(_) => return false,
        }
    }
}

/// What came of a chunk. While it is held no other request writes.
struct Written {
    progress: OwnedMutexGuard<Progress>,
    file: File,
    path: PathBuf,
}

struct Writer {
    disk: Arc<Disk>,
    path: PathBuf,
    progress: OwnedMutexGuard<Progress>,
}

impl Writer {
    fn write(
        mut self,
        range: Option<ChunkRange>,
        length: Option<u64>,
        mut pieces: mpsc::Receiver<Bytes>,
    ) -> Result<Written, RegistryError> {
        let mut file = self.open()?;
        self.recover(&mut file)?;
        let before = self.progress.clone();
        let begin = before.bytes;
        let said = match range {
            Some(range) if range.first != begin => {
                return Err(RegistryError::OutOfOrder { asked: range.first, received: begin });
            }
            Some(range) => Some(range.bytes()),
            None => length,
        };
        if let (Some(said), Some(came)) = (said, length)
            && said != came
        {
            return Err(RegistryError::Size { said, came });
        }
        self.disk.room_for(said.unwrap_or(0))?;
        let mut room_at = begin + ROOM_EVERY;
        while let Some(piece) = pieces.blocking_recv() {
            let came = self.progress.bytes - begin + piece.len() as u64;
            if let Some(said) = said.filter(|said| came > *said) {
                self.go_back(&file, before)?;
                return Err(RegistryError::Size { said, came });
            }
            if self.progress.bytes > room_at {
                room_at = self.progress.bytes + ROOM_EVERY;
                self.disk.room_for(said.map_or(0, |said| begin + said - self.progress.bytes))?;
            }
            if let Err(error) = file.write_all(&piece) {
                // What was written of this piece is in no digest.
                let known = self.progress.clone();
                self.go_back(&file, known)?;
                return Err(at("writing an upload")(error));
            }
            self.progress.hasher.get_or_insert_default().update(&piece);
            self.progress.bytes += piece.len() as u64;
        }
        Ok(Written { progress: self.progress, file, path: self.path })
    }

    /// The upload's file. Another process may still write to it: the one that this server has replaced.
    fn open(&self) -> Result<File, RegistryError> {
        let file = OpenOptions::new().read(true).write(true).mode(0o600).open(&self.path);
        let file = file.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => RegistryError::UploadUnknown,
            _ => at("opening an upload")(error),
        })?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(RegistryError::Busy),
            Err(TryLockError::Error(error)) => Err(at("locking an upload")(error)),
        }
    }

    /// Brings the digest up to what is in the file: it is read where this process has not written all of it.
    fn recover(&mut self, file: &mut File) -> Result<(), RegistryError> {
        let bytes = file.metadata().map_err(at("reading an upload"))?.len();
        if self.progress.hasher.is_none() || self.progress.bytes != bytes {
            let mut hasher = Sha256::new();
            let mut buffer = vec![0; 256 << 10];
            let mut read = 0;
            loop {
                let count = file.read(&mut buffer).map_err(at("reading an upload"))?;
                if count == 0 {
                    break;
                }
                hasher.update(&buffer[..count]);
                read += count as u64;
            }
            *self.progress = Progress { hasher: Some(hasher), bytes: read };
        }
        file.seek(SeekFrom::Start(self.progress.bytes)).map(drop).map_err(at("reading an upload"))
    }

    fn go_back(&mut self, file: &File, to: Progress) -> Result<(), RegistryError> {
        file.set_len(to.bytes).map_err(at("cutting an upload"))?;
        *self.progress = to;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_chunks() {
        let range = |first, last| Some(ChunkRange { first, last });
        assert_eq!(ChunkRange::parse("0-9"), range(0, 9));
        assert_eq!(ChunkRange::parse("bytes 10-19/20"), range(10, 19));
        assert_eq!(ChunkRange::parse("bytes=10-19"), range(10, 19));
        for wrong in ["", "9-0", "-5", "5-", "a-b", "0", "1-18446744073709551616"] {
            assert_eq!(ChunkRange::parse(wrong), None, "{wrong}");
        }
        assert_eq!(ChunkRange { first: 0, last: u64::MAX }.bytes(), u64::MAX);
    }
}
