//! A proxy in front of Postgres that counts the `ReadyForQuery` messages that it passes on: the round trips.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};

/// What Postgres calls its socket.
const SOCKET: &str = ".s.PGSQL.5432";

/// Passes everything through.
pub struct Counting {
    folder: TempDir,
    round_trips: Arc<AtomicUsize>,
}

impl Counting {
    /// In front of the Postgres whose socket lies in this folder.
    pub fn new(postgres: &Path) -> Self {
        let folder = tempfile::Builder::new().prefix("rcpg").tempdir_in("/tmp").unwrap();
        let listener = UnixListener::bind(folder.path().join(SOCKET)).unwrap();
        let round_trips = Arc::new(AtomicUsize::new(0));
        let (count, server) = (Arc::clone(&round_trips), postgres.join(SOCKET));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, server.clone(), Arc::clone(&count)));
            }
        });
        Self { folder, round_trips }
    }

    /// Where it listens.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Since it began.
    pub fn round_trips(&self) -> usize {
        self.round_trips.load(Ordering::SeqCst)
    }
}

async fn pass(client: UnixStream, server: PathBuf, count: Arc<AtomicUsize>) {
    let Ok(server) = UnixStream::connect(server).await else { return };
    let (mut from_client, to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    tokio::select! {
        _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
        _ = answers(from_server, to_client, &count) => {}
    }
}

/// Each message of the server: a letter, a length that counts itself, and the rest.
async fn answers(mut server: OwnedReadHalf, mut client: OwnedWriteHalf, count: &AtomicUsize) -> std::io::Result<()> {
    loop {
        let kind = server.read_u8().await?;
        let length = server.read_u32().await?;
        let mut message = vec![0; length as usize + 1];
        message[0] = kind;
        message[1..5].copy_from_slice(&length.to_be_bytes());
        server.read_exact(&mut message[5..]).await?;
        count.fetch_add(usize::from(kind == b'Z'), Ordering::SeqCst);
        client.write_all(&message).await?;
    }
}
