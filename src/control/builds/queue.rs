//! Whose turn it is: so many at once, the others in the order in which they came.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// A queue. Clones are the same.
#[derive(Debug, Clone)]
pub struct Queue(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// How many may have their turn at once, and how many may wait for it.
    at_once: usize,
    waiting: usize,
    state: Mutex<State>,
    changes: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    waiting: BTreeSet<u64>,
    running: BTreeSet<u64>,
}

/// A place in the queue, or a turn, until it is dropped.
#[derive(Debug)]
pub struct Ticket {
    queue: Queue,
    number: u64,
}

impl Queue {
    /// An empty one.
    pub fn new(at_once: usize, waiting: usize) -> Self {
        let changes = watch::Sender::new(());
        Self(Arc::new(Inner { at_once: at_once.max(1), waiting, state: Mutex::default(), changes }))
    }

    /// The last place; nothing where as many wait as may.
    pub fn enter(&self) -> Option<Ticket> {
        let mut state = self.lock();
        if state.waiting.len() >= self.0.waiting {
            return None;
        }
        state.last += 1;
        let number = state.last;
        state.waiting.insert(number);
        Some(Ticket { queue: self.clone(), number })
    }

    #[cfg(test)]
    fn counts(&self) -> (usize, usize) {
        let state = self.lock();
        (state.running.len(), state.waiting.len())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// Waits for its turn; `told` hears how many come before, each time that it changes.
    pub async fn turn(&self, told: impl Fn(usize)) {
        let mut changes = self.queue.0.changes.subscribe();
        let mut last = None;
        loop {
            changes.mark_unchanged();
            let before = {
                let mut state = self.queue.lock();
                let ahead = state.waiting.iter().take_while(|number| **number < self.number).count();
                if ahead == 0 && state.running.len() < self.queue.0.at_once {
                    state.waiting.remove(&self.number);
                    state.running.insert(self.number);
                    drop(state);
                    self.queue.0.changes.send_replace(());
                    return;
                }
                ahead + state.running.len()
            };
            if last.replace(before) != Some(before) {
                told(before);
            }
            // The sender lives as long as the queue does.
            let _ = changes.changed().await;
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.waiting.remove(&self.number);
        state.running.remove(&self.number);
        drop(state);
        self.queue.0.changes.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    /// How many come before, where it is not this one's turn.
    fn waits(ticket: &Ticket) -> Option<usize> {
        let told = Mutex::new(None);
        let turn = ticket.turn(|before| *told.lock().unwrap() = Some(before)).now_or_never();
        let told = told.lock().unwrap().take();
        assert!(turn.is_some() != told.is_some());
        told
    }

    #[test]
    fn each_has_its_turn_in_order_and_who_leaves_makes_room() {
        let queue = Queue::new(2, 3);
        let places: Vec<Ticket> = (0..3).map(|_| queue.enter().unwrap()).collect();
        assert!(queue.enter().is_none(), "as many wait as may");
        let [one, two, three] = <[Ticket; 3]>::try_from(places).unwrap();
        assert_eq!(waits(&two), Some(1), "nobody goes before the first");
        assert_eq!((waits(&one), waits(&two), waits(&three)), (None, None, Some(2)));
        let (four, five) = (queue.enter().unwrap(), queue.enter().unwrap());
        assert_eq!((waits(&four), waits(&five)), (Some(3), Some(4)));
        drop(four);
        assert_eq!(waits(&five), Some(3));
        drop(one);
        assert_eq!((waits(&five), waits(&three), waits(&five)), (Some(2), None, Some(2)));
        drop((two, three));
        assert_eq!(waits(&five), None);
        drop(five);
        assert_eq!(queue.counts(), (0, 0));
    }

    #[tokio::test]
    async fn who_waits_is_woken() {
        let queue = Queue::new(1, 2);
        let (one, two) = (queue.enter().unwrap(), queue.enter().unwrap());
        one.turn(|_| ()).await;
        let (told, heard) = tokio::sync::oneshot::channel();
        let told = Mutex::new(Some(told));
        let waiting = async {
            two.turn(|_| {
                if let Some(told) = told.lock().unwrap().take() {
                    told.send(()).unwrap();
                }
            })
            .await;
        };
        let leaving = async {
            heard.await.unwrap();
            drop(one);
        };
        tokio::join!(waiting, leaving);
        assert_eq!(queue.counts(), (1, 0));
    }
}
