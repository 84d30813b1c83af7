//! Builds on the server.

use super::{Client, ClientError, refused};
use crate::api::builds::{BuildCheck, BuildDone, BuildEvent, BuildFault, BuildRequest};
use crate::api::payload::{GZIP, NoQuery};
use crate::api::routes;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use reqwest::Body;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A server that builds says something at least this often, and takes some of what is sent.
const SILENCE: Duration = Duration::from_secs(60);
/// The longest line that is taken.
const LINE_BYTES: usize = 4 << 20;

impl Client {
    /// What the server has already of a build.
    pub async fn check_build(&self, agent: &str, request: &BuildRequest) -> Result<BuildCheck, ClientError> {
        self.send::<routes::CheckBuild>(agent.to_owned(), request).await
    }

    /// Has the server build what `archive` holds (`image::sent`); `sent` counts its bytes, `each` hears what goes on.
    pub async fn build(
        &self,
        agent: &str,
        archive: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        sent: &Arc<AtomicU64>,
        mut each: impl FnMut(BuildEvent),
    ) -> Result<Result<BuildDone, BuildFault>, ClientError> {
        let unreachable =
            |error: reqwest::Error| ClientError::Unreachable { server: self.server.clone(), source: error.into() };
        let count = Arc::clone(sent);
        let archive = archive.inspect(move |piece| {
            let bytes = piece.as_ref().map_or(0, Bytes::len);
            count.fetch_add(bytes as u64, Ordering::Relaxed);
        });
        let request = self.request::<routes::BuildImage>(&agent.to_owned(), &NoQuery {});
        let request = request.header("content-type", GZIP).body(Body::wrap_stream(archive));
        let mut response = tokio::select! {
            answer = request.send() => answer.map_err(unreachable)?,
            () = stands_still(sent) => return Err(self.silent()),
        };
        self.check_version(&response)?;
        if !response.status().is_success() {
            let status = response.status();
            return Err(refused(status, &response.bytes().await.map_err(unreachable)?));
        }
        let mut open: Vec<u8> = Vec::new();
        loop {
            let chunk = tokio::time::timeout(SILENCE, response.chunk()).await.map_err(|_| self.silent())?;
            let Some(chunk) = chunk.map_err(unreachable)? else { return Err(self.broken_off()) };
            open.extend_from_slice(&chunk);
            while let Some(end) = open.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = open.drain(..=end).collect();
                if line.len() == 1 {
                    continue;
                }
                let event = serde_json::from_slice(&line);
                match event.map_err(|source| ClientError::Answer { status: 200, source })? {
                    BuildEvent::Done(done) => return Ok(Ok(done)),
                    BuildEvent::Failed(fault) => return Ok(Err(fault)),
                    event => each(event),
                }
            }
            if open.len() > LINE_BYTES {
                return Err(ClientError::LongLine(LINE_BYTES >> 20));
            }
        }
    }

    fn silent(&self) -> ClientError {
        ClientError::Silent { server: self.server.clone(), seconds: SILENCE.as_secs() }
    }

    fn broken_off(&self) -> ClientError {
        ClientError::BrokenOff(self.server.clone())
    }
}

/// Returns when nothing more has been taken for long.
async fn stands_still(sent: &AtomicU64) {
    let mut before = None;
    loop {
        let now = sent.load(Ordering::Relaxed);
        if before.replace(now) == Some(now) {
            return;
        }
        tokio::time::sleep(SILENCE).await;
    }
}
