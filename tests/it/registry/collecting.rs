//! Garbage collection: what is named stays, whatever names it; the rest goes.

use super::service::{Answer, OCI_CONFIG, Service, descriptor};
use rapidclaw::registry::RegistrySettings;
use rapidclaw::registry::collect::Collected;
use rapidclaw::registry::manifest::{OCI_INDEX, OCI_MANIFEST};
use rapidclaw::registry::names::Digest;
use rapidclaw::store::releases::NewRelease;
use rapidclaw::store::rollouts::NewRollout;
use reqwest::Method;
use serde_json::json;
use std::collections::HashSet;
use std::time::Duration;

/// A registry in which nothing that is not named stays.
async fn impatient() -> Service {
    Service::with(|settings| RegistrySettings { grace: Duration::ZERO, ..settings }).await
}

async fn collect(service: &Service) -> Collected {
    let named = service.store.list_pushed(10).await.unwrap();
    let named: HashSet<Digest> = named.iter().filter_map(|digest| Digest::parse(digest)).collect();
    service.registry.collect(named).await.unwrap()
}

#[tokio::test]
async fn what_tags_and_releases_name_stays_and_the_rest_goes() {
    // given an image with a tag, one that a release names, and one that nobody names
    let service = impatient().await;
    let (tagged, tagged_digest) = service.push_image("a", "v1", b"tagged").await;
    let (released, released_digest) = service.push_image("rapidclaw/agent", "", b"released").await;
    let (lost, lost_digest) = service.push_image("a", "", b"lost").await;
    let agent = service.store.ensure_agent("agent").await.unwrap();
    let release = NewRelease {
        image: "sha256:image".into(),
        inputs_digest: "sha256:inputs".into(),
        manifest: json!({}),
        folder: String::new(),
        spec: json!({}),
        source_revision: None,
        copy_of: None,
        pushed: Some(released_digest.to_string()),
    };
    service.store.begin_rollout(agent.id, &release, NewRollout::default()).await.unwrap();
    // and a blob and an upload that were never named
    let stray = service.push_blob("b", b"stray").await;
    let upload = service.begin("b").await;
    service.chunk(&upload, 0, b"half").await.is(202);
    // when it is cleared away
    let collected = collect(&service).await;
    // then what is named is there, with its config and its layers
    for (name, manifest, digest) in [("a", &tagged, &tagged_digest), ("rapidclaw/agent", &released, &released_digest)] {
        service.get(&format!("/v2/{name}/manifests/{digest}")).await.is(200);
        for blob in [&manifest["config"]["digest"], &manifest["layers"][0]["digest"]] {
            service.get(&format!("/v2/{name}/blobs/{}", blob.as_str().unwrap())).await.is(200);
        }
    }
    // and the rest is not
    service.get(&format!("/v2/a/manifests/{lost_digest}")).await.refuses(404, "MANIFEST_UNKNOWN");
    service
        .get(&format!("/v2/a/blobs/{}", lost["layers"][0]["digest"].as_str().unwrap()))
        .await
        .refuses(404, "BLOB_UNKNOWN");
    service.get(&format!("/v2/b/blobs/{stray}")).await.refuses(404, "BLOB_UNKNOWN");
    service.get(&upload).await.refuses(404, "BLOB_UPLOAD_UNKNOWN");
    let freed = lost.to_string().len()
        + usize::try_from(lost["config"]["size"].as_u64().unwrap()).unwrap()
        + b"lost".len()
        + b"stray".len()
        + b"half".len();
    assert_eq!(collected, Collected { manifests: 1, blobs: 4, uploads: 1, bytes: freed as u64 });
    assert_eq!(collect(&service).await, Collected::default());
    assert!(!service.folder().join("repositories/b").exists());
    // and what a release names is not deleted by hand
    service.delete(&format!("/v2/rapidclaw/agent/manifests/{released_digest}")).await.refuses(403, "DENIED");
    // and the agent's end is its images' end
    service.store.remove_agent(&agent).await.unwrap();
    assert_eq!(collect(&service).await.manifests, 1);
}

#[tokio::test]
async fn what_a_kept_manifest_needs_or_is_signed_by_stays() {
    let service = impatient().await;
    let (child, child_digest) = service.push_image("a", "", b"layer").await;
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX,
        "manifests": [descriptor(OCI_MANIFEST, child.to_string().as_bytes())]});
    // With no grace the tag must be there before anything is cleared away: it is, in the same breath.
    service.put_manifest("a", "all", OCI_INDEX, &index).await.is(201);
    service.push_blob("a", b"{}").await;
    let signature = json!({"schemaVersion": 2, "config": descriptor(OCI_CONFIG, b"{}"), "layers": [],
        "subject": descriptor(OCI_INDEX, index.to_string().as_bytes())});
    let signature_digest = Digest::of(signature.to_string().as_bytes());
    service.put_manifest("a", &signature_digest.to_string(), OCI_MANIFEST, &signature).await.is(201);
    assert_eq!(collect(&service).await, Collected::default());
    for digest in [&child_digest, &signature_digest] {
        service.get(&format!("/v2/a/manifests/{digest}")).await.is(200);
    }
    // Without its tag all of it goes.
    service.delete("/v2/a/manifests/all").await.is(202);
    assert_eq!(collect(&service).await.manifests, 3);
    assert_eq!(service.get("/v2/_catalog").await.json(), json!({"repositories": []}));
}

#[tokio::test]
async fn what_a_push_is_about_to_name_stays() {
    // given a registry that waits, and a push whose manifest is still to come
    let service = Service::new().await;
    let layer = service.push_blob("a", b"layer").await;
    let upload = service.begin("a").await;
    let (_, untagged) = service.push_image("a", "", b"other").await;
    // when it is cleared away meanwhile
    assert_eq!(collect(&service).await, Collected::default());
    // then nothing is missing
    service.head(&format!("/v2/a/blobs/{layer}")).await.is(200);
    service.head(&format!("/v2/a/manifests/{untagged}")).await.is(200);
    service.chunk(&upload, 0, b"more").await.is(202);
    // and a blob that was about to go stays for whoever has just been told that it is there
    let path = service.folder().join("blobs/sha256").join(&layer.hex()[..2]).join(layer.hex());
    let link = service.folder().join("repositories/a/_blobs").join(layer.hex());
    let yesterday = std::time::SystemTime::now() - Duration::from_secs(86_400);
    for path in [&path, &link] {
        std::fs::File::open(path).unwrap().set_modified(yesterday).unwrap();
    }
    service.head(&format!("/v2/a/blobs/{layer}")).await.is(200);
    assert_eq!(collect(&service).await, Collected::default());
    for path in [&path, &link] {
        std::fs::File::open(path).unwrap().set_modified(yesterday).unwrap();
    }
    assert_eq!(collect(&service).await.blobs, 1);
    let mount = format!("/v2/b/blobs/uploads/?mount={layer}&from=a");
    Answer::of(service.ask(Method::POST, &mount)).await.is(202);
}

/// A push, and another that clears away all the while: no manifest is accepted whose blobs are gone.
#[tokio::test]
async fn pushes_and_collections_at_once_leave_whole_images() {
    let grace = Duration::from_millis(5);
    let service = Service::with(|settings| RegistrySettings { grace, ..settings }).await;
    let clearing = async {
        for _ in 0..60 {
            collect(&service).await;
        }
    };
    let pushing = async {
        let mut kept = Vec::new();
        for number in 0..30 {
            let (name, layer) = ("a", format!("layer {number}"));
            let layer = service.push_or_lose(name, &format!("v{number}"), layer.as_bytes()).await;
            kept.extend(layer);
        }
        kept
    };
    let ((), kept) = tokio::join!(clearing, pushing);
    for (tag, layer) in kept {
        service.get(&format!("/v2/a/manifests/{tag}")).await.is(200);
        service.get(&format!("/v2/a/blobs/{layer}")).await.is(200);
    }
}

impl Service {
    /// Pushes an image whose blobs may be taken away before the manifest names them.
    async fn push_or_lose(&self, name: &str, tag: &str, layer: &[u8]) -> Option<(String, Digest)> {
        let digest = self.push_blob(name, layer).await;
        self.push_blob(name, b"{}").await;
        let manifest = json!({"schemaVersion": 2, "config": descriptor(OCI_CONFIG, b"{}"),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", layer)]});
        match self.put_manifest(name, tag, OCI_MANIFEST, &manifest).await.status.as_u16() {
            201 => Some((tag.to_owned(), digest)),
            404 => None,
            other => panic!("{other}"),
        }
    }
}
