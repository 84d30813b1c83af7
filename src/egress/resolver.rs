//! Names to addresses: `--resolve` first, then the system's resolver; only judged addresses leave here.

use crate::egress::Defaults;
use crate::egress::address::{self, Refusal};
use crate::egress::host::{Host, HostError, parse_port};
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::str::FromStr;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// One `--resolve NAME:PORT:ADDR[,ADDR]…`, as curl has it: connections to NAME at PORT go to ADDR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// The name; `None` for curl's `*`, which is tried last.
    host: Option<Host>,
    port: u16,
    addresses: Vec<IpAddr>,
}

/// What is wrong with a `--resolve`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OverrideError {
    /// Not three parts.
    #[error("`{0}` is not NAME:PORT:ADDR")]
    Form(String),
    /// NAME or PORT.
    #[error("`{text}`")]
    Host {
        /// The text given.
        text: String,
        /// Why.
        source: HostError,
    },
    /// ADDR.
    #[error("`{0}` is no address")]
    Address(String),
    /// An address that is refused to all.
    #[error("`{address}`: a {refusal} address cannot be reached by an agent")]
    Refused {
        /// Which.
        address: IpAddr,
        /// Why.
        refusal: Refusal,
    },
}

impl FromStr for Override {
    type Err = OverrideError;

    fn from_str(text: &str) -> Result<Self, OverrideError> {
        let form = || OverrideError::Form(text.to_owned());
        let fault = |source| OverrideError::Host { text: text.to_owned(), source };
        // `+` lets curl's entry time out; ours never do.
        let entry = text.strip_prefix('+').unwrap_or(text);
        let name_end = if entry.starts_with('[') { entry.find(']').ok_or_else(form)? + 1 } else { 0 };
        let colon = entry[name_end..].find(':').ok_or_else(form)? + name_end;
        let (name, rest) = (&entry[..colon], &entry[colon + 1..]);
        let (port, addresses) = rest.split_once(':').ok_or_else(form)?;
        let host = if name == "*" { None } else { Some(Host::parse(name).map_err(fault)?) };
        let port = parse_port(port).map_err(fault)?;
        let addresses = addresses.split(',').map(judged_address).collect::<Result<_, _>>()?;
        Ok(Self { host, port, addresses })
    }
}

fn judged_address(text: &str) -> Result<IpAddr, OverrideError> {
    let bare = text.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(text);
    let address: IpAddr = bare.parse().map_err(|_| OverrideError::Address(text.to_owned()))?;
    match address::judge(address) {
        Ok(()) => Ok(address),
        Err(refusal) => Err(OverrideError::Refused { address, refusal }),
    }
}

/// Why a host has no address to connect to.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// All its addresses are refused; this is the first one.
    #[error("{host} has the {refusal} address {address}, which no agent reaches")]
    Refused {
        /// The host.
        host: Host,
        /// Its first address.
        address: IpAddr,
        /// Why.
        refusal: Refusal,
    },
    /// The system's resolver knows none.
    #[error("{host} has no address")]
    Unknown {
        /// The host.
        host: Host,
        /// What the resolver said.
        source: io::Error,
    },
    /// The system's resolver did not answer.
    #[error("no answer for {host} within {} s", Defaults::RESOLVE_TIMEOUT.as_secs())]
    TimedOut {
        /// The host.
        host: Host,
    },
}

/// The server's resolver, shared by all replicas and the model gateway.
pub struct Resolver {
    overrides: Vec<Override>,
    lookups: Arc<Semaphore>,
    judge: fn(IpAddr) -> Result<(), Refusal>,
}

impl Resolver {
    /// With the server's `--resolve` entries; of several for one name and port the last holds, as in curl.
    pub fn new(overrides: Vec<Override>) -> Self {
        Self { overrides, lookups: Arc::new(Semaphore::new(Defaults::LOOKUPS)), judge: address::judge }
    }

    /// One that takes loopback addresses, where a test's servers listen.
    #[cfg(test)]
    pub(crate) fn for_tests(overrides: &[(&str, SocketAddr)]) -> Self {
        let entry = |(name, address): &(&str, SocketAddr)| Override {
            host: Some(Host::parse(name).unwrap()),
            port: address.port(),
            addresses: vec![address.ip()],
        };
        Self { overrides: overrides.iter().map(entry).collect(), judge: |_| Ok(()), ..Self::new(Vec::new()) }
    }

    /// The addresses of `host` that may be connected to: those judged good, in the resolver's order.
    pub async fn resolve(&self, host: &Host, port: u16) -> Result<Vec<SocketAddr>, ResolveError> {
        let found = self.look_up(host, port).await?;
        let good: Vec<_> = found.iter().copied().filter(|at| (self.judge)(at.ip()).is_ok()).collect();
        match found.first() {
            Some(first) if good.is_empty() => {
                let address = first.ip();
                let refusal = (self.judge)(address).err().unwrap_or(Refusal::Unspecified);
                Err(ResolveError::Refused { host: host.clone(), address, refusal })
            }
            None => {
                let source = io::Error::new(io::ErrorKind::NotFound, "an empty answer");
                Err(ResolveError::Unknown { host: host.clone(), source })
            }
            Some(_) => Ok(good),
        }
    }

    /// All addresses of `host`, not judged: for upstreams that only the server's administrator names.
    pub(crate) async fn look_up(&self, host: &Host, port: u16) -> Result<Vec<SocketAddr>, ResolveError> {
        if let Some(addresses) = self.overridden(host, port) {
            return Ok(addresses.iter().map(|address| SocketAddr::new(*address, port)).collect());
        }
        let name = match host {
            Host::Ip(address) => return Ok(vec![SocketAddr::new(*address, port)]),
            Host::Name(name) => name.clone(),
        };
        let answer = tokio::time::timeout(Defaults::RESOLVE_TIMEOUT, self.ask_system(name, port)).await;
        match answer {
            Ok(Ok(addresses)) => Ok(addresses),
            Ok(Err(source)) => Err(ResolveError::Unknown { host: host.clone(), source }),
            Err(_) => Err(ResolveError::TimedOut { host: host.clone() }),
        }
    }

    /// Like `tokio::net::lookup_host`, but the permit is held until the system answers, not until we stop
    /// waiting: names whose servers are silent cannot take all threads of the runtime.
    async fn ask_system(&self, name: String, port: u16) -> io::Result<Vec<SocketAddr>> {
        let permit = self.lookups.clone().acquire_owned().await.map_err(io::Error::other)?;
        tokio::task::spawn_blocking(move || {
            let _held = permit;
            (name.as_str(), port).to_socket_addrs().map(Iterator::collect)
        })
        .await
        .map_err(io::Error::other)?
    }

    fn overridden(&self, host: &Host, port: u16) -> Option<&[IpAddr]> {
        let at_port = || self.overrides.iter().rev().filter(|entry| entry.port == port);
        at_port()
            .find(|entry| entry.host.as_ref() == Some(host))
            .or_else(|| at_port().find(|entry| entry.host.is_none()))
            .map(|entry| entry.addresses.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Host {
        Host::parse(text).unwrap()
    }

    #[test]
    fn curls_forms_are_read() {
        let entry = Override::from_str("+API.example.com:443:10.0.0.5,[fd12::7],fd12::8").unwrap();
        assert_eq!(entry.host, Some(name("api.example.com")));
        assert_eq!((entry.port, entry.addresses.len()), (443, 3));
        assert_eq!(Override::from_str("*:443:10.0.0.5").unwrap().host, None);
        assert!(Override::from_str("[fd12::7]:443:10.0.0.5").is_ok());
    }

    #[test]
    fn faulty_entries_are_told_apart() {
        let fault = |text: &str| Override::from_str(text).unwrap_err();
        for text in ["", "a", "a:443", "[fd12::7", "-a:443"] {
            assert!(matches!(fault(text), OverrideError::Form(_)), "{text}");
        }
        assert!(matches!(fault("a b:443:10.0.0.1"), OverrideError::Host { .. }));
        assert!(matches!(fault("a:0:10.0.0.1"), OverrideError::Host { source: HostError::Port, .. }));
        assert!(matches!(fault("a:443:b"), OverrideError::Address(_)));
        assert!(matches!(fault("a:443:"), OverrideError::Address(_)));
        for text in ["a:443:127.0.0.1", "a:443:10.0.0.1,[::1]", "a:443:169.254.169.254", "a:443:::ffff:127.0.0.1"] {
            assert!(matches!(fault(text), OverrideError::Refused { .. }), "{text}");
        }
    }

    #[tokio::test]
    async fn an_override_holds_for_its_name_and_port() {
        let entries = ["*:443:10.0.0.9", "a.example:443:10.0.0.1", "a.example:443:10.0.0.2,10.0.0.3"];
        let resolver = Resolver::new(entries.iter().map(|text| text.parse().unwrap()).collect());
        let found = resolver.resolve(&name("a.example"), 443).await.unwrap();
        assert_eq!(found, ["10.0.0.2:443".parse().unwrap(), "10.0.0.3:443".parse().unwrap()]);
        let found = resolver.resolve(&name("b.example"), 443).await.unwrap();
        assert_eq!(found, ["10.0.0.9:443".parse().unwrap()]);
    }

    #[tokio::test]
    async fn names_and_addresses_of_this_machine_are_refused() {
        let resolver = Resolver::new(Vec::new());
        for host in ["localhost", "127.0.0.1", "[::1]", "169.254.169.254", "[64:ff9b::7f00:1]"] {
            let error = resolver.resolve(&name(host), 80).await.unwrap_err();
            assert!(matches!(error, ResolveError::Refused { .. }), "{host}: {error}");
        }
        assert!(resolver.resolve(&name("10.0.0.5"), 80).await.is_ok());
    }
}
