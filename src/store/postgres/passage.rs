//! The way of a replica to its agent's own database: a socket in the replica's folder, from which bytes are
//! passed to Postgres. Each connection says who it is before anything is passed: none enters as another role
//! or another database than the agent's own. A planned restart of the server hands open ones to the next.

use super::agent_databases;
use super::startup::{self, First};
use crate::base::open_files;
use crate::base::shutdown::Shutdown;
use crate::store::limits;
use sqlx::postgres::PgConnectOptions as ConnectOptions;
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Open connections of one replica.
const CONNECTIONS: usize = 40;
/// Of all replicas of all agents: what Postgres takes, without what the server keeps for itself.
const ALL_CONNECTIONS: usize = 360;
/// What an agent gets also when the others have taken nearly all.
const SURE_CONNECTIONS: usize = 8;
/// How long a client may take to say who it is.
const STARTUP: Duration = Duration::from_secs(10);
/// How long open connections may take to come to rest for a handover.
const REST: Duration = Duration::from_secs(2);
/// After an error of `accept`.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What is passed at once.
const CHUNK_BYTES: usize = 16 << 10;
/// Postgres' name for its socket, by which clients find it in a folder.
pub const SOCKET: &str = ".s.PGSQL.5432";

/// Where Postgres is.
#[derive(Debug, Clone)]
enum Address {
    Socket(PathBuf),
    Tcp(String, u16),
}

/// All passages of a server. Clones are the same.
#[derive(Clone)]
pub struct Passages(Arc<Inner>);

struct Inner {
    address: Address,
    /// Asks open connections to come to rest.
    rest: CancellationToken,
    open: TaskTracker,
    /// Gone once they are handed over: what comes to rest later is cut.
    at_rest: Mutex<Option<Vec<OpenPassage>>>,
    /// How many connections are open to each agent's database.
    taken: Mutex<HashMap<String, usize>>,
}

/// One connection's place among all; given back when it is dropped.
struct Place {
    inner: Arc<Inner>,
    name: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.inner.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.name);
            }
        }
    }
}

/// Whether an agent that has `own` of `all` open connections gets another.
fn admits(own: usize, all: usize) -> bool {
    let room = if own < SURE_CONNECTIONS { ALL_CONNECTIONS } else { ALL_CONNECTIONS / 4 * 3 };
    own < agent_databases::CONNECTIONS && all < room
}

/// A connection at rest: nothing of it is on the way in this process.
#[derive(Debug)]
pub struct OpenPassage {
    /// The replica's side.
    pub client: OwnedFd,
    /// Postgres' side.
    pub server: OwnedFd,
    /// Whether that one is TCP.
    pub tcp: bool,
}

enum Upstream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Passages {
    /// Passages to the Postgres that these options reach.
    pub fn to(options: &ConnectOptions) -> Self {
        let address = match options.get_socket() {
            Some(folder) => Address::Socket(folder.join(format!(".s.PGSQL.{}", options.get_port()))),
            None if options.get_host().starts_with('/') => {
                Address::Socket(PathBuf::from(options.get_host()).join(format!(".s.PGSQL.{}", options.get_port())))
            }
            None => Address::Tcp(options.get_host().to_owned(), options.get_port()),
        };
        Self(Arc::new(Inner {
            address,
            rest: CancellationToken::new(),
            open: TaskTracker::new(),
            at_rest: Mutex::new(Some(Vec::new())),
            taken: Mutex::default(),
        }))
    }

    /// Serves the socket of the replica `whose`: lets the role `name` through to the database `name`. Ends with
    /// `shutdown` (give it a [`Shutdown::child`] that ends with the replica), open connections with it.
    pub fn serve(&self, listener: UnixListener, name: String, whose: &str, shutdown: &Shutdown) {
        let permits = Arc::new(Semaphore::new(open_files::of_one_replica(CONNECTIONS)));
        let (listener, name) = (Arc::new(listener), Arc::new(name));
        let (passages, tasks) = (self.clone(), shutdown.clone());
        shutdown.supervise(format!("database connections of {whose}"), move || {
            let (passages, listener, permits) = (passages.clone(), Arc::clone(&listener), Arc::clone(&permits));
            passages.accept(listener, Arc::clone(&name), permits, tasks.clone())
        });
    }

    async fn accept(self, listener: Arc<UnixListener>, name: Arc<String>, permits: Arc<Semaphore>, tasks: Shutdown) {
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(name = name.as_str(), %error, "a database's socket cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // 53300: too_many_connections. A fresh socket takes these few bytes at once.
            let (own, one_of_all) = (Arc::clone(&permits).try_acquire_owned(), open_files::replica_connection());
            let (Ok(permit), Some(one_of_all)) = (own, one_of_all) else {
                let message = format!("this replica has {CONNECTIONS} connections to its database already");
                let _ = stream.try_write(&startup::refusal("53300", &message));
                continue;
            };
            let Some(place) = self.enter(&name) else {
                let message = format!(
                    "the agent's replicas have all the connections to their database that they may: {} at most",
                    agent_databases::CONNECTIONS
                );
                let _ = stream.try_write(&startup::refusal("53300", &message));
                continue;
            };
            let (passages, name) = (self.clone(), Arc::clone(&name));
            tasks.spawn_until_cancelled(self.0.open.track_future(async move {
                passages.connection(stream, &name).await;
                drop((permit, one_of_all, place));
            }));
        }
    }

    /// A place for one more connection to the database `name`.
    fn enter(&self, name: &str) -> Option<Place> {
        let mut taken = self.0.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (own, all) = (taken.get(name).copied().unwrap_or_default(), taken.values().sum());
        admits(own, all).then(|| {
            taken.insert(name.to_owned(), own + 1);
            Place { inner: Arc::clone(&self.0), name: name.to_owned() }
        })
    }

    /// Goes on with what another server handed over.
    pub fn take(&self, passage: OpenPassage, shutdown: &Shutdown) -> io::Result<()> {
        let client = std::os::unix::net::UnixStream::from(passage.client);
        client.set_nonblocking(true)?;
        let client = UnixStream::from_std(client)?;
        let upstream = if passage.tcp {
            let stream = std::net::TcpStream::from(passage.server);
            stream.set_nonblocking(true)?;
            Upstream::Tcp(TcpStream::from_std(stream)?)
        } else {
            let stream = std::os::unix::net::UnixStream::from(passage.server);
            stream.set_nonblocking(true)?;
            Upstream::Unix(UnixStream::from_std(stream)?)
        };
        let passages = self.clone();
        let task = async move { passages.pass(client, upstream).await };
        shutdown.spawn_until_cancelled(self.0.open.track_future(task));
        Ok(())
    }

    /// Brings all open connections to rest, for another server to go on with them. What takes too long is cut.
    pub async fn hand_over(&self) -> Vec<OpenPassage> {
        self.0.rest.cancel();
        self.0.open.close();
        if tokio::time::timeout(REST, self.0.open.wait()).await.is_err() {
            tracing::warn!(open = self.0.open.len(), "connections to agents' databases are busy and will be cut");
        }
        self.0.at_rest.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default()
    }

    async fn connection(&self, mut client: UnixStream, name: &str) {
        let packet = match tokio::time::timeout(STARTUP, read_first(&mut client, name)).await {
            Ok(Ok(Some(packet))) => packet,
            Ok(Ok(None)) | Err(_) => return,
            Ok(Err(refused)) => {
                let _ = tokio::time::timeout(STARTUP, client.write_all(&refused)).await;
                return;
            }
        };
        let mut upstream = match tokio::time::timeout(limits::CONNECT, self.connect()).await {
            Ok(Ok(upstream)) => upstream,
            failed => {
                if let Ok(Err(error)) = failed {
                    tracing::warn!(name, %error, "an agent's database cannot be reached");
                }
                // 57P03: cannot_connect_now, after which clients try again.
                let refused = startup::refusal("57P03", "the database cannot be reached now");
                let _ = tokio::time::timeout(STARTUP, client.write_all(&refused)).await;
                return;
            }
        };
        let written = match &mut upstream {
            Upstream::Unix(stream) => stream.write_all(&packet).await,
            Upstream::Tcp(stream) => stream.write_all(&packet).await,
        };
        if written.is_ok() {
            self.pass(client, upstream).await;
        }
    }

    async fn connect(&self) -> io::Result<Upstream> {
        Ok(match &self.0.address {
            Address::Socket(path) => Upstream::Unix(UnixStream::connect(path).await?),
            Address::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                Upstream::Tcp(stream)
            }
        })
    }

    /// Passes bytes both ways until the connection is over or comes to rest.
    async fn pass(&self, mut client: UnixStream, mut upstream: Upstream) {
        let end = match &mut upstream {
            Upstream::Unix(stream) => both(&mut client, stream, &self.0.rest).await,
            Upstream::Tcp(stream) => both(&mut client, stream, &self.0.rest).await,
        };
        if end.is_err() {
            return;
        }
        let tcp = matches!(upstream, Upstream::Tcp(_));
        let client = client.into_std().map(OwnedFd::from);
        let server = match upstream {
            Upstream::Unix(stream) => stream.into_std().map(OwnedFd::from),
            Upstream::Tcp(stream) => stream.into_std().map(OwnedFd::from),
        };
        if let (Ok(client), Ok(server)) = (client, server) {
            let mut at_rest = self.0.at_rest.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(at_rest) = at_rest.as_mut() {
                at_rest.push(OpenPassage { client, server, tcp });
            }
        }
    }
}

/// The client's first packet, checked. `None`: it went away. An error is what it is answered.
async fn read_first(client: &mut UnixStream, name: &str) -> Result<Option<Vec<u8>>, Vec<u8>> {
    // 08P01: protocol_violation; 28000: invalid_authorization_specification.
    let malformed = |error: startup::StartupError| startup::refusal("08P01", &error.to_string());
    loop {
        // Not a byte more than the packet: what follows belongs to Postgres.
        let mut packet = vec![0; 4];
        if client.read_exact(&mut packet).await.is_err() {
            return Ok(None);
        }
        let length = startup::length(&packet).map_err(malformed)?.unwrap_or(packet.len());
        packet.resize(length, 0);
        if client.read_exact(&mut packet[4..]).await.is_err() {
            return Ok(None);
        }
        match startup::parse(&packet).map_err(malformed)? {
            First::Encryption => {
                if client.write_all(b"N").await.is_err() {
                    return Ok(None);
                }
            }
            First::Cancel => return Ok(Some(packet)),
            First::Start { user, database } if user == name && database == name => return Ok(Some(packet)),
            First::Start { .. } => {
                let message = format!("this socket leads to the role and the database {name:?} alone");
                return Err(startup::refusal("28000", &message));
            }
        }
    }
}

/// Passes bytes both ways. Returns when nothing is on the way any more, for a handover; the end of the
/// connection is an error: Postgres' clients and Postgres close both ways at once.
async fn both<S>(client: &mut UnixStream, server: &mut S, rest: &CancellationToken) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut client_read, mut client_write) = client.split();
    let (mut server_read, mut server_write) = tokio::io::split(server);
    let there = one_way(&mut client_read, &mut server_write, rest);
    let back = one_way(&mut server_read, &mut client_write, rest);
    tokio::try_join!(there, back).map(drop)
}

/// Passes bytes on until `rest`; the end of them is an error.
async fn one_way(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    rest: &CancellationToken,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let count = tokio::select! {
            biased;
            () = rest.cancelled() => return Ok(()),
            read = from.read(&mut buffer) => read?,
        };
        if count == 0 {
            let _ = to.shutdown().await;
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        to.write_all(&buffer[..count]).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::secret::SecretString;
    use crate::store::Store;
    use crate::store::agents::Agent;
    use crate::store::databases::database_name;
    use crate::store::test_database::TestDatabase;
    use sqlx::postgres::{PgConnectOptions, PgSslMode};
    use sqlx::{ConnectOptions as _, Connection as _};

    struct World {
        folder: tempfile::TempDir,
        name: String,
        passages: Passages,
        shutdown: Shutdown,
        store: Store,
        agent: Agent,
        database: TestDatabase,
    }

    async fn world() -> World {
        let database = TestDatabase::new().await;
        let store = Store::open(database.options()).await.unwrap();
        let agent = store.ensure_agent("passage").await.unwrap();
        store.ensure_database(&agent, &SecretString::from("pw")).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (name, passages, shutdown) =
            (database_name(&agent), Passages::to(&database.options()), Shutdown::default());
        passages.serve(UnixListener::bind(folder.path().join(SOCKET)).unwrap(), name.clone(), "a replica", &shutdown);
        World { folder, name, passages, shutdown, store, agent, database }
    }

    impl World {
        fn options(&self, user: &str, database: &str) -> PgConnectOptions {
            PgConnectOptions::new_without_pgpass()
                .socket(self.folder.path())
                .username(user)
                .password("pw")
                .database(database)
                .ssl_mode(PgSslMode::Disable)
        }
    }

    #[tokio::test]
    async fn a_replica_enters_its_own_database_and_an_open_transaction_goes_on_in_the_next_server() {
        let world = world().await;
        let own = world.options(&world.name, &world.name);
        let mut one = own.connect().await.unwrap();
        let mut open = one.begin().await.unwrap();
        sqlx::raw_sql("CREATE TABLE t (n int); INSERT INTO t SELECT generate_series(1, 1000)")
            .execute(&mut *open)
            .await
            .unwrap();

        // Another server takes over; the first one's tasks end.
        let next = Passages::to(&world.database.options());
        let handed = world.passages.hand_over().await;
        assert_eq!(handed.len(), 1);
        world.shutdown.cancel();
        let shutdown = Shutdown::default();
        for passage in handed {
            next.take(passage, &shutdown).unwrap();
        }
        let rows: Vec<i32> = sqlx::query_scalar("SELECT n FROM t").fetch_all(&mut *open).await.unwrap();
        assert_eq!(rows.len(), 1000);
        open.commit().await.unwrap();
        one.close().await.unwrap();
        world.store.drop_database(&world.agent).await.unwrap();
    }

    #[test]
    fn no_agent_takes_what_the_others_need() {
        assert!(admits(0, 0) && admits(agent_databases::CONNECTIONS - 1, 100));
        assert!(!admits(agent_databases::CONNECTIONS, agent_databases::CONNECTIONS));
        // However many greedy ones there are, the next one gets a few.
        let (mut all, mut agents) = (0, Vec::new());
        for _ in 0..10 {
            let mut own = 0;
            while admits(own, all) {
                own += 1;
                all += 1;
            }
            agents.push(own);
        }
        assert!(agents.iter().all(|own| *own >= SURE_CONNECTIONS), "{agents:?}");
        assert!(all <= ALL_CONNECTIONS, "{all}");
    }

    #[tokio::test]
    async fn nobody_enters_as_the_server_or_elsewhere() {
        let world = world().await;
        for (user, database) in [
            ("rapidclaw", "rapidclaw"),
            ("rapidclaw", &*world.name),
            (&*world.name, "postgres"),
            ("postgres", "postgres"),
        ] {
            let error = world.options(user, database).connect().await.unwrap_err();
            let code = error.as_database_error().and_then(|error| error.code().map(std::borrow::Cow::into_owned));
            assert_eq!(code.as_deref(), Some("28000"), "{user}/{database}: {error}");
        }
        // Words that are no startup packet end the connection and nothing else.
        let mut stranger = UnixStream::connect(world.folder.path().join(SOCKET)).await.unwrap();
        stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let mut said = Vec::new();
        // The end may be a reset: what the stranger said was not read.
        let _ = stranger.read_to_end(&mut said).await;
        assert!(said.starts_with(b"E"), "{said:?}");
        world.options(&world.name, &world.name).connect().await.unwrap();
        world.store.drop_database(&world.agent).await.unwrap();
    }
}
