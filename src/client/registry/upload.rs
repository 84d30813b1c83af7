//! A blob on its way to a registry: small ones in one request, others in a stream that goes on where it
//! broke off.

use super::{ANSWER, PAUSE, RegistryClientError, RepositoryClient, TRIES};
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use reqwest::{Body, Method, Response, StatusCode, Url, header};
use std::io::SeekFrom;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::AsyncSeekExt as _;
use tokio_util::io::ReaderStream;

/// Blobs up to so many bytes go in one request.
const AT_ONCE: u64 = 1 << 20;
/// How long a stream may take; one that stands still ends by the registry's own patience.
const STREAM: Duration = Duration::from_secs(3_600);
/// How much of a file is read at once.
const PIECE: usize = 256 << 10;

/// Where a blob's bytes are.
#[derive(Debug, Clone)]
pub enum Content {
    /// Here.
    Bytes(Bytes),
    /// In a file.
    File(PathBuf),
}

/// A blob to push.
#[derive(Debug, Clone)]
pub struct Blob {
    /// `sha256:…`
    pub digest: String,
    /// Bytes.
    pub size: u64,
    /// Where they are.
    pub content: Content,
}

impl RepositoryClient {
    /// Pushes a blob; `sent` counts the bytes that have left.
    pub async fn push_blob(&self, blob: &Blob, sent: &Arc<AtomicU64>) -> Result<(), RegistryClientError> {
        if blob.size <= AT_ONCE {
            return self.push_at_once(blob, sent).await;
        }
        let before = sent.load(Ordering::Relaxed);
        let mut location = self.begin("").await?.0;
        let mut from = 0;
        let mut tries = 0;
        loop {
            match self.stream(&location, blob, from, sent).await {
                Ok(next) => {
                    location = next;
                    break;
                }
                Err(error) => {
                    tries += 1;
                    let range = matches!(&error, RegistryClientError::Refused { status: 416, .. });
                    if !(range || error.is_passing()) || tries == TRIES {
                        return Err(error);
                    }
                }
            }
            tokio::time::sleep(PAUSE * tries).await;
            (location, from) = match self.progress(&location).await {
                Ok(Some(place)) => place,
                // It has forgotten the upload, or never kept one: from the beginning.
                Ok(None) => (self.begin("").await?.0, 0),
                Err(error) if tries + 1 == TRIES => return Err(error),
                Err(_) => (location, from),
            };
            sent.store(before + from, Ordering::Relaxed);
        }
        self.finish(&location, &blob.digest, Bytes::new()).await
    }

    async fn push_at_once(&self, blob: &Blob, sent: &Arc<AtomicU64>) -> Result<(), RegistryClientError> {
        let bytes = match &blob.content {
            Content::Bytes(bytes) => bytes.clone(),
            Content::File(path) => tokio::fs::read(path).await.map_err(RegistryClientError::File)?.into(),
        };
        let url = self.url(&format!("blobs/uploads/?digest={}", blob.digest))?;
        let post = || {
            let request = self.http.post(url.clone()).header(header::CONTENT_TYPE, "application/octet-stream");
            request.timeout(ANSWER).body(bytes.clone())
        };
        let answer = self.send("taking a layer", &post).await?;
        match answer.status() {
            StatusCode::CREATED => {}
            // One that does not take it at once has begun an upload.
            StatusCode::ACCEPTED => {
                let location = self.location(&answer)?;
                self.finish(&location, &blob.digest, bytes).await?;
            }
            _ => return Err(self.refused("taking a layer", answer).await),
        }
        sent.fetch_add(blob.size, Ordering::Relaxed);
        Ok(())
    }

    async fn begin(&self, query: &str) -> Result<(Url, StatusCode), RegistryClientError> {
        let url = self.url(&format!("blobs/uploads/{query}"))?;
        let post = || self.http.post(url.clone()).timeout(ANSWER).header(header::CONTENT_LENGTH, 0);
        let answer = self.send("beginning an upload", &post).await?;
        let status = answer.status();
        if !status.is_success() {
            return Err(self.refused("beginning an upload", answer).await);
        }
        Ok((self.location(&answer)?, status))
    }

    /// The rest of a blob in one stream. Where to go on.
    async fn stream(
        &self,
        location: &Url,
        blob: &Blob,
        from: u64,
        sent: &Arc<AtomicU64>,
    ) -> Result<Url, RegistryClientError> {
        let count = |bytes: &Bytes, sent: &AtomicU64| {
            sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        };
        let body = match &blob.content {
            Content::Bytes(bytes) => {
                Body::from(bytes.slice(usize::try_from(from).unwrap_or(bytes.len()).min(bytes.len())..))
            }
            Content::File(path) => {
                let mut file = tokio::fs::File::open(path).await.map_err(RegistryClientError::File)?;
                file.seek(SeekFrom::Start(from)).await.map_err(RegistryClientError::File)?;
                let sent = Arc::clone(sent);
                let pieces = ReaderStream::with_capacity(file, PIECE);
                Body::wrap_stream(pieces.inspect_ok(move |bytes| count(bytes, &sent)))
            }
        };
        let mut request = self.http.patch(location.clone()).timeout(STREAM).body(body);
        request = request
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(header::CONTENT_LENGTH, blob.size - from);
        if from > 0 {
            request = request.header(header::CONTENT_RANGE, format!("{from}-{}", blob.size - 1));
        }
        // A stream is sent once: the request before it has logged in.
        let answer = self.with_login(request).send().await.map_err(|source| self.unreachable(source))?;
        if !answer.status().is_success() {
            return Err(self.refused("taking a layer", answer).await);
        }
        self.location(&answer)
    }

    /// Where an upload goes on; nothing where it is gone.
    async fn progress(&self, location: &Url) -> Result<Option<(Url, u64)>, RegistryClientError> {
        let ask = || self.http.request(Method::GET, location.clone()).timeout(ANSWER);
        let answer = self.send("saying how far an upload is", &ask).await?;
        if !answer.status().is_success() {
            return Ok(None);
        }
        let range = answer.headers().get(header::RANGE).and_then(|range| range.to_str().ok()).unwrap_or_default();
        let last: u64 = range.rsplit('-').next().and_then(|last| last.parse().ok()).unwrap_or(0);
        // `0-0` is one byte, or none: to begin again is right for both.
        if last == 0 { Ok(None) } else { Ok(Some((self.location(&answer).unwrap_or(location.clone()), last + 1))) }
    }

    async fn finish(&self, location: &Url, digest: &str, rest: Bytes) -> Result<(), RegistryClientError> {
        let mut url = location.clone();
        url.query_pairs_mut().append_pair("digest", digest);
        let put = || {
            let request = self.http.put(url.clone()).timeout(STREAM);
            request.header(header::CONTENT_TYPE, "application/octet-stream").body(rest.clone())
        };
        let answer = self.send("taking a layer", &put).await?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            // An answer was lost, and the request sent again: the upload has ended with the first.
            StatusCode::NOT_FOUND if self.find_blob(digest).await?.is_some() => Ok(()),
            _ => Err(self.refused("taking a layer", answer).await),
        }
    }

    fn location(&self, answer: &Response) -> Result<Url, RegistryClientError> {
        let location = answer.headers().get(header::LOCATION).and_then(|location| location.to_str().ok());
        let url = location.and_then(|location| answer.url().join(location).ok());
        let url = url.ok_or_else(|| self.strange("it does not say where the upload is"))?;
        // What is secret goes to no other host.
        if url.host_str() == self.base.host_str() && url.scheme() == self.base.scheme() {
            Ok(url)
        } else {
            Err(self.strange("its uploads are at another host"))
        }
    }
}
