//! A planned restart: the server that runs hands its listening sockets and the lock of its data folder to
//! the next one, over a private Unix socket in the data folder.
//!
//! The next one says `begin` and gets the descriptors, makes itself ready, says `take` when it is about to
//! look after the replicas (the old one looks after them no more), and `serving` when it accepts. Then the old one
//! gives no more runs their places, says so, and the new one does. Requests that the old one has taken end
//! there; open connections to agents' databases come over as descriptors. Nothing waits longer than the new one's look
//! at the replicas.

use crate::base::shutdown::Shutdown;
use crate::control::Control;
use crate::store::postgres::passage::OpenPassage;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::oneshot;

/// Descriptors that change hands: the lock, both listeners.
const DESCRIPTORS: usize = 3;
/// The longest message.
const MESSAGE_BYTES: usize = 64 << 10;
/// The longest word.
const WORD_BYTES: u64 = 64 << 10;
/// Says among the connections to agents' databases that runs get no more places from the side that says it. One that
/// does not know it takes it for a connection without descriptors, and leaves it out.
const PLACES_LEFT: u8 = 2;
/// How long a caller may take to say its first word, and the server to answer one that only asks.
const FIRST_WORD: Duration = Duration::from_secs(5);
/// How long the next server gives no places where the one before does not say that it has stopped to.
const LAST_WORD: Duration = Duration::from_secs(5);
/// How long either side waits for the other's next word.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the next server gets.
#[derive(Debug)]
pub struct Inheritance {
    /// The lock of the data folder: it is held for as long as anyone has it.
    pub lock: File,
    /// Of the control API.
    pub listener: TcpListener,
    /// Of the agents' API.
    pub agents_listener: TcpListener,
    /// What is not to be said on a command line.
    pub private: Private,
}

/// What is not to be said on a command line. The socket is its owner's alone.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Private {
    /// A Postgres of the user's.
    pub database_url: Option<String>,
}

/// One side of the talk.
pub struct Talk(UnixStream);

/// The socket's place in a data folder.
pub fn socket(data_dir: &Path) -> PathBuf {
    data_dir.join("handover.sock")
}

/// Listens for the next server.
pub fn listen(data_dir: &Path) -> io::Result<UnixListener> {
    let path = socket(data_dir);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Asks the server that runs who it is. Blocks, but not for long.
pub fn ask<T: DeserializeOwned>(data_dir: &Path) -> io::Result<T> {
    let mut talk = Talk(UnixStream::connect(socket(data_dir))?);
    talk.0.set_read_timeout(Some(FIRST_WORD))?;
    talk.0.set_write_timeout(Some(FIRST_WORD))?;
    talk.say("who")?;
    Ok(serde_json::from_str(&talk.hear()?)?)
}

/// Takes what the server before still has to give: runs' places, and open connections to agents' databases.
pub fn take(talk: Talk, control: &Control, shutdown: &Shutdown) {
    let (left, places_left) = oneshot::channel();
    let next = control.clone();
    shutdown.spawn_until_cancelled(async move {
        // Also when it is gone without a word, or says none.
        let _ = tokio::time::timeout(LAST_WORD, places_left).await;
        next.take_places().await;
    });
    let control = control.clone();
    shutdown.spawn_until_cancelled(async move {
        let taken = tokio::task::spawn_blocking(move || talk.take_passages(left)).await;
        match taken.map_err(io::Error::other).flatten() {
            Ok(open) => control.take_passages(open),
            Err(error) => tracing::warn!(%error, "connections to agents' databases were lost"),
        }
    });
}

/// The next server's first word to the one that runs. Blocks.
pub fn begin(data_dir: &Path) -> io::Result<(Talk, Inheritance)> {
    let stream = UnixStream::connect(socket(data_dir))?;
    let mut talk = Talk::new(stream)?;
    talk.say("begin")?;
    let mut bytes = vec![0; MESSAGE_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(&talk.0, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors: Vec<OwnedFd> = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    let private: Private = serde_json::from_slice(&bytes[..received.bytes])?;
    let [lock, listener, agents_listener]: [OwnedFd; DESCRIPTORS] = descriptors
        .try_into()
        .map_err(|_| io::Error::other("the server that runs handed over other descriptors than expected"))?;
    let inheritance = Inheritance {
        lock: File::from(lock),
        listener: TcpListener::from(listener),
        agents_listener: TcpListener::from(agents_listener),
        private,
    };
    Ok((talk, inheritance))
}

impl Talk {
    fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self(stream))
    }

    /// Takes the other side's call, once it has said `begin`; one that only asks `who` is told. Blocks.
    pub fn accept(listener: &UnixListener, who: &impl Serialize) -> io::Result<Option<Self>> {
        let mut talk = Self::new(listener.accept()?.0)?;
        talk.0.set_read_timeout(Some(FIRST_WORD))?;
        match talk.hear()?.as_str() {
            "begin" => {
                talk.0.set_read_timeout(Some(PATIENCE))?;
                Ok(Some(talk))
            }
            "who" => {
                talk.say(&serde_json::to_string(who)?)?;
                Ok(None)
            }
            other => Err(unexpected("begin", other)),
        }
    }

    /// Hands everything over. Blocks.
    pub fn hand_over(
        &self,
        lock: &File,
        listeners: [&tokio::net::TcpListener; 2],
        private: &Private,
    ) -> io::Result<()> {
        let text = serde_json::to_vec(private)?;
        let descriptors = [lock.as_fd(), listeners[0].as_fd(), listeners[1].as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        sendmsg(&self.0, &[IoSlice::new(&text)], &mut ancillary, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Says that runs get no more places here. Blocks.
    pub fn say_places_left(&mut self) -> io::Result<()> {
        self.0.write_all(&[PLACES_LEFT])
    }

    /// Hands connections to agents' databases over, and ends the talk. Blocks.
    pub fn hand_over_passages(self, passages: &[OpenPassage]) -> io::Result<()> {
        for passage in passages {
            let descriptors = [passage.client.as_fd(), passage.server.as_fd()];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
            let kind = [u8::from(passage.tcp)];
            sendmsg(&self.0, &[IoSlice::new(&kind)], &mut ancillary, SendFlags::NOSIGNAL)?;
        }
        Ok(())
    }

    /// Takes them, until the other side ends the talk. `places_left` hears, or is dropped, once the other side gives no
    /// more places. Blocks.
    pub fn take_passages(self, places_left: oneshot::Sender<()>) -> io::Result<Vec<OpenPassage>> {
        let mut places_left = Some(places_left);
        let mut passages = Vec::new();
        loop {
            let mut kind = [0];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let received =
                recvmsg(&self.0, &mut [IoSliceMut::new(&mut kind)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
            if received.bytes == 0 {
                return Ok(passages);
            }
            if kind == [PLACES_LEFT] {
                let _ = places_left.take().map(|left| left.send(()));
                continue;
            }
            let mut descriptors = ancillary.drain().filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(rights) => Some(rights),
                _ => None,
            });
            let mut descriptors = descriptors.next().into_iter().flatten();
            if let (Some(client), Some(server)) = (descriptors.next(), descriptors.next()) {
                passages.push(OpenPassage { client, server, tcp: kind[0] == 1 });
            }
        }
    }

    /// Says a word. Blocks.
    pub fn say(&mut self, word: &str) -> io::Result<()> {
        self.0.write_all(format!("{word}\n").as_bytes())
    }

    /// Waits for a word. Blocks.
    pub fn expect(&mut self, word: &str) -> io::Result<()> {
        let heard = self.hear()?;
        if heard == word { Ok(()) } else { Err(unexpected(word, &heard)) }
    }

    fn hear(&mut self) -> io::Result<String> {
        let mut line = String::new();
        BufReader::with_capacity(1, (&self.0).take(WORD_BYTES)).read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}

fn unexpected(word: &str, heard: &str) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, format!("waited for {word:?}, heard {heard:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn descriptors_and_what_is_private_change_hands() {
        let folder = tempfile::tempdir().unwrap();
        let lock = File::create(folder.path().join("server.lock")).unwrap();
        lock.lock().unwrap();
        let (one, two) = (bound().await, bound().await);
        let ports = [one.local_addr().unwrap(), two.local_addr().unwrap()];
        let listener = listen(folder.path()).unwrap();
        let place = folder.path().to_owned();
        let next = tokio::task::spawn_blocking(move || {
            assert_eq!(ask::<String>(&place).unwrap(), "it is me");
            let (mut talk, inheritance) = begin(&place).unwrap();
            talk.say("take").unwrap();
            inheritance
        });
        let mut talk = tokio::task::spawn_blocking(move || {
            assert!(Talk::accept(&listener, &"it is me").unwrap().is_none());
            Talk::accept(&listener, &"it is me").unwrap().unwrap()
        })
        .await
        .unwrap();
        let private = Private { database_url: Some("postgres://u:p@h/d".to_owned()) };
        talk.hand_over(&lock, [&one, &two], &private).unwrap();
        talk.expect("take").unwrap();
        let inheritance = next.await.unwrap();

        let got = [inheritance.listener.local_addr().unwrap(), inheritance.agents_listener.local_addr().unwrap()];
        assert_eq!(got, ports);
        assert_eq!(inheritance.private.database_url, private.database_url);
        // The lock is held while anyone has it.
        drop(lock);
        let other = File::open(folder.path().join("server.lock")).unwrap();
        assert!(other.try_lock().is_err());
        drop(inheritance);
        assert!(other.try_lock().is_ok());
    }

    async fn bound() -> tokio::net::TcpListener {
        tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap()
    }
}
