//! A gateway and its routes begin, each with the tasks that look after it.

use super::committer::Committer;
use super::places::Places;
use super::route::Route;
use super::{Gateway, Inner, dispatch, follow, suspects};
use crate::base::ids;
use crate::base::shutdown::Shutdown;
use crate::store::Store;
use crate::store::agents::Agent;
use crate::store::checkpoints::CheckpointError;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tokio::sync::Notify;

impl Gateway {
    /// A gateway on this store; its tasks end with `shutdown`.
    pub fn new(store: Store, shutdown: &Shutdown) -> Self {
        let committer = Committer::start(&store, shutdown);
        let gateway = Self(Arc::new(Inner {
            id: ids::new_id(),
            store,
            committer,
            routes: RwLock::default(),
            keys: RwLock::default(),
            waiting: Mutex::default(),
            followed: Mutex::default(),
            follows: Notify::new(),
            executing: Mutex::default(),
            places: Places::default(),
            shutdown: shutdown.clone(),
            runs: shutdown.beside(),
        }));
        let own = gateway.clone();
        shutdown.supervise("runs that end elsewhere", move || follow::run(own.clone()));
        gateway
    }

    /// The way to an agent, made when there is none.
    pub fn ensure_route(&self, agent: &Agent) -> Result<Arc<Route>, CheckpointError> {
        let mut routes = self.0.routes.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(route) = routes.get(&agent.name).filter(|route| route.agent == agent.id) {
            return Ok(Arc::clone(route));
        }
        let route = Arc::new(Route::new(agent)?);
        routes.insert(agent.name.clone(), Arc::clone(&route));
        let (gateway, own) = (self.clone(), Arc::clone(&route));
        let make = move || dispatch::run(gateway.clone(), Arc::clone(&own));
        self.0.shutdown.supervise(format!("queue of {}", agent.name), make);
        let (gateway, own) = (self.clone(), Arc::clone(&route));
        let make = move || suspects::run(gateway.clone(), Arc::clone(&own));
        self.0.shutdown.supervise(format!("suspects of {}", agent.name), make);
        Ok(route)
    }
}
