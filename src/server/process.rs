//! The server from start to stop. Each part owns its start and its end: the data folder and the ports (`succession`),
//! Postgres (`database`), the control plane (`control_plane`), the listeners (`listeners`).

use super::addresses::{self, Called};
use super::app::App;
use super::bodies::Bodies;
use super::control_plane::ControlPlane;
use super::database::Database;
use super::ending::Running;
use super::handover::{self, Private, Talk};
use super::listeners::Listeners;
use super::place::{self, sign};
use super::registry_api::RegistryApp;
use super::settings::{ServerError, ServerFile, ServerSettings, server_file};
use super::signals;
use super::succession::{Place, stopped, successor, take_place, talk_on};
use super::tls::Certificate;
use crate::base::open_files::{self, Shares};
use crate::base::paths;
use crate::base::shutdown::CancellationToken;
use crate::engine;
use crate::runtime::docker::{self, Users};
use std::fs::File;
use std::sync::Arc;
use tokio::net::TcpListener;

/// Runs the server until SIGTERM or SIGINT; `ready` is called once it answers.
pub async fn run(settings: ServerSettings, ready: impl FnOnce(&ServerFile)) -> Result<(), ServerError> {
    let data_dir = &settings.data_dir;
    let data_error = |source| ServerError::DataDir { path: data_dir.display().to_string(), source };
    addresses::check(&settings)?;
    // From here on: a stop that comes while it starts is no kill.
    let stop = signals::stop().map_err(ServerError::Signals)?;
    let certificate = settings.tls.clone().map(Certificate::load).transpose()?;
    // Postgres' user has to pass through; what is private in it has its own mode.
    paths::ensure_own_dir(data_dir, 0o711).map_err(data_error)?;
    let Place { lock, listener, agents_listener, private, talk } = until(&stop, take_place(&settings)).await?;
    let docker = until(&stop, async { Ok(engine::connect().await?) }).await?;
    if until(&stop, async { Ok(docker::users(&docker).await?) }).await? == Users::Rootless {
        return Err(ServerError::Rootless);
    }
    let database = until(&stop, Database::start(&settings, private.database_url.as_deref())).await?;
    let takes_over = talk.is_some();
    // Held until Postgres has stopped: a free lock says that all has ended.
    let mut lock = Some(lock);
    let sockets = [Arc::new(listener), Arc::new(agents_listener)];
    let began = Began { lock: &mut lock, sockets, certificate, private, talk, docker, database: &database, stop };
    let served = serve(&settings, began, ready).await;
    match served {
        Ok(End::HandedOver) => return Ok(()),
        Ok(End::Stopped) => database.stop().await?,
        // A server that cannot serve leaves no Postgres behind, unless another serves with it.
        Err(error) if !takes_over => {
            let _ = database.stop().await;
            return Err(error);
        }
        Err(error) => return Err(error),
    }
    tracing::info!("the server has stopped");
    Ok(())
}

/// What a server serves with.
struct Began<'a> {
    /// Gone once another server has taken over: it has it, too.
    lock: &'a mut Option<File>,
    /// Of the control API, and of the agents' API.
    sockets: [Arc<TcpListener>; 2],
    certificate: Option<Arc<Certificate>>,
    private: Private,
    talk: Option<Talk>,
    docker: engine::Engine,
    database: &'a Database,
    /// Cancelled when it is to stop.
    stop: CancellationToken,
}

/// How a server ends.
enum End {
    /// It was stopped.
    Stopped,
    /// Another server has taken over.
    HandedOver,
}

/// Serves until the end.
async fn serve(
    settings: &ServerSettings,
    began: Began<'_>,
    ready: impl FnOnce(&ServerFile),
) -> Result<End, ServerError> {
    let Began { lock, sockets, certificate, private, talk, docker, database, stop } = began;
    let data_dir = &settings.data_dir;
    let data_error = |source| ServerError::DataDir { path: data_dir.display().to_string(), source };
    let shares = Shares::of(open_files::raise());
    let bound = |socket: &TcpListener, asked| socket.local_addr().unwrap_or(asked);
    let (bound, agents_bound) = (bound(&sockets[0], settings.listen), bound(&sockets[1], settings.agents_listen));
    let Called { url, agents_url, hosts } = addresses::called(settings, bound, agents_bound);
    let file = ServerFile::of(settings, url, agents_url);
    let (options, agents_url) = (database.options.clone(), file.agents_url.clone());
    let plane = ControlPlane::start(settings, docker, options, agents_url, talk.is_some(), &stop).await?;
    // From here on the replicas are ours to look after.
    let talk = talk_on(talk, "take", Some("yours")).await?;
    database.keep(&plane.keeper);
    plane.control.begin().await?;

    let tls = certificate.as_ref().map(Certificate::acceptor).transpose()?;
    if let Some(certificate) = certificate {
        plane.shutdown.supervise("certificate", move || Arc::clone(&certificate).keep());
    }
    let app = App {
        control: plane.control.clone(),
        registry: RegistryApp {
            registry: plane.registry.clone(),
            store: plane.store.clone(),
            tokens: plane.control.tokens().clone(),
            key: plane.key.clone(),
            url: file.url.clone(),
            public: settings.public_url.clone(),
            tls: tls.is_some(),
        },
        hosts: Arc::new(hosts),
        bodies: Bodies::default(),
        closing: CancellationToken::new(),
    };
    let listeners = Listeners::start(sockets.each_ref(), &shares, tls.as_ref(), app, &plane.shutdown);
    file.write(data_dir).map_err(data_error)?;
    lock.as_ref().map_or(Ok(()), sign).map_err(data_error)?;
    if let Some(talk) = talk_on(talk, "serving", None).await? {
        handover::take(talk, &plane.control, &plane.shutdown);
    }
    tracing::info!(url = file.url, agents_url = file.agents_url, pid = file.pid, "the server answers");
    ready(&file);

    let handed_over = {
        let [socket, agents_socket] = &sockets;
        let next = successor(&file, data_dir, lock.as_ref(), [socket, agents_socket], &private, &plane.control);
        tokio::select! {
            () = stop.cancelled() => None,
            () = plane.shutdown.is_broken() => None,
            leaving = next => Some(leaving),
        }
    };
    let running = Running { plane, listeners };
    if let Some(_leaving) = handed_over {
        // The next server has the lock as well; this one shall not hold it when that stops.
        *lock = None;
        drop(sockets);
        running.leave(stopped(&stop, data_dir)).await;
        place::left(data_dir);
        return Ok(End::HandedOver);
    }
    running.stop().await;
    let _ = std::fs::remove_file(server_file(data_dir));
    Ok(End::Stopped)
}

/// What a server does before it serves, and not for longer than it may go on.
async fn until<T>(
    stop: &CancellationToken,
    work: impl Future<Output = Result<T, ServerError>>,
) -> Result<T, ServerError> {
    stop.run_until_cancelled(work).await.unwrap_or(Err(ServerError::Interrupted))
}
