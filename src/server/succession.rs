//! One server follows another on a data folder: what it begins with, and how it hands over to the next.

use super::handover::{self, Private, Talk};
use super::listener;
use super::place::{self, is_locked, lock, sign};
use super::settings::{ServerError, ServerFile, ServerSettings, server_file};
use crate::base::secret::ExposeSecret as _;
use crate::base::shutdown::CancellationToken;
use crate::control::Control;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// How often a server that was replaced looks whether the one in its place was stopped.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Returns when the server in this one's place, or this one, is being stopped. One that was killed changes nothing:
/// what it was to look after lives on.
pub async fn stopped(stop: &CancellationToken, data_dir: &Path) {
    let others = async {
        while is_locked(data_dir) || server_file(data_dir).exists() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = others => {}
    }
}

/// What a server begins with.
pub struct Place {
    pub lock: File,
    pub listener: TcpListener,
    pub agents_listener: TcpListener,
    pub private: Private,
    /// With the server that is being replaced.
    pub talk: Option<Talk>,
}

/// Takes the data folder and both ports: free ones, or those of the server that is being replaced.
pub async fn take_place(settings: &ServerSettings) -> Result<Place, ServerError> {
    let data_dir = settings.data_dir.clone();
    if !settings.takeover {
        let lock = lock(&data_dir)?;
        // A killed server's; nobody shall take it for ours.
        let _ = std::fs::remove_file(server_file(&data_dir));
        let private =
            Private { database_url: settings.database_url.as_ref().map(|url| url.expose_secret().to_owned()) };
        let listener = listen(settings.listen).await?;
        let agents_listener = listen(settings.agents_listen).await?;
        return Ok(Place { lock, listener, agents_listener, private, talk: None });
    }
    let (talk, inheritance) = blocking(move || handover::begin(&data_dir)).await.map_err(ServerError::Handover)?;
    Ok(Place {
        lock: inheritance.lock,
        listener: listener::inherit(inheritance.listener, settings.listen)?,
        agents_listener: listener::inherit(inheritance.agents_listener, settings.agents_listen)?,
        private: inheritance.private,
        talk: Some(talk),
    })
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Says a word to the server that is being replaced, and waits for its answer.
pub async fn talk_on(
    talk: Option<Talk>,
    word: &'static str,
    answer: Option<&'static str>,
) -> Result<Option<Talk>, ServerError> {
    let Some(mut talk) = talk else { return Ok(None) };
    let talked = blocking(move || {
        talk.say(word)?;
        if let Some(answer) = answer {
            talk.expect(answer)?;
        }
        Ok(talk)
    });
    talked.await.map(Some).map_err(ServerError::Handover)
}

/// Returns when another server serves in this one's place, with what says that this one is on its way out. One that
/// fails on the way changes nothing.
pub async fn successor(
    file: &ServerFile,
    data_dir: &Path,
    lock: Option<&File>,
    listeners: [&TcpListener; 2],
    private: &Private,
    control: &Control,
) -> Option<File> {
    let (socket, lock) = match (handover::listen(data_dir), lock) {
        (Ok(socket), Some(lock)) => (Arc::new(socket), lock),
        (socket, _) => {
            tracing::warn!(error = ?socket.err(), "no restart can take over from this server");
            return std::future::pending().await;
        }
    };
    loop {
        let waiting = Arc::clone(&socket);
        let who = file.clone();
        let Ok(Some(mut talk)) = blocking(move || Talk::accept(&waiting, &who)).await else { continue };
        if let Err(error) = talk.hand_over(lock, listeners, private) {
            tracing::warn!(%error, "a restart failed: nothing was handed over");
            continue;
        }
        let taken = blocking(move || talk.expect("take").map(|()| talk)).await;
        let mut talk = match taken {
            Ok(talk) => talk,
            Err(error) => {
                tracing::warn!(%error, "a restart failed: the next server did not get ready");
                continue;
            }
        };
        // Before the next one can be seen to serve: whoever stops it then finds this one as well.
        let leaving = place::say_leaving(data_dir).ok();
        control.pause(true).await;
        let serving = blocking(move || {
            talk.say("yours")?;
            talk.expect("serving").map(|()| talk)
        });
        match serving.await {
            Ok(mut talk) => {
                control.gateway().leave_places().await;
                let said = blocking(move || talk.say_places_left().map(|()| talk)).await;
                let open = control.passages().hand_over().await;
                if let Err(error) = blocking(move || said?.hand_over_passages(&open)).await {
                    tracing::warn!(%error, "connections to agents' databases were cut");
                }
                return leaving;
            }
            Err(error) => {
                tracing::error!(%error, "a restart failed: the next server ended before it served");
                drop(leaving);
                place::left(data_dir);
                control.pause(false).await;
                // It may have said already that it is the one.
                if let Err(error) = file.write(data_dir).and_then(|()| sign(lock)) {
                    tracing::warn!(%error, "nobody finds this server by its data folder");
                }
            }
        }
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, ServerError> {
    TcpListener::bind(address).await.map_err(|source| ServerError::Listen { address, source })
}
