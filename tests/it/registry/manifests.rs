//! Manifests, tags, the catalogue, referrers.

use super::service::{Answer, OCI_CONFIG, Service, descriptor};
use rapidclaw::registry::manifest::{DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
use rapidclaw::registry::names::Digest;
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn images_of_both_kinds_are_kept_as_they_came() {
    let service = Service::new().await;
    service.push_blob("a", b"{}").await;
    service.push_blob("a", b"layer").await;
    for (kind, layer) in [
        (OCI_MANIFEST, "application/vnd.oci.image.layer.v1.tar"),
        (DOCKER_MANIFEST, "application/vnd.docker.image.rootfs.diff.tar.gzip"),
    ] {
        // given a manifest with blanks and an order of its own
        let manifest = json!({"layers": [descriptor(layer, b"layer")], "config": descriptor(OCI_CONFIG, b"{}"),
            "mediaType": kind, "schemaVersion": 2});
        let text = format!(" {manifest:#}\n");
        let digest = Digest::of(text.as_bytes());
        // when it is put
        let put = service.ask(Method::PUT, "/v2/a/manifests/v1").header("content-type", kind).body(text.clone());
        let put = Answer::of(put).await.is(201);
        assert_eq!(put.header("docker-content-digest"), digest.to_string());
        // then it is there by its tag, by its digest and where the answer says, byte by byte
        let location = put.header("location").to_owned();
        for path in ["/v2/a/manifests/v1".to_owned(), format!("/v2/a/manifests/{digest}"), location] {
            let (got, head) = (service.get(&path).await.is(200), service.head(&path).await.is(200));
            assert_eq!(got.body, text.as_bytes());
            for answer in [got, head] {
                assert_eq!(answer.header("content-type"), kind);
                assert_eq!(answer.header("content-length"), text.len().to_string());
                assert_eq!(answer.header("docker-content-digest"), digest.to_string());
            }
        }
    }
    service.get("/v2/a/manifests/v2").await.refuses(404, "MANIFEST_UNKNOWN");
    service.get("/v2/b/manifests/v1").await.refuses(404, "MANIFEST_UNKNOWN");
    service.head(&format!("/v2/a/manifests/{}", Digest::of(b"none"))).await.is(404);
}

#[tokio::test]
async fn indexes_of_both_kinds_hold_what_is_there() {
    let service = Service::new().await;
    let (child, digest) = service.push_image("a", "", b"layer").await;
    for (tag, kind) in [("oci", OCI_INDEX), ("docker", DOCKER_LIST)] {
        let index = json!({"schemaVersion": 2, "mediaType": kind,
            "manifests": [descriptor(OCI_MANIFEST, child.to_string().as_bytes())]});
        service.put_manifest("a", tag, kind, &index).await.is(201);
        assert_eq!(service.get(&format!("/v2/a/manifests/{tag}")).await.is(200).header("content-type"), kind);
        let missing = json!({"schemaVersion": 2, "manifests": [descriptor(OCI_MANIFEST, b"missing")]});
        service.put_manifest("a", "bad", kind, &missing).await.refuses(404, "MANIFEST_BLOB_UNKNOWN");
    }
    service.get(&format!("/v2/a/manifests/{digest}")).await.is(200);
}

#[tokio::test]
async fn what_is_no_manifest_is_refused() {
    let service = Service::new().await;
    service.push_blob("a", b"{}").await;
    let config = descriptor(OCI_CONFIG, b"{}");
    let layer = descriptor("application/vnd.oci.image.layer.v1.tar", b"missing");
    let good = json!({"schemaVersion": 2, "config": config, "layers": []});
    // a blob that is not there
    let missing = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
    let refused = service.put_manifest("a", "v1", OCI_MANIFEST, &missing).await.refuses(404, "MANIFEST_BLOB_UNKNOWN");
    assert_eq!(refused.json()["errors"][0]["detail"]["digest"], Digest::of(b"missing").to_string());
    // one that lies elsewhere need not be
    let mut far = missing.clone();
    far["layers"][0]["urls"] = json!(["https://far.example/layer"]);
    service.put_manifest("a", "far", OCI_MANIFEST, &far).await.is(201);
    // no manifest, another kind, another digest, too large
    service.put_manifest("a", "v1", OCI_MANIFEST, &json!("x")).await.refuses(400, "MANIFEST_INVALID");
    service.put_manifest("a", "v1", "text/plain", &good).await.refuses(400, "MANIFEST_INVALID");
    service.put_manifest("a", "v1", OCI_INDEX, &good).await.refuses(400, "MANIFEST_INVALID");
    let other = Digest::of(b"other").to_string();
    service.put_manifest("a", &other, OCI_MANIFEST, &good).await.refuses(400, "DIGEST_INVALID");
    service.get("/v2/a/manifests/v1").await.refuses(404, "MANIFEST_UNKNOWN");
    let mut padded = good.clone();
    padded["annotations"] = json!({"long": "x".repeat(4 << 20)});
    let chunked = padded.to_string().into_bytes();
    let parts: Vec<_> = chunked.chunks(1 << 20).map(|part| Ok::<_, std::io::Error>(part.to_vec())).collect();
    let chunked = reqwest::Body::wrap_stream(futures_util::stream::iter(parts));
    service.put_manifest("a", "v1", OCI_MANIFEST, &padded).await.refuses(413, "SIZE_INVALID");
    let request = service.ask(Method::PUT, "/v2/a/manifests/v1").header("content-type", OCI_MANIFEST).body(chunked);
    Answer::of(request).await.refuses(413, "SIZE_INVALID");
    // and 4 MiB just fit
    padded["annotations"]["long"] = json!("");
    let room = (4 << 20) - padded.to_string().len();
    padded["annotations"]["long"] = json!("x".repeat(room));
    service.put_manifest("a", "large", OCI_MANIFEST, &padded).await.is(201);
    assert_eq!(service.get("/v2/a/manifests/large").await.is(200).body.len(), 4 << 20);
}

#[tokio::test]
async fn tags_are_sorted_and_come_in_pages() {
    let service = Service::new().await;
    service.get("/v2/a/tags/list").await.refuses(404, "NAME_UNKNOWN");
    for tag in ["v2", "v10", "Latest", "v1"] {
        service.push_image("a", tag, b"layer").await;
    }
    let all = service.get("/v2/a/tags/list").await.is(200);
    assert_eq!(all.json(), json!({"name": "a", "tags": ["Latest", "v1", "v10", "v2"]}));
    assert_eq!(all.find_header("link"), None);
    // when they are asked for in pages, each says where the next is
    let mut seen: Vec<Value> = Vec::new();
    let mut path = "/v2/a/tags/list?n=3".to_owned();
    loop {
        let page = service.get(&path).await.is(200);
        seen.extend(page.json()["tags"].as_array().unwrap().clone());
        let Some(link) = page.find_header("link") else { break };
        let (next, relation) = link.strip_prefix('<').unwrap().split_once('>').unwrap();
        assert_eq!((next, relation), ("/v2/a/tags/list?n=3&last=v10", "; rel=\"next\""));
        next.clone_into(&mut path);
    }
    assert_eq!(seen, ["Latest", "v1", "v10", "v2"]);
    assert_eq!(service.get("/v2/a/tags/list?n=0").await.is(200).json()["tags"], json!([]));
    assert_eq!(service.get("/v2/a/tags/list?last=v1").await.is(200).json()["tags"], json!(["v10", "v2"]));
    service.get("/v2/a/tags/list?n=x").await.refuses(400, "PAGINATION_NUMBER_INVALID");
}

#[tokio::test]
async fn the_catalogue_names_all_repositories_that_hold_something() {
    let service = Service::new().await;
    assert_eq!(service.get("/v2/_catalog").await.is(200).json(), json!({"repositories": []}));
    for name in ["b", "a/b/c", "a"] {
        service.push_image(name, "v1", b"layer").await;
    }
    service.begin("only-an-upload").await;
    assert_eq!(service.get("/v2/_catalog").await.is(200).json(), json!({"repositories": ["a", "a/b/c", "b"]}));
    let page = service.get("/v2/_catalog?n=2").await.is(200);
    assert_eq!(page.header("link"), "</v2/_catalog?n=2&last=a/b/c>; rel=\"next\"");
    assert_eq!(service.get("/v2/_catalog?n=2&last=a/b/c").await.is(200).json(), json!({"repositories": ["b"]}));
}

#[tokio::test]
async fn manifests_and_tags_are_deleted() {
    let service = Service::new().await;
    let (_, digest) = service.push_image("a", "v1", b"layer").await;
    service.push_image("a", "v2", b"layer").await;
    // A tag goes alone,
    service.delete("/v2/a/manifests/v1").await.is(202);
    service.get("/v2/a/manifests/v1").await.refuses(404, "MANIFEST_UNKNOWN");
    service.get(&format!("/v2/a/manifests/{digest}")).await.is(200);
    // a manifest with its tags.
    service.delete(&format!("/v2/a/manifests/{digest}")).await.is(202);
    service.get("/v2/a/manifests/v2").await.refuses(404, "MANIFEST_UNKNOWN");
    assert_eq!(service.get("/v2/a/tags/list").await.is(200).json()["tags"], json!([]));
    service.delete(&format!("/v2/a/manifests/{digest}")).await.refuses(404, "MANIFEST_UNKNOWN");
    service.delete("/v2/a/manifests/v1").await.refuses(404, "MANIFEST_UNKNOWN");
}

#[tokio::test]
async fn what_is_about_a_manifest_is_listed_with_it() {
    let service = Service::new().await;
    let (image, digest) = service.push_image("a", "v1", b"layer").await;
    let path = format!("/v2/a/referrers/{digest}");
    // given nothing about it: an empty index
    let none = service.get(&path).await.is(200);
    assert_eq!((none.header("content-type"), none.json()["manifests"].clone()), (OCI_INDEX, json!([])));
    // when a signature and a bill of materials come
    service.push_blob("a", b"{}").await;
    let about = |kind: &str, config: &str| {
        json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": kind, "config": descriptor(config, b"{}"),
            "layers": [], "subject": descriptor(OCI_MANIFEST, image.to_string().as_bytes()), "annotations": {"by": "ann"}})
    };
    let signature = about("example/signature", "application/vnd.oci.empty.v1+json");
    let mut bill = about("", "example/bill");
    bill.as_object_mut().unwrap().remove("artifactType");
    for one in [&signature, &bill] {
        let reference = Digest::of(one.to_string().as_bytes()).to_string();
        let put = service.put_manifest("a", &reference, OCI_MANIFEST, one).await.is(201);
        assert_eq!(put.header("oci-subject"), digest.to_string());
    }
    // then both are listed, with what they are
    let index = service.get(&path).await.is(200).json();
    let mut kinds: Vec<_> =
        index["manifests"].as_array().unwrap().iter().map(|one| one["artifactType"].as_str().unwrap()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["example/bill", "example/signature"]);
    assert!(index["manifests"].as_array().unwrap().iter().all(|one| one["annotations"]["by"] == "ann"));
    // and one kind alone
    let only = service.get(&format!("{path}?artifactType=example/signature")).await.is(200);
    assert_eq!(only.header("oci-filters-applied"), "artifactType");
    let only = only.json();
    let size = signature.to_string().len();
    assert_eq!((only["manifests"].as_array().unwrap().len(), &only["manifests"][0]["size"]), (1, &json!(size)));
    // and what is deleted is listed no more
    service.delete(&format!("/v2/a/manifests/{}", Digest::of(signature.to_string().as_bytes()))).await.is(202);
    assert_eq!(service.get(&path).await.json()["manifests"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn names_that_are_none_and_methods_that_are_none_are_refused() {
    let service = Service::new().await;
    for (method, path, status, code) in [
        (Method::POST, "/v2/UPPER/blobs/uploads/", 400, "NAME_INVALID"),
        (Method::POST, "/v2/a..b/blobs/uploads/", 400, "NAME_INVALID"),
        (Method::GET, "/v2/a%2f..%2f..%2fb/manifests/x", 400, "NAME_INVALID"),
        (Method::GET, "/v2/a/manifests/-x", 400, "MANIFEST_INVALID"),
        (Method::GET, "/v2/a/manifests/..%2f..%2fx", 404, "UNSUPPORTED"),
        (Method::GET, "/v2/a/blobs/sha256:12", 400, "DIGEST_INVALID"),
        (Method::GET, "/v2/a/blobs/uploads/1", 404, "BLOB_UPLOAD_UNKNOWN"),
        (Method::GET, "/v2/a/nothing", 404, "UNSUPPORTED"),
        (Method::POST, "/v2/", 405, "UNSUPPORTED"),
        (Method::POST, "/v2/a/manifests/x", 405, "UNSUPPORTED"),
        (Method::PUT, "/v2/_catalog", 405, "UNSUPPORTED"),
    ] {
        let answer = Answer::of(service.ask(method, path)).await.refuses(status, code);
        assert_eq!(answer.header("docker-distribution-api-version"), "registry/2.0", "{path}");
    }
}
