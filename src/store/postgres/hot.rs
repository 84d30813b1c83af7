//! Connections that are asked all the time. A pool asks each connection that is given back whether it lives: for a
//! statement that finds one row by its key that is as much again. These are kept beside the pool instead, and only
//! those that something went wrong on go back to it.

use super::deaths;
use crate::store::limits;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool};
use sqlx::{Connection as _, Postgres};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// At most so many connections, opened when they are needed. Clones share them.
#[derive(Clone, Debug)]
pub struct Hot {
    pool: PgPool,
    /// As many as the pool has: who has a place gets a connection, a kept one or one of the pool's.
    places: Arc<Semaphore>,
    kept: Arc<Mutex<Vec<HotConnection>>>,
}

/// One of them.
#[derive(Debug)]
pub struct HotConnection {
    connection: PoolConnection<Postgres>,
    born: Instant,
    last_used: Instant,
    is_spoilt: bool,
}

impl HotConnection {
    /// Has it closed instead of kept: an answer comes on it that nobody will read to its end.
    pub fn spoil(&mut self) {
        self.is_spoilt = true;
    }
}

impl Deref for HotConnection {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for HotConnection {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

impl Hot {
    /// At most `max` connections.
    pub fn new(options: PgConnectOptions, max: u32) -> Self {
        let places = Arc::new(Semaphore::new(max as usize));
        Self { pool: super::pool(options, max), places, kept: Arc::default() }
    }

    /// Asks on one of the connections. It is kept when that went well; else, also where the future is dropped, the
    /// pool looks at it. An error where none is free within [`limits::ACQUIRE`].
    pub async fn ask<T, E: From<sqlx::Error>>(
        &self,
        question: impl AsyncFnOnce(&mut HotConnection) -> Result<T, E>,
    ) -> Result<T, E> {
        let (mut kept, place) = self.take().await?;
        let answer = question(&mut kept).await?;
        if kept.is_spoilt {
            drop(kept.connection.detach());
            return Ok(answer);
        }
        kept.last_used = Instant::now();
        let mut list = self.list();
        // Looked at under the lock: nothing is kept behind a close.
        if !self.places.is_closed() {
            list.push(kept);
        }
        drop(list);
        drop(place);
        Ok(answer)
    }

    async fn take(&self) -> Result<(HotConnection, OwnedSemaphorePermit), sqlx::Error> {
        let place = tokio::time::timeout(limits::ACQUIRE, Arc::clone(&self.places).acquire_owned());
        let place = place.await.map_err(|_| sqlx::Error::PoolTimedOut)?.map_err(|_| sqlx::Error::PoolClosed)?;
        // The one that was used last: those that are not needed grow old, and are closed for it.
        while let Some(mut kept) = self.last() {
            if kept.born.elapsed() >= limits::LIFETIME {
                kept.connection.close().await.ok();
            } else if kept.last_used.elapsed() < limits::PING_AFTER_IDLE && !deaths::outlived(kept.born.elapsed())
                || matches!(tokio::time::timeout(limits::CONNECT, kept.connection.ping()).await, Ok(Ok(())))
            {
                return Ok((kept, place));
            }
        }
        let now = Instant::now();
        let connection = self.pool.acquire().await?;
        Ok((HotConnection { connection, born: now, last_used: now, is_spoilt: false }, place))
    }

    fn last(&self) -> Option<HotConnection> {
        self.list().pop()
    }

    fn list(&self) -> MutexGuard<'_, Vec<HotConnection>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes all connections, each when it is done with what it does.
    pub async fn close(&self) {
        {
            let mut list = self.list();
            self.places.close();
            list.clear();
        }
        self.pool.close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::test_database::TestDatabase;

    async fn process(connection: &mut HotConnection) -> Result<i32, sqlx::Error> {
        sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut **connection).await
    }

    #[tokio::test]
    async fn one_that_answered_is_asked_again_and_one_that_failed_or_was_left_is_looked_at() {
        let database = TestDatabase::new().await;
        let hot = Hot::new(database.options(), 2);
        let first = hot.ask(process).await.unwrap();
        assert_eq!(hot.ask(process).await.unwrap(), first);

        // Its backend is ended beneath it: the question fails, the next is answered.
        let ended = hot.ask(async |connection| {
            sqlx::query("SELECT pg_terminate_backend(pg_backend_pid())").execute(&mut **connection).await
        });
        assert!(ended.await.is_err());
        assert_ne!(hot.ask(process).await.unwrap(), first);

        let before = hot.ask(process).await.unwrap();
        let spoilt = hot.ask(async |connection| {
            connection.spoil();
            process(connection).await
        });
        assert_eq!(spoilt.await.unwrap(), before);
        assert_ne!(hot.ask(process).await.unwrap(), before);

        // Questions that nobody waits for any more hold no place.
        for _ in 0..4 {
            let slow = hot.ask(async |connection| sqlx::query("SELECT pg_sleep(0.5)").execute(&mut **connection).await);
            assert!(tokio::time::timeout(std::time::Duration::from_millis(50), slow).await.is_err());
        }
        let (one, two, three) = tokio::join!(hot.ask(process), hot.ask(process), hot.ask(process));
        assert!(one.is_ok() && two.is_ok() && three.is_ok(), "{one:?} {two:?} {three:?}");

        hot.close().await;
        assert!(matches!(hot.ask(process).await, Err(sqlx::Error::PoolClosed)));
    }
}
