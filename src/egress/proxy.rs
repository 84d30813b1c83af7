//! The server side of one replica's `egress.sock`.

use crate::base::open_connections::OpenConnections;
use crate::base::open_files;
use crate::base::shutdown::Shutdown;
use crate::egress::Defaults;
use crate::egress::denials::Denials;
use crate::egress::head::{self, HeadError};
use crate::egress::host::Authority;
use crate::egress::policy::Policy;
use crate::egress::problem::Problem;
use crate::egress::resolver::{ResolveError, Resolver};
use crate::egress::tunnel::{self, TunnelError};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;

/// Whose socket it is; for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// The agent's name.
    pub agent: String,
    /// The replica's id.
    pub replica: String,
}

/// What all connections of one replica share.
struct Proxy {
    replica: Replica,
    policy: Arc<Policy>,
    resolver: Arc<Resolver>,
    denials: Denials,
    permits: Arc<Semaphore>,
    open: OpenConnections,
    tasks: Shutdown,
}

/// Serves one replica's socket until `shutdown` is cancelled (give it a [`Shutdown::child`] that ends with
/// the replica); tunnels that are open then are cut.
pub fn serve(
    listener: UnixListener,
    replica: Replica,
    policy: Arc<Policy>,
    resolver: Arc<Resolver>,
    open: &OpenConnections,
    shutdown: &Shutdown,
) {
    let name = format!("connections of {} of {}", replica.replica, replica.agent);
    let permits = Arc::new(Semaphore::new(open_files::of_one_replica(Defaults::CONNECTIONS)));
    let (denials, open, tasks) = (Denials::default(), open.clone(), shutdown.clone());
    let proxy = Arc::new(Proxy { replica, policy, resolver, denials, permits, open, tasks });
    let listener = Arc::new(listener);
    shutdown.supervise(name, move || accept(Arc::clone(&listener), Arc::clone(&proxy)));
}

async fn accept(listener: Arc<UnixListener>, proxy: Arc<Proxy>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                let Replica { agent, replica } = &proxy.replica;
                tracing::warn!(agent, replica, %error, "egress: cannot accept");
                tokio::time::sleep(Defaults::ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (own, one_of_all) = (Arc::clone(&proxy.permits).try_acquire_owned(), open_files::replica_connection());
        let (Ok(permit), Some(one_of_all)) = (own, one_of_all) else {
            let detail = format!(
                "this replica, or all together, have as many connections as they may ({})",
                Defaults::CONNECTIONS
            );
            proxy.log_denial("*", &detail);
            // A fresh socket takes these few bytes at once.
            let _ = stream.try_write(&Problem::new(503, "egress_connections", detail).response());
            continue;
        };
        let own = Arc::clone(&proxy);
        proxy.tasks.spawn_until_cancelled(proxy.open.track(async move {
            own.connection(stream).await;
            drop((permit, one_of_all));
        }));
    }
}

impl Proxy {
    async fn connection(&self, mut client: UnixStream) {
        let Ok(asked) = tokio::time::timeout(Defaults::HEAD_TIMEOUT, read_head(&mut client)).await else {
            let detail = format!("no whole request within {} s", Defaults::HEAD_TIMEOUT.as_secs());
            return refuse(&mut client, &Problem::new(408, "egress_head_timeout", detail)).await;
        };
        let (target, first) = match asked {
            Ok(Some(asked)) => asked,
            Ok(None) => return,
            Err(problem) => return refuse(&mut client, &problem).await,
        };
        let mut server = match self.open(&target).await {
            Ok(server) => server,
            Err(problem) => {
                if problem.status == 403 {
                    self.log_denial(&target.to_string(), &problem.detail);
                }
                return refuse(&mut client, &problem).await;
            }
        };
        if client.write_all(b"HTTP/1.1 200 Connection Established\r\n\r\n").await.is_err() {
            return;
        }
        match tunnel::pass(&mut client, &mut server, &target, first).await {
            Ok(()) => {}
            Err(error) if error.is_denial() => self.log_denial(&target.to_string(), &error.to_string()),
            Err(TunnelError::Io(error)) => tracing::debug!(target = %target, %error, "egress: tunnel broke"),
            Err(error) => tracing::debug!(target = %target, %error, "egress: tunnel ended"),
        }
    }

    /// A connection to the target, if it is allowed and one of its good addresses answers.
    async fn open(&self, target: &Authority) -> Result<TcpStream, Problem> {
        if !self.policy.allows(&target.host, target.port) {
            let remedy = self.policy.remedy(&target.host, target.port);
            return Err(Problem::new(403, "egress_denied", format!("{target} is not allowed: {remedy}")));
        }
        let addresses = match self.resolver.resolve(&target.host, target.port).await {
            Ok(addresses) => addresses,
            Err(error @ ResolveError::Refused { .. }) => {
                return Err(Problem::new(403, "egress_address_refused", error.to_string()));
            }
            Err(error @ ResolveError::Unknown { .. }) => {
                return Err(Problem::new(502, "egress_unresolved", error.to_string()));
            }
            Err(error @ ResolveError::TimedOut { .. }) => {
                return Err(Problem::new(504, "egress_resolve_timeout", error.to_string()));
            }
        };
        let timed_out = || Problem::new(504, "egress_connect_timeout", format!("{target} does not answer in time"));
        match tokio::time::timeout(Defaults::CONNECT_TOTAL_TIMEOUT, connect(&addresses)).await {
            Ok(Ok(server)) => Ok(server),
            Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut => Err(timed_out()),
            Ok(Err(error)) => {
                Err(Problem::new(502, "egress_unreachable", format!("cannot connect to {target}: {}", error.kind())))
            }
            Err(_) => Err(timed_out()),
        }
    }

    fn log_denial(&self, host: &str, reason: &str) {
        if self.denials.is_news(host, std::time::Instant::now()) {
            let Replica { agent, replica } = &self.replica;
            tracing::warn!(agent, replica, host, reason, "egress denied");
        }
    }
}

async fn refuse(client: &mut UnixStream, problem: &Problem) {
    let _ = tokio::time::timeout(Defaults::HEAD_TIMEOUT, client.write_all(&problem.response())).await;
}

/// The target, and the bytes that came after the head. `None` when the client went away.
async fn read_head(client: &mut UnixStream) -> Result<Option<(Authority, Vec<u8>)>, Problem> {
    let mut bytes = Vec::with_capacity(1024);
    loop {
        match head::parse(&bytes) {
            Ok(Some(head)) => return Ok(Some((head.target, bytes.split_off(head.length)))),
            Ok(None) => {}
            Err(error) => return Err(head_problem(&error)),
        }
        match client.read_buf(&mut bytes).await {
            Ok(0) | Err(_) => return Ok(None),
            Ok(_) => {}
        }
    }
}

fn head_problem(error: &HeadError) -> Problem {
    let detail = match error {
        HeadError::Target(why) => format!("{error}: {why}"),
        _ => error.to_string(),
    };
    match error {
        HeadError::Method(_) => Problem::new(405, "egress_method", detail),
        HeadError::TooLong => Problem::new(431, "egress_head_bytes", detail),
        HeadError::Malformed(_) | HeadError::Target(_) => Problem::new(400, "egress_malformed", detail),
    }
}

/// The first of `addresses` that answers. These, and nothing resolved anew: what was judged is what is reached.
async fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match tokio::time::timeout(Defaults::CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                tune(&stream);
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

/// Small pieces go out at once; a peer that is gone is noticed long before the idle time-out.
fn tune(stream: &TcpStream) {
    const PROBE_AFTER: Duration = Duration::from_mins(1);
    let _ = stream.set_nodelay(true);
    let _ = rustix::net::sockopt::set_socket_keepalive(stream, true);
    let _ = rustix::net::sockopt::set_tcp_keepidle(stream, PROBE_AFTER);
}
