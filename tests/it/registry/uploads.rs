//! Blobs on their way in and out.

use super::service::{Answer, Service};
use crate::machine::walk;
use bytes::Bytes;
use futures_util::stream;
use rapidclaw::registry::RegistrySettings;
use rapidclaw::registry::names::Digest;
use reqwest::{Body, Method};
use std::io;
use std::time::Duration;
use tokio::time::Instant;

/// Bytes that are nowhere twice.
fn content(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| u8::try_from(at * 31 % 251).unwrap()).collect()
}

/// A body that breaks off after these bytes.
fn broken(bytes: &[u8]) -> Body {
    let parts = [Ok(Bytes::copy_from_slice(bytes)), Err(io::Error::other("gone"))];
    // The second part comes once the first is on its way.
    let parts = stream::unfold(parts.into_iter().enumerate(), async |mut parts| {
        let (number, part) = parts.next()?;
        if number > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Some((part, parts))
    });
    Body::wrap_stream(parts)
}

/// Asks until so many bytes have come.
async fn received(service: &Service, location: &str, bytes: usize) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let answer = service.get(location).await.is(204);
        if answer.header("range") == format!("0-{}", bytes - 1) {
            return;
        }
        assert!(Instant::now() < deadline, "{answer:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_blob_comes_whole_and_is_read_whole_and_in_parts() {
    // given a blob, pushed in one request
    let service = Service::new().await;
    let bytes = content(1000);
    let digest = service.push_blob("a/b", &bytes).await;
    let path = format!("/v2/a/b/blobs/{digest}");
    // when it is asked for
    let whole = service.get(&path).await.is(200);
    let head = service.head(&path).await.is(200);
    // then it comes as it went, with its size and its digest
    assert_eq!(whole.body, bytes);
    for answer in [&whole, &head] {
        assert_eq!(answer.header("content-length"), "1000");
        assert_eq!(answer.header("docker-content-digest"), digest.to_string());
    }
    // and in parts
    let part = Answer::of(service.ask(Method::GET, &path).header("range", "bytes=10-19")).await.is(206);
    assert_eq!((part.body.as_slice(), part.header("content-range")), (&bytes[10..20], "bytes 10-19/1000"));
    let rest = Answer::of(service.ask(Method::GET, &path).header("range", "bytes=-5")).await.is(206);
    assert_eq!(rest.body, &bytes[995..]);
    Answer::of(service.ask(Method::GET, &path).header("range", "bytes=1000-")).await.refuses(416, "SIZE_INVALID");
    // and not in another repository, and not under another digest
    service.get(&format!("/v2/b/blobs/{digest}")).await.refuses(404, "BLOB_UNKNOWN");
    service.head(&format!("/v2/a/b/blobs/{}", Digest::of(b"other"))).await.is(404);
}

#[tokio::test]
async fn a_blob_comes_by_post_and_put() {
    let service = Service::new().await;
    let bytes = content(70_000);
    let location = service.begin("a").await;
    let put = format!("{location}?digest={}", Digest::of(&bytes));
    let answer = Answer::of(service.ask(Method::PUT, &put).body(bytes.clone())).await.is(201);
    assert_eq!(service.get(answer.header("location")).await.is(200).body, bytes);
    // An upload that has ended is none any more.
    service.get(&location).await.refuses(404, "BLOB_UPLOAD_UNKNOWN");
}

#[tokio::test]
async fn chunks_come_in_order_or_are_refused() {
    let service = Service::new().await;
    let bytes = content(300);
    let location = service.begin("a").await;
    let first = service.chunk(&location, 0, &bytes[..100]).await.is(202);
    assert_eq!((first.header("range"), first.header("location")), ("0-99", location.as_str()));
    // when a chunk leaves a gap, or comes twice
    for begin in [150, 0] {
        let refused = service.chunk(&location, begin, &bytes[begin..begin + 50]).await;
        // then the answer says where to go on
        let refused = refused.refuses(416, "BLOB_UPLOAD_INVALID");
        assert_eq!((refused.header("range"), refused.header("location")), ("0-99", location.as_str()));
    }
    // and a chunk that has not the size it says changes nothing
    let lies = service.ask(Method::PATCH, &location).header("content-range", "100-149").body(bytes[100..200].to_vec());
    Answer::of(lies).await.refuses(400, "SIZE_INVALID");
    let nonsense = service.ask(Method::PATCH, &location).header("content-range", "x").body("y");
    Answer::of(nonsense).await.refuses(400, "BLOB_UPLOAD_INVALID");
    assert_eq!(service.get(&location).await.is(204).header("range"), "0-99");
    // and one without a range goes behind what has come, as Docker sends it
    let stream = service.ask(Method::PATCH, &location).body(bytes[100..200].to_vec());
    assert_eq!(Answer::of(stream).await.is(202).header("range"), "0-199");
    // and the last one comes with the digest
    let digest = Digest::of(&bytes);
    let put = service.ask(Method::PUT, &format!("{location}?digest={digest}")).header("content-range", "200-299");
    Answer::of(put.body(bytes[200..].to_vec())).await.is(201);
    assert_eq!(service.get(&format!("/v2/a/blobs/{digest}")).await.is(200).body, bytes);
}

#[tokio::test]
async fn content_of_another_digest_is_refused_and_kept_nowhere() {
    let service = Service::new().await;
    let digest = Digest::of(b"what was meant");
    let location = service.begin("a").await;
    service.chunk(&location, 0, b"what came").await.is(202);
    let put = format!("{location}?digest={digest}");
    Answer::of(service.ask(Method::PUT, &put)).await.refuses(400, "DIGEST_INVALID");
    service.get(&location).await.refuses(404, "BLOB_UPLOAD_UNKNOWN");
    let at_once = format!("/v2/a/blobs/uploads/?digest={digest}");
    Answer::of(service.ask(Method::POST, &at_once).body("what came")).await.refuses(400, "DIGEST_INVALID");
    service.get(&format!("/v2/a/blobs/{digest}")).await.refuses(404, "BLOB_UNKNOWN");
    service.get(&format!("/v2/a/blobs/{}", Digest::of(b"what came"))).await.refuses(404, "BLOB_UNKNOWN");
    // A digest that is none, or none that is kept here.
    let open = service.begin("a").await;
    for wrong in ["", "?digest=", "?digest=sha256:12", "?digest=md5:d41d8cd98f00b204e9800998ecf8427e"] {
        Answer::of(service.ask(Method::PUT, &format!("{open}{wrong}"))).await.refuses(400, "DIGEST_INVALID");
    }
}

#[tokio::test]
async fn an_upload_that_broke_off_goes_on_from_there() {
    // given an upload whose client goes away in the midst of a chunk
    let service = Service::new().await;
    let bytes = content(500_000);
    let location = service.begin("a").await;
    assert!(service.ask(Method::PATCH, &location).body(broken(&bytes[..200_000])).send().await.is_err());
    // when it comes back, it learns how far it is
    received(&service, &location, 200_000).await;
    // then it goes on, and the blob is whole
    service.chunk(&location, 200_000, &bytes[200_000..]).await.is(202);
    let digest = Digest::of(&bytes);
    Answer::of(service.ask(Method::PUT, &format!("{location}?digest={digest}"))).await.is(201);
    assert_eq!(service.get(&format!("/v2/a/blobs/{digest}")).await.is(200).body, bytes);
}

#[tokio::test]
async fn an_upload_outlives_the_process() {
    // given an upload, half of it sent
    let mut service = Service::new().await;
    let bytes = content(500_000);
    let location = service.begin("a/b").await;
    service.chunk(&location, 0, &bytes[..123_456]).await.is(202);
    // when another process answers, which knows nothing but the folder
    service.restart().await;
    // then the upload goes on where it was
    assert_eq!(service.get(&location).await.is(204).header("range"), "0-123455");
    service.chunk(&location, 123_456, &bytes[123_456..400_000]).await.is(202);
    service.restart().await;
    let digest = Digest::of(&bytes);
    let put = service.ask(Method::PUT, &format!("{location}?digest={digest}")).body(bytes[400_000..].to_vec());
    Answer::of(put).await.is(201);
    assert_eq!(service.get(&format!("/v2/a/b/blobs/{digest}")).await.is(200).body, bytes);
}

#[tokio::test]
async fn who_comes_back_takes_over_from_the_request_that_hangs() {
    // given a request that sends some bytes and then nothing, over a connection that stays open
    let service = Service::new().await;
    let location = service.begin("a").await;
    let parts = stream::unfold(true, async |first| {
        if !first {
            std::future::pending::<()>().await;
        }
        Some((Ok::<_, io::Error>(Bytes::from_static(b"begin ")), false))
    });
    let hanging = tokio::spawn(service.ask(Method::PATCH, &location).body(Body::wrap_stream(parts)).send());
    received(&service, &location, 6).await;
    // when the client comes again over another
    service.chunk(&location, 6, b"end").await.is(202);
    // then the first has ended
    let ended = hanging.await.unwrap();
    assert!(ended.is_err() || ended.is_ok_and(|answer| answer.status() == 400));
    let digest = Digest::of(b"begin end");
    Answer::of(service.ask(Method::PUT, &format!("{location}?digest={digest}"))).await.is(201);
}

#[tokio::test]
async fn an_upload_that_is_given_up_is_gone() {
    let service = Service::new().await;
    let location = service.begin("a").await;
    service.chunk(&location, 0, b"some").await.is(202);
    service.delete(&location).await.is(204);
    for answer in
        [service.get(&location).await, service.delete(&location).await, service.chunk(&location, 4, b"more").await]
    {
        answer.refuses(404, "BLOB_UPLOAD_UNKNOWN");
    }
    // nor does it belong to another repository
    let location = service.begin("a").await;
    service.get(&location.replace("/a/", "/b/")).await.refuses(404, "BLOB_UPLOAD_UNKNOWN");
}

#[tokio::test]
async fn a_blob_is_mounted_from_another_repository() {
    let service = Service::new().await;
    let digest = service.push_blob("a", b"shared").await;
    let path = format!("/v2/b/blobs/uploads/?mount={digest}&from=a");
    let mounted = Answer::of(service.ask(Method::POST, &path)).await.is(201);
    assert_eq!(mounted.header("location"), format!("/v2/b/blobs/{digest}"));
    assert_eq!(service.get(&format!("/v2/b/blobs/{digest}")).await.is(200).body, b"shared");
    // What cannot be mounted is uploaded.
    for query in
        [format!("mount={}&from=a", Digest::of(b"x")), format!("mount={digest}&from=none"), format!("mount={digest}")]
    {
        let path = format!("/v2/c/blobs/uploads/?{query}");
        let answer = Answer::of(service.ask(Method::POST, &path)).await.is(202);
        assert!(answer.header("location").starts_with("/v2/c/blobs/uploads/"));
    }
}

#[tokio::test]
async fn the_same_blob_comes_from_many_at_once() {
    let service = Service::new().await;
    let bytes = content(2_000_000);
    let pushes = (0..8).map(|number| {
        let (service, bytes) = (&service, &bytes);
        async move { service.push_blob(&format!("r{}", number % 2), bytes).await }
    });
    let digests = futures_util::future::join_all(pushes).await;
    for name in ["r0", "r1"] {
        assert_eq!(service.get(&format!("/v2/{name}/blobs/{}", digests[0])).await.is(200).body, bytes);
    }
    // One content is kept, and nothing is left over.
    let files = walk(service.folder());
    assert_eq!(files.iter().filter(|(_, bytes)| *bytes == 2_000_000).count(), 1, "{files:?}");
    assert!(files.iter().all(|(path, _)| !path.contains("_uploads")), "{files:?}");
}

#[tokio::test]
async fn a_full_disk_is_said_and_what_came_before_stays() {
    // given a disk of 2 MiB
    let disk = tempfile::tempdir().unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
        .arg(disk.path())
        .output()
        .unwrap();
    assert!(mounted.status.success(), "this test mounts a small disk: run it as root ({mounted:?})");
    let folder = disk.path().join("registry");
    let service = Service::with(|settings| RegistrySettings { folder: folder.clone(), ..settings }).await;
    let small = service.push_blob("a", &content(500_000)).await;
    // when more comes than it holds, whether it says so or not
    let large = content(3_000_000);
    let path = format!("/v2/a/blobs/uploads/?digest={}", Digest::of(&large));
    let said = Answer::of(service.ask(Method::POST, &path).body(large.clone())).await;
    said.refuses(507, "UNAVAILABLE");
    let location = service.begin("a").await;
    let silent = Body::wrap_stream(stream::iter(
        large.chunks(100_000).map(|part| Ok::<_, io::Error>(part.to_vec())).collect::<Vec<_>>(),
    ));
    let answer = service.ask(Method::PATCH, &location).body(silent).send().await;
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status() == 507));
    // then what fits goes on to fit, and what came before is whole
    service.delete(&location).await.is(204);
    service.get(&format!("/v2/a/blobs/{}", Digest::of(&large))).await.refuses(404, "BLOB_UNKNOWN");
    assert_eq!(service.get(&format!("/v2/a/blobs/{small}")).await.is(200).body, content(500_000));
    service.push_blob("a", b"a little").await;
    drop(service);
    let unmounted = std::process::Command::new("umount").arg("-l").arg(disk.path()).status().unwrap();
    assert!(unmounted.success());
}

/// Postgres lives on the same disk.
#[tokio::test]
async fn uploads_leave_the_disk_its_reserve() {
    let service = Service::with(|settings| RegistrySettings { reserve_bytes: u64::MAX, ..settings }).await;
    let path = format!("/v2/a/blobs/uploads/?digest={}", Digest::of(b"x"));
    Answer::of(service.ask(Method::POST, &path).body("x")).await.refuses(507, "UNAVAILABLE");
}

#[tokio::test]
async fn a_blob_is_deleted() {
    let service = Service::new().await;
    let digest = service.push_blob("a", b"content").await;
    let path = format!("/v2/a/blobs/{digest}");
    service.delete(&path).await.is(202);
    service.get(&path).await.refuses(404, "BLOB_UNKNOWN");
    service.delete(&path).await.refuses(404, "BLOB_UNKNOWN");
    // One that a manifest refers to stays.
    let (manifest, _) = service.push_image("a", "latest", b"layer").await;
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    service.delete(&format!("/v2/a/blobs/{layer}")).await.refuses(403, "DENIED");
}
