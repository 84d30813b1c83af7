//! A Unix socket before a runner's, whose connections the test cuts: at once, or in the middle of a message.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

pub struct Proxy {
    folder: TempDir,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    connections: AtomicUsize,
    is_closed: AtomicBool,
    /// A connection is cut when so many bytes have come through from the replica. 0: never.
    cut_after: AtomicU64,
    cut: std::sync::Mutex<CancellationToken>,
}

impl Proxy {
    /// Before the socket in that folder.
    pub fn before(runner: &Path) -> Self {
        let folder = tempfile::Builder::new().prefix("rcp").tempdir_in("/tmp").unwrap();
        let listener = UnixListener::bind(folder.path().join("runner.sock")).unwrap();
        let (shared, runner) = (Arc::new(Shared::default()), runner.join("runner.sock"));
        drop(tokio::spawn(serve(listener, Arc::clone(&shared), runner)));
        Self { folder, shared }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Cuts all connections now.
    pub fn cut(&self) {
        let mut cut = self.shared.cut.lock().unwrap();
        cut.cancel();
        *cut = CancellationToken::new();
    }

    /// Lets nobody through from now on, or again.
    pub fn close(&self, is_closed: bool) {
        self.shared.is_closed.store(is_closed, Ordering::SeqCst);
        if is_closed {
            self.cut();
        }
    }

    /// Cuts each connection when the replica has sent so many bytes over it.
    pub fn cut_after(&self, bytes: u64) {
        self.shared.cut_after.store(bytes, Ordering::SeqCst);
        self.cut();
    }

    /// How many connections were made.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

async fn serve(listener: UnixListener, shared: Arc<Shared>, runner: PathBuf) {
    while let Ok((client, _)) = listener.accept().await {
        if shared.is_closed.load(Ordering::SeqCst) {
            continue;
        }
        let Ok(replica) = UnixStream::connect(&runner).await else { continue };
        shared.connections.fetch_add(1, Ordering::SeqCst);
        let cut = shared.cut.lock().unwrap().child_token();
        let (from_client, to_client) = client.into_split();
        let (from_replica, to_replica) = replica.into_split();
        let limit = shared.cut_after.load(Ordering::SeqCst);
        let up = pass(from_client, to_replica, cut.clone(), 0);
        let down = pass(from_replica, to_client, cut, limit);
        drop(tokio::spawn(async move { tokio::join!(up, down) }));
    }
}

/// Passes bytes until the end, the cut, or so many of them; either ends both ways.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, cut: CancellationToken, limit: u64) {
    let (mut buffer, mut passed) = (vec![0; 16 << 10], 0_u64);
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read.unwrap_or(0),
            () = cut.cancelled() => 0,
        };
        let rest = if limit == 0 { u64::MAX } else { limit - passed };
        let now = read.min(usize::try_from(rest).unwrap_or(usize::MAX));
        passed += now as u64;
        let is_over = read == 0 || to.write_all(&buffer[..now]).await.is_err();
        if is_over || passed == limit {
            cut.cancel();
            return;
        }
    }
}
