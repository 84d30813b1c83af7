//! The server from start to stop: data folder, Postgres, engine, listeners, signals.

use super::addresses::{self, Called, PublicUrl};
use super::bodies::Bodies;
use super::ending::Running;
use super::handover::{self, Private, Talk};
use super::listener::{self, Doors};
use super::place::{self, is_locked, lock, sign};
use super::registry_api::RegistryApp;
use super::signals;
use super::tls::{Certificate, TlsError, TlsFiles};
use super::{App, agents_api, control_api};
use crate::base::open_files::{self, Shares};
use crate::base::secret::{ExposeSecret as _, MasterKey, SecretError, SecretString, token_hash};
use crate::base::shutdown::{CancellationToken, Shutdown};
use crate::base::{ids, paths};
use crate::control::builds::Builds;
use crate::control::{Control, ControlError, Parts};
use crate::egress::{Override, Resolver};
use crate::gateway::{Gateway, lease};
use crate::models::ProviderOverride;
use crate::registry::{Registry, RegistryError, RegistrySettings};
use crate::runtime::docker::{self, DockerRuntime, Users, engine};
use crate::runtime::folders::RunDir;
use crate::runtime::kept::KeptLogs;
use crate::runtime::{Runtime, RuntimeError};
use crate::store::postgres::passage::Passages;
use crate::store::postgres::{self, Managed, PostgresError};
use crate::store::{Store, StoreError};
use serde::{Deserialize, Serialize};

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// How often a server that was replaced looks whether the one in its place was stopped.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Of how many releases of an agent the images stay, when nobody says.
pub const KEEP_IMAGES: u32 = 10;

/// What a server is told.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// Where its data lie.
    pub data_dir: PathBuf,
    /// Of the control API.
    pub listen: SocketAddr,
    /// Of the agents' API.
    pub agents_listen: SocketAddr,
    /// How the control API is called from elsewhere.
    pub public_url: Option<PublicUrl>,
    /// How the agents' API is called from elsewhere; else as the control API, under its own port.
    pub agents_public_url: Option<PublicUrl>,
    /// Both listeners speak TLS.
    pub tls: Option<TlsFiles>,
    /// Whether others may listen in: no TLS on addresses other than loopback.
    pub insecure: bool,
    /// A Postgres of the user's; else one is managed in the data folder.
    pub database_url: Option<SecretString>,
    /// The image that the managed Postgres comes from; else the machine's own, or the official image.
    pub postgres_image: Option<String>,
    /// `--provider NAME=URL`.
    pub providers: Vec<ProviderOverride>,
    /// `--resolve NAME:PORT:ADDR`.
    pub resolve: Vec<Override>,
    /// Of how many releases of an agent the images stay.
    pub keep_images: u32,
    /// How many images it builds at once for those who deploy.
    pub build_jobs: Option<u32>,
    /// Takes over from the server that runs on the data folder.
    pub takeover: bool,
    /// The arguments to start the same server again with; no secret is among them.
    pub arguments: Vec<String>,
}

impl ServerSettings {
    /// All else as it is when nobody says.
    pub fn plain(data_dir: PathBuf, listen: SocketAddr, agents_listen: SocketAddr) -> Self {
        Self {
            data_dir,
            listen,
            agents_listen,
            public_url: None,
            agents_public_url: None,
            tls: None,
            insecure: false,
            database_url: None,
            postgres_image: None,
            providers: Vec::new(),
            resolve: Vec::new(),
            keep_images: KEEP_IMAGES,
            build_jobs: None,
            takeover: false,
            arguments: Vec::new(),
        }
    }
}

/// What a running server says of itself, in its data folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerFile {
    /// Its process.
    pub pid: u32,
    /// Of the control API.
    pub url: String,
    /// Of the agents' API.
    pub agents_url: String,
    /// Its version.
    pub version: String,
    /// The arguments to start the same server again with.
    #[serde(default)]
    pub arguments: Vec<String>,
}

impl ServerFile {
    fn of(settings: &ServerSettings, url: String, agents_url: String) -> Self {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Self { pid: std::process::id(), url, agents_url, version, arguments: settings.arguments.clone() }
    }

    fn write(&self, data_dir: &Path) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(self).unwrap_or_default();
        paths::write_atomically(&server_file(data_dir), &text, 0o644)
    }
}

/// Why a server could not run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The data folder cannot be used.
    #[error("the data folder {path}")]
    DataDir {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Another server has it.
    #[error("another server runs on the data folder {0}")]
    Locked(String),
    /// A port cannot be had.
    #[error("listening on {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Others could listen in.
    #[error("{0} is not a loopback address, and there is no TLS")]
    Insecure(SocketAddr),
    /// Others could listen in.
    #[error("{0} is another host in plain HTTP, and would show it tokens and keys")]
    InsecureUrl(String),
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Docker.
    #[error(transparent)]
    Engine(#[from] engine::EngineError),
    /// Replicas could not be told from others there.
    #[error("Docker Engine runs without root, so its containers have other users than this machine knows")]
    Rootless,
    /// Postgres.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// The tables.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Keys and tokens.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The replicas' folders.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The control plane could not begin.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The server that runs did not hand over.
    #[error("taking over from the server that runs")]
    Handover(#[source] io::Error),
    /// The registry's folder.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Signals could not be listened for.
    #[error("listening for signals")]
    Signals(#[source] io::Error),
    /// It was to stop before it served.
    #[error("the server was stopped before it served")]
    Interrupted,
}

/// The file of [`ServerFile`] in a data folder.
pub fn server_file(data_dir: &Path) -> PathBuf {
    data_dir.join("server.json")
}

/// The file of the administrator's token in a data folder.
pub fn admin_token_file(data_dir: &Path) -> PathBuf {
    data_dir.join("admin-token")
}

/// The key file: beside the data folder, so that a copy of the one is not a copy of the other.
pub fn key_file(data_dir: &Path) -> PathBuf {
    let mut name = data_dir.as_os_str().to_owned();
    name.push(".key");
    name.into()
}

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
    let managed = postgres::Options { image: settings.postgres_image.clone(), ..postgres::Options::new(data_dir) };
    let (postgres, options) = match &private.database_url {
        Some(url) => (None, until(&stop, async { Ok(postgres::connect(url).await?) }).await?),
        None => {
            let managed = until(&stop, async { Ok(Managed::ensure(&managed).await?) }).await?;
            let options = managed.connect_options();
            (Some(managed), options)
        }
    };
    let managed = postgres.is_some().then_some(managed);
    let takes_over = talk.is_some();
    // Held until Postgres has stopped: a free lock says that all has ended.
    let mut lock = Some(lock);
    let began = Began {
        lock: &mut lock,
        listener,
        agents_listener,
        certificate,
        private,
        talk,
        docker,
        managed,
        options,
        stop,
    };
    let served = serve(&settings, began, ready).await;
    match (postgres, served) {
        (_, Ok(true)) => return Ok(()),
        (Some(postgres), Ok(false)) => postgres.stop().await?,
        // A server that cannot serve leaves no Postgres behind, unless another serves with it.
        (Some(postgres), Err(error)) if !takes_over => {
            let _ = postgres.stop().await;
            return Err(error);
        }
        (_, Err(error)) => return Err(error),
        (None, Ok(false)) => {}
    }
    tracing::info!("the server has stopped");
    Ok(())
}

/// What a server serves with.
struct Began<'a> {
    /// Gone once another server has taken over: it has it, too.
    lock: &'a mut Option<File>,
    listener: TcpListener,
    agents_listener: TcpListener,
    certificate: Option<Arc<Certificate>>,
    private: Private,
    talk: Option<Talk>,
    docker: engine::Engine,
    /// The Postgres that is ours to keep alive.
    managed: Option<postgres::Options>,
    options: postgres::ConnectOptions,
    /// Cancelled when it is to stop.
    stop: CancellationToken,
}

/// Serves until the end. Says whether another server has taken over.
async fn serve(
    settings: &ServerSettings,
    began: Began<'_>,
    ready: impl FnOnce(&ServerFile),
) -> Result<bool, ServerError> {
    let Began { lock, listener, agents_listener, certificate, private, mut talk, docker, managed, options, stop } =
        began;
    let (data_dir, takes_over) = (&settings.data_dir, talk.is_some());
    let data_error = |source| ServerError::DataDir { path: data_dir.display().to_string(), source };
    let shares = Shares::of(open_files::raise());
    let passages = Passages::to(&options);
    let store = until(&stop, async { Ok(Store::open(options).await?) }).await?;
    let server = store.server_id().await?;
    let key = master_key(&store, &key_file(data_dir)).await?;
    ensure_admin_token(&store, data_dir).await?;
    tokio::task::spawn_blocking(crate::run::cost::load_prices);

    let shutdown = Shutdown::default();
    let (reconcilers, keeper) = (shutdown.child(), shutdown.child());
    let gateway = Gateway::new(store.clone(), &shutdown);
    if takes_over {
        gateway.wait_for_places();
    }
    lease::begin(&gateway).await?;
    let leased = gateway.clone();
    shutdown.supervise("lease", move || lease::keep(leased.clone()));
    let builds = Builds::start(&docker, data_dir, settings.build_jobs).await.map_err(data_error)?;
    let runtime: Arc<dyn Runtime> = Arc::new(DockerRuntime::new(docker, server, &reconcilers));
    let bound = |listener: &TcpListener, asked| listener.local_addr().unwrap_or(asked);
    let (bound, agents_bound) = (bound(&listener, settings.listen), bound(&agents_listener, settings.agents_listen));
    let Called { url, agents_url, hosts } = addresses::called(settings, bound, agents_bound);
    let file = ServerFile::of(settings, url, agents_url);
    let registry = Registry::open(RegistrySettings::new(data_dir.join("registry")))?;
    let control = Control::new(Parts {
        server,
        store: store.clone(),
        gateway: gateway.clone(),
        registry: registry.clone(),
        runtime,
        run_dir: RunDir::ensure(server)?,
        key: key.clone(),
        providers: settings.providers.clone(),
        resolver: Arc::new(Resolver::new(settings.resolve.clone())),
        passages,
        agents_url: file.agents_url.clone(),
        keep_images: settings.keep_images,
        logs: KeptLogs::new(data_dir),
        builds,
        shutdown: reconcilers.clone(),
    });
    // From here on the replicas are ours to look after.
    talk = talk_on(talk, "take", Some("yours")).await?;
    if let Some(managed) = managed {
        keeper.supervise("Postgres", move || postgres::keep(managed.clone()));
    }
    control.begin().await?;

    let tls = certificate.as_ref().map(Certificate::acceptor).transpose()?;
    if let Some(certificate) = certificate {
        shutdown.supervise("certificate", move || Arc::clone(&certificate).keep());
    }
    let (doors, closing) = (Doors::default(), CancellationToken::new());
    let app = App {
        control: control.clone(),
        registry: RegistryApp {
            registry,
            store: store.clone(),
            tokens: control.tokens().clone(),
            key,
            url: file.url.clone(),
            public: settings.public_url.clone(),
            tls: tls.is_some(),
        },
        hosts: Arc::new(hosts),
        bodies: Bodies::default(),
        closing: closing.clone(),
    };
    let (listener, agents_listener) = (Arc::new(listener), Arc::new(agents_listener));
    let listeners = [(&listener, shares.control), (&agents_listener, shares.agents)];
    let servers = open(&doors, listeners, tls.as_ref(), app, &shutdown);
    file.write(data_dir).map_err(data_error)?;
    lock.as_ref().map_or(Ok(()), sign).map_err(data_error)?;
    if let Some(talk) = talk_on(talk, "serving", None).await? {
        handover::take(talk, &control, &shutdown);
    }
    tracing::info!(url = file.url, agents_url = file.agents_url, pid = file.pid, "the server answers");
    ready(&file);

    let handed_over = {
        let next = successor(&file, data_dir, lock.as_ref(), [&listener, &agents_listener], &private, &control);
        tokio::select! {
            () = stop.cancelled() => None,
            () = shutdown.is_broken() => None,
            leaving = next => Some(leaving),
        }
    };
    let running = Running { control, gateway, store, shutdown, reconcilers, keeper, closing, doors, servers };
    if let Some(_leaving) = handed_over {
        // The next server has the lock as well; this one shall not hold it when that stops.
        *lock = None;
        drop((listener, agents_listener));
        running.leave(stopped(&stop, data_dir)).await;
        place::left(data_dir);
        return Ok(true);
    }
    running.stop().await;
    let _ = std::fs::remove_file(server_file(data_dir));
    Ok(false)
}

/// Answers on both listeners: of the control API, and of the agents. Each has so many connections.
fn open(
    doors: &Doors,
    [(listener, connections), (agents_listener, agents_connections)]: [(&Arc<TcpListener>, usize); 2],
    tls: Option<&TlsAcceptor>,
    app: App,
    shutdown: &Shutdown,
) -> [JoinHandle<()>; 2] {
    let closing = app.closing.clone();
    let serve = |name, listener: &Arc<TcpListener>, connections, router| {
        let door = Arc::new(doors.door(Arc::clone(listener), tls.cloned(), connections));
        let (router, closing) = (doors.route(router), closing.clone());
        shutdown.supervise(name, move || Arc::clone(&door).serve(router.clone(), closing.clone()))
    };
    [
        serve("listener of the control API", listener, connections, control_api::router(app.clone())),
        serve("listener of the agents' API", agents_listener, agents_connections, agents_api::router(app)),
    ]
}

/// Returns when the server in this one's place, or this one, is being stopped. One that was killed changes nothing:
/// what it was to look after lives on.
async fn stopped(stop: &CancellationToken, data_dir: &Path) {
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

/// What a server does before it serves, and not for longer than it may go on.
async fn until<T>(
    stop: &CancellationToken,
    work: impl Future<Output = Result<T, ServerError>>,
) -> Result<T, ServerError> {
    stop.run_until_cancelled(work).await.unwrap_or(Err(ServerError::Interrupted))
}

/// What a server begins with.
struct Place {
    lock: File,
    listener: TcpListener,
    agents_listener: TcpListener,
    private: Private,
    /// With the server that is being replaced.
    talk: Option<Talk>,
}

async fn take_place(settings: &ServerSettings) -> Result<Place, ServerError> {
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
async fn talk_on(
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
async fn successor(
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

/// The key of before; a new one only where nothing was ever sealed.
async fn master_key(store: &Store, path: &Path) -> Result<MasterKey, ServerError> {
    let shown = || path.display().to_string();
    let (found, known) = (MasterKey::find(path)?, store.key_check().await?);
    let key = match (found, known) {
        (Some(key), Some(known)) if key.check() != known => return Err(SecretError::KeyChanged(shown()).into()),
        (Some(key), _) => key,
        (None, None) if !store.has_secrets().await? => MasterKey::create(path)?,
        (None, _) => return Err(SecretError::KeyLost(shown()).into()),
    };
    store.set_key_check(&key.check()).await?;
    Ok(key)
}

/// The administrator's token: its value in a private file, its hash in the store.
async fn ensure_admin_token(store: &Store, data_dir: &Path) -> Result<(), ServerError> {
    let path = admin_token_file(data_dir);
    let error = |source| ServerError::DataDir { path: path.display().to_string(), source };
    let token = match paths::read_private(&path).map_err(error)? {
        Some(text) if !text.trim().is_empty() => text.trim().to_owned(),
        _ => {
            let token = ids::random_token("rcadmin").map_err(|_| SecretError::Random)?;
            paths::write_private(&path, token.as_bytes()).map_err(error)?;
            token
        }
    };
    store.set_admin_token(&token_hash(&token)).await?;
    Ok(())
}
