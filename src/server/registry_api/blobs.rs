//! `NAME/blobs/DIGEST`

use super::app::RegistryApp;
use super::error::Fault;
use super::wire::{CONTENT_DIGEST, empty, put_headers};
use crate::registry::names::{Digest, Repository};
use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use std::io::{Seek as _, SeekFrom};
use tokio::io::AsyncReadExt as _;
use tokio_util::io::ReaderStream;

/// How much is read at once.
const PIECE: usize = 256 << 10;

/// What a `Range` asks for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Whole,
    /// From the first to the last byte, both among them.
    Part(u64, u64),
    Nothing,
}

/// Reads `Range` (RFC 9110, 14.2). Several ranges, and what is not understood, are answered with the whole.
fn asked(range: Option<&str>, bytes: u64) -> Asked {
    let Some((first, last)) = range
        .and_then(|range| range.trim().strip_prefix("bytes="))
        .filter(|range| !range.contains(','))
        .and_then(|range| range.split_once('-'))
    else {
        return Asked::Whole;
    };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let (first, last) = match (first.trim().is_empty(), number(first), last.trim().is_empty(), number(last)) {
        (true, _, _, Some(count)) => {
            (bytes.saturating_sub(count), if count == 0 { None } else { bytes.checked_sub(1) })
        }
        (false, Some(first), true, _) => (first, bytes.checked_sub(1)),
        (false, Some(first), false, Some(last)) if first <= last => {
            (first, bytes.checked_sub(1).map(|end| last.min(end)))
        }
        _ => return Asked::Whole,
    };
    match last {
        Some(last) if first <= last => Asked::Part(first, last),
        _ => Asked::Nothing,
    }
}

pub async fn get(app: &RegistryApp, name: Repository, digest: Digest, head: &Parts) -> Result<Response, Fault> {
    let wanted = digest.clone();
    let (mut file, bytes) = app.registry.on_disk(move |disk| disk.open_blob(&name, &wanted)).await?;
    let range = head.headers.get(header::RANGE).and_then(|range| range.to_str().ok());
    let (status, first, count) = match asked(range, bytes) {
        Asked::Whole => (StatusCode::OK, 0, bytes),
        Asked::Part(first, last) => (StatusCode::PARTIAL_CONTENT, first, last - first + 1),
        Asked::Nothing => {
            let fault =
                Fault::new(StatusCode::RANGE_NOT_SATISFIABLE, "SIZE_INVALID", format!("the blob has {bytes} bytes"));
            return Err(fault.header(header::CONTENT_RANGE, format!("bytes */{bytes}")));
        }
    };
    let mut headers = vec![
        (header::CONTENT_LENGTH, count.to_string()),
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (CONTENT_DIGEST, digest.to_string()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
        (header::ETAG, format!("\"{digest}\"")),
        (header::CACHE_CONTROL, "private, max-age=31536000".to_owned()),
    ];
    if status == StatusCode::PARTIAL_CONTENT {
        headers.push((header::CONTENT_RANGE, format!("bytes {first}-{}/{bytes}", first + count - 1)));
    }
    if head.method == Method::HEAD {
        return Ok(empty(status, headers));
    }
    if first > 0 {
        let seek = app.registry.on_disk(move |_| {
            file.seek(SeekFrom::Start(first)).map_err(crate::registry::at("reading content"))?;
            Ok(file)
        });
        file = seek.await?;
    }
    let content = ReaderStream::with_capacity(tokio::fs::File::from_std(file).take(count), PIECE);
    let mut response = (status, Body::from_stream(content)).into_response();
    put_headers(&mut response, headers);
    Ok(response)
}

pub async fn delete(app: &RegistryApp, name: Repository, digest: Digest) -> Result<Response, Fault> {
    app.registry.on_disk(move |disk| disk.delete_blob(&name, &digest)).await?;
    Ok(empty(StatusCode::ACCEPTED, []))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (range, bytes, want) in [
            (None, 10, Asked::Whole),
            (Some("bytes=0-3"), 10, Asked::Part(0, 3)),
            (Some("bytes=4-"), 10, Asked::Part(4, 9)),
            (Some("bytes=4-99"), 10, Asked::Part(4, 9)),
            (Some("bytes=-3"), 10, Asked::Part(7, 9)),
            (Some("bytes=-30"), 10, Asked::Part(0, 9)),
            (Some("bytes=-0"), 10, Asked::Nothing),
            (Some("bytes=10-"), 10, Asked::Nothing),
            (Some("bytes=0-"), 0, Asked::Nothing),
            (Some("bytes=3-1"), 10, Asked::Whole),
            (Some("bytes=0-1,4-5"), 10, Asked::Whole),
            (Some("lines=0-1"), 10, Asked::Whole),
        ] {
            assert_eq!(asked(range, bytes), want, "{range:?} of {bytes}");
        }
    }
}
