//! Which connections a listener has, whose they are, and which one goes when there are too many.
//!
//! A connection belongs to a stranger until a request on it shows a key. Strangers have a share an address and one
//! together; whoever opens more closes its own oldest. Owners of keys have shares of their own, and strangers take
//! nothing of theirs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Whom a key or token belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Owner {
    /// The agent that a caller's key opens.
    Agent(Uuid),
    /// The name of a token of the control API.
    Token(String),
}

/// How many there may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// All together.
    pub all: usize,
    /// Of strangers.
    pub strangers: usize,
    /// Of strangers at one address.
    pub address: usize,
    /// Of one owner.
    pub owner: usize,
}

impl Limits {
    /// Where a listener may have `all`.
    pub fn of(all: usize) -> Self {
        Self { all, strangers: all / 2, address: (all / 8).max(8), owner: all / 2 }
    }
}

/// The connections of one listener. Clones are the same.
#[derive(Debug, Clone)]
pub struct Connections {
    limits: Limits,
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    last: u64,
    open: usize,
    strangers: BTreeMap<u64, (IpAddr, CancellationToken)>,
    addresses: HashMap<IpAddr, BTreeSet<u64>>,
    owners: HashMap<Owner, usize>,
}

/// One connection among them, until it is dropped.
#[derive(Debug)]
pub struct ConnectionGuard {
    connections: Connections,
    id: u64,
    closed: CancellationToken,
    owner: Mutex<Option<Owner>>,
}

/// An owner has as many as it may, or all owners together.
#[derive(Debug, PartialEq, Eq)]
pub struct TooMany;

impl Connections {
    /// None yet.
    pub fn new(limits: Limits) -> Self {
        Self { limits, table: Arc::default() }
    }

    /// One more, of a stranger. Nothing when all belong to owners.
    pub fn open(&self, address: IpAddr) -> Option<Arc<ConnectionGuard>> {
        let address = network(address);
        let mut table = self.lock();
        if table.addresses.get(&address).is_some_and(|own| own.len() >= self.limits.address) {
            table.close_oldest_of(address);
        }
        if table.strangers.len() >= self.limits.strangers || table.open >= self.limits.all {
            // Who has most makes room.
            let most = table.addresses.iter().max_by_key(|(_, own)| own.len()).map(|(address, _)| *address);
            table.close_oldest_of(most?);
        }
        table.last += 1;
        table.open += 1;
        let (id, closed) = (table.last, CancellationToken::new());
        table.strangers.insert(id, (address, closed.clone()));
        table.addresses.entry(address).or_default().insert(id);
        drop(table);
        Some(Arc::new(ConnectionGuard { connections: self.clone(), id, closed, owner: Mutex::default() }))
    }

    /// Closes a stranger's: the process has no files left.
    pub fn relieve(&self) {
        let mut table = self.lock();
        let most = table.addresses.iter().max_by_key(|(_, own)| own.len()).map(|(address, _)| *address);
        if let Some(address) = most {
            table.close_oldest_of(address);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn close_oldest_of(&mut self, address: IpAddr) {
        let oldest = self.addresses.get(&address).and_then(|own| own.first().copied());
        if let Some((_, closed)) = oldest.and_then(|id| self.forget_stranger(id)) {
            self.open -= 1;
            closed.cancel();
        }
    }

    fn forget_stranger(&mut self, id: u64) -> Option<(IpAddr, CancellationToken)> {
        let (address, closed) = self.strangers.remove(&id)?;
        if let Some(own) = self.addresses.get_mut(&address) {
            own.remove(&id);
            if own.is_empty() {
                self.addresses.remove(&address);
            }
        }
        Some((address, closed))
    }

    fn leave(&mut self, owner: &Owner) {
        if let Some(count) = self.owners.get_mut(owner) {
            *count -= 1;
            if *count == 0 {
                self.owners.remove(owner);
            }
        }
    }
}

impl ConnectionGuard {
    /// Waits until it has to make room for another one.
    pub async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Whether a request on it has shown a key.
    pub fn is_owned(&self) -> bool {
        self.owner.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// A request on it has shown a key of this owner's.
    pub fn belongs_to(&self, owner: &Owner) -> Result<(), TooMany> {
        let mut now = self.owner.lock().unwrap_or_else(PoisonError::into_inner);
        if now.as_ref() == Some(owner) {
            return Ok(());
        }
        let mut table = self.connections.lock();
        let limits = self.connections.limits;
        // Strangers keep some, or nobody could show a key any more.
        let of_owners = table.open - table.strangers.len();
        let full = now.is_none() && of_owners >= limits.all - limits.all / 8;
        if full || table.owners.get(owner).is_some_and(|count| *count >= limits.owner) {
            return Err(TooMany);
        }
        match now.take() {
            Some(before) => table.leave(&before),
            // It has made room just now.
            None if table.forget_stranger(self.id).is_none() => return Ok(()),
            None => {}
        }
        *table.owners.entry(owner.clone()).or_default() += 1;
        *now = Some(owner.clone());
        Ok(())
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let owner = self.owner.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let mut table = self.connections.lock();
        let was_open = match owner {
            Some(owner) => {
                table.leave(&owner);
                true
            }
            None => table.forget_stranger(self.id).is_some(),
        };
        if was_open {
            table.open -= 1;
        }
    }
}

/// What one customer of a network has: an IPv4 address, or the first 64 bits of an IPv6 one.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
        ip @ IpAddr::V4(_) => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn is_closed(guard: &ConnectionGuard) -> bool {
        guard.closed.is_cancelled()
    }

    fn small() -> Connections {
        Connections::new(Limits { all: 16, strangers: 8, address: 4, owner: 3 })
    }

    #[test]
    fn who_opens_more_than_its_share_closes_its_own_oldest() {
        let connections = small();
        let other = connections.open(ip(9)).unwrap();
        let greedy: Vec<_> = (0..100).map(|_| connections.open(ip(1)).unwrap()).collect();
        assert!(!is_closed(&other));
        assert_eq!(greedy.iter().filter(|one| !is_closed(one)).count(), 4);
        assert!(greedy[96..].iter().all(|one| !is_closed(one)));
        // One network of IPv6 is one address, and so is IPv4 in its clothes.
        let six: Vec<_> =
            (0..9).map(|n| connections.open(format!("2001:db8::{n}").parse().unwrap()).unwrap()).collect();
        assert_eq!(six.iter().filter(|one| !is_closed(one)).count(), 4);
        // Its last made room where most were.
        assert_eq!(greedy.iter().filter(|one| !is_closed(one)).count(), 3);
        drop(greedy);
        assert_eq!(network("::ffff:10.0.0.1".parse().unwrap()), ip(1));
    }

    #[test]
    fn of_many_strangers_those_with_most_make_room_and_owners_never() {
        let connections = small();
        let mine = connections.open(ip(1)).unwrap();
        mine.belongs_to(&Owner::Token("ann".into())).unwrap();
        let one = connections.open(ip(1)).unwrap();
        let two: Vec<_> = (0..2).map(|_| connections.open(ip(2)).unwrap()).collect();
        let many: Vec<_> = (10..30).map(|last| connections.open(ip(last)).unwrap()).collect();
        assert!(is_closed(&two[0]) && !is_closed(&mine));
        let open = many.iter().chain(&two).chain([&one]).filter(|one| !is_closed(one)).count();
        assert_eq!(open, 8);
        drop((one, two, many, mine));
        let table = connections.lock();
        assert_eq!((table.open, table.strangers.len(), table.owners.len()), (0, 0, 0));
        assert!(table.addresses.is_empty());
    }

    #[test]
    fn an_owner_has_its_share_and_strangers_can_still_show_their_keys() {
        let connections = small();
        let owned = |name: &str| {
            let guard = connections.open(ip(1))?;
            Some(guard.belongs_to(&Owner::Token(name.into())).map(|()| guard))
        };
        let held: Vec<_> = (0..3).map(|_| owned("ann").unwrap().unwrap()).collect();
        assert!(matches!(owned("ann"), Some(Err(TooMany))));
        let others: Vec<_> =
            (0..4).flat_map(|n| (0..3).map(move |_| n)).map(|n| owned(&format!("b{n}")).unwrap()).collect();
        assert_eq!(others.iter().filter(|one| one.is_ok()).count(), 11, "an eighth stays for strangers");
        assert!(connections.open(ip(2)).is_some());
        // The same connection may bring another owner's request, and gives the first one's place back.
        held[0].belongs_to(&Owner::Token("b3".into())).unwrap();
        assert_eq!(connections.lock().owners[&Owner::Token("ann".into())], 2);
    }
}
