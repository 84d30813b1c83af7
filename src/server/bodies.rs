//! Bodies of requests: read once their sender is known, within time, and within shares of the server's memory.

use super::connections::Owner;
use super::error::ApiError;
use crate::api::problem::Problem;
use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long the next piece of a body may take.
const SILENCE: Duration = Duration::from_secs(20);
/// How long a whole body may take.
const WHOLE: Duration = Duration::from_mins(2);
/// Bytes of bodies in memory: of one owner, and of all.
const OWNER_BYTES: usize = 64 << 20;
const ALL_BYTES: usize = 256 << 20;

/// Reads bodies, and counts the bytes of them that are in memory. Clones are the same.
#[derive(Debug, Clone)]
pub struct Bodies {
    silence: Duration,
    whole: Duration,
    count: Arc<Mutex<Count>>,
}

impl Default for Bodies {
    fn default() -> Self {
        Self { silence: SILENCE, whole: WHOLE, count: Arc::default() }
    }
}

#[derive(Debug, Default)]
struct Count {
    all: usize,
    owners: HashMap<Owner, usize>,
}

/// Bytes that a request holds until it is dropped.
#[derive(Debug)]
pub struct Held {
    bodies: Bodies,
    owner: Owner,
    bytes: usize,
}

impl Bodies {
    /// Reads a body of at most `limit` bytes.
    pub async fn read(
        &self,
        owner: &Owner,
        headers: &HeaderMap,
        mut body: Body,
        limit: usize,
    ) -> Result<(Bytes, Held), ApiError> {
        let declared =
            headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if declared.is_some_and(|declared| declared > limit) {
            return Err(too_large(limit));
        }
        let mut held = Held { bodies: self.clone(), owner: owner.clone(), bytes: 0 };
        let (mut bytes, deadline) = (BytesMut::new(), Instant::now() + self.whole);
        loop {
            let next = tokio::time::timeout(
                self.silence.min(deadline.saturating_duration_since(Instant::now())),
                body.frame(),
            );
            let Ok(next) = next.await else {
                return Err(ApiError::new(
                    Problem::new(408, "body-timeout", "the body did not come in time")
                        .detail(format!("{} bytes of it came", bytes.len())),
                ));
            };
            let frame = match next {
                None => return Ok((bytes.freeze(), held)),
                Some(Ok(frame)) => frame,
                Some(Err(_)) => {
                    return Err(ApiError::new(Problem::new(400, "body-unreadable", "the body could not be read")));
                }
            };
            let Ok(piece) = frame.into_data() else { continue };
            if bytes.len() + piece.len() > limit {
                return Err(too_large(limit));
            }
            held.add(piece.len())?;
            bytes.extend_from_slice(&piece);
        }
    }
}

impl Held {
    fn add(&mut self, bytes: usize) -> Result<(), ApiError> {
        let mut count = self.bodies.count.lock().unwrap_or_else(PoisonError::into_inner);
        let own = count.owners.get(&self.owner).copied().unwrap_or_default();
        if own + bytes > OWNER_BYTES {
            let detail = format!("requests under way hold {} MiB, which is the most", OWNER_BYTES >> 20);
            return Err(ApiError::new(
                Problem::new(429, "too-many-bytes", "too much is being sent at once").detail(detail),
            ));
        }
        if count.all + bytes > ALL_BYTES {
            return Err(ApiError::new(Problem::new(
                503,
                "server-busy",
                "the server has too many large requests at once",
            )));
        }
        count.all += bytes;
        *count.owners.entry(self.owner.clone()).or_default() += bytes;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut count = self.bodies.count.lock().unwrap_or_else(PoisonError::into_inner);
        count.all -= self.bytes;
        if let Some(own) = count.owners.get_mut(&self.owner) {
            *own -= self.bytes;
            if *own == 0 {
                count.owners.remove(&self.owner);
            }
        }
    }
}

fn too_large(limit: usize) -> ApiError {
    let detail = format!("a body may have {} MiB here", limit >> 20);
    ApiError::new(Problem::new(413, "body-too-large", "the body is too large").detail(detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{StreamExt as _, stream};

    const LIMIT: usize = 16 << 20;

    fn owner(name: &str) -> Owner {
        Owner::Token(name.to_owned())
    }

    fn of(bytes: usize) -> Body {
        Body::from_stream(stream::iter([bytes / 2, bytes - bytes / 2]).map(|n| Ok::<_, std::io::Error>(vec![b' '; n])))
    }

    async fn read(bodies: &Bodies, name: &str, body: Body) -> Result<Held, (u16, String)> {
        let read = bodies.read(&owner(name), &HeaderMap::new(), body, LIMIT).await;
        read.map(|(_, held)| held).map_err(|error| (error.0.status, error.0.code.clone()))
    }

    #[tokio::test]
    async fn an_owner_has_its_share_all_have_one_and_both_come_back() {
        let bodies = Bodies::default();
        assert_eq!(read(&bodies, "ann", of(LIMIT + 1)).await.unwrap_err(), (413, "body-too-large".into()));
        let mut held = Vec::new();
        for n in 0..4 {
            for _ in 0..4 {
                held.push(read(&bodies, &format!("b{n}"), of(LIMIT)).await.unwrap());
            }
            let more = read(&bodies, &format!("b{n}"), of(2)).await;
            assert_eq!(more.unwrap_err().0, 429);
        }
        assert_eq!(read(&bodies, "ann", of(2)).await.unwrap_err(), (503, "server-busy".into()));
        drop(held);
        read(&bodies, "ann", of(LIMIT)).await.unwrap();
        assert!(bodies.count.lock().unwrap().owners.is_empty() && bodies.count.lock().unwrap().all == 0);
    }

    #[tokio::test]
    async fn a_length_that_is_too_large_is_refused_before_a_byte_is_read() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_LENGTH, (LIMIT + 1).into());
        let body = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        let refused = Bodies::default().read(&owner("ann"), &headers, body, LIMIT).await.unwrap_err();
        assert_eq!((refused.0.status, refused.0.detail.as_str()), (413, "a body may have 16 MiB here"));
    }

    #[tokio::test]
    async fn a_body_that_drips_has_an_end() {
        let (short, long) = (Duration::from_millis(20), Duration::from_secs(60));
        let silent = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        let bodies = Bodies { silence: short, whole: long, ..Bodies::default() };
        assert_eq!(read(&bodies, "ann", silent).await.unwrap_err().0, 408);
        let drip = stream::repeat(()).then(async |()| {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Ok::<_, std::io::Error>(vec![b' '])
        });
        let bodies = Bodies { silence: long, whole: short * 5, ..Bodies::default() };
        assert_eq!(read(&bodies, "ann", Body::from_stream(Box::pin(drip))).await.unwrap_err().0, 408);
        assert_eq!(bodies.count.lock().unwrap().all, 0);
    }
}
