//! A registry on loopback with a folder and a database of its own; no Docker.

use axum::serve::ListenerExt as _;
use rapidclaw::base::secret::{MasterKey, token_hash};
use rapidclaw::base::shutdown::Shutdown;
use rapidclaw::control::access::Tokens;
use rapidclaw::registry::manifest::OCI_MANIFEST;
use rapidclaw::registry::names::Digest;
use rapidclaw::registry::{Registry, RegistrySettings};
use rapidclaw::server::registry_api::{RegistryApp, router};
use rapidclaw::store::Store;
use rapidclaw::store::test_database::TestDatabase;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use std::path::PathBuf;
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// The administrator's token in these tests.
pub const TOKEN: &str = "rcadmin_of-the-tests";
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// What the registry answered.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    headers: reqwest::header::HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub async fn of(request: RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Self { status, headers, body: response.bytes().await.unwrap().to_vec() }
    }

    #[track_caller]
    pub fn is(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{self:?} {}", String::from_utf8_lossy(&self.body));
        self
    }

    /// Sees that it is an error in the specification's form.
    #[track_caller]
    pub fn refuses(self, status: u16, code: &str) -> Self {
        let said = self.is(status);
        let body = said.json();
        let error = &body["errors"][0];
        assert_eq!(error["code"], code, "{body}");
        assert!(!error["message"].as_str().unwrap().is_empty(), "{body}");
        said
    }

    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        self.find_header(name).unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    pub fn find_header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A registry that answers.
pub struct Service {
    pub url: String,
    pub registry: Registry,
    pub store: Store,
    pub http: reqwest::Client,
    settings: RegistrySettings,
    serving: JoinHandle<()>,
    _folder: TempDir,
    _database: TestDatabase,
}

impl Service {
    pub async fn new() -> Self {
        Self::with(|settings| settings).await
    }

    pub async fn with(change: impl Fn(RegistrySettings) -> RegistrySettings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = change(RegistrySettings { reserve_bytes: 0, ..RegistrySettings::new(folder.path().join("r")) });
        let database = TestDatabase::new().await;
        let store = Store::open(database.options()).await.unwrap();
        store.set_admin_token(&token_hash(TOKEN)).await.unwrap();
        let (url, registry, serving) = serve(&settings, &store).await;
        let http = rapidclaw::base::http::client(std::time::Duration::from_secs(5), None).unwrap();
        Self { url, registry, store, http, settings, serving, _folder: folder, _database: database }
    }

    /// Another process on the same folder, as after a crash: nothing of the memory is left.
    pub async fn restart(&mut self) {
        self.serving.abort();
        (self.url, self.registry, self.serving) = serve(&self.settings, &self.store).await;
    }

    /// The registry's folder.
    pub fn folder(&self) -> &PathBuf {
        &self.settings.folder
    }

    /// A request with the administrator's token.
    pub fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url)).bearer_auth(TOKEN)
    }

    pub async fn get(&self, path: &str) -> Answer {
        Answer::of(self.ask(Method::GET, path)).await
    }

    pub async fn head(&self, path: &str) -> Answer {
        Answer::of(self.ask(Method::HEAD, path)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        Answer::of(self.ask(Method::DELETE, path)).await
    }

    /// Begins an upload: where it is.
    pub async fn begin(&self, name: &str) -> String {
        let answer = Answer::of(self.ask(Method::POST, &format!("/v2/{name}/blobs/uploads/"))).await.is(202);
        assert_eq!(answer.header("range"), "0-0");
        assert!(answer.header("location").ends_with(answer.header("docker-upload-uuid")));
        answer.header("location").to_owned()
    }

    /// A chunk that says where it belongs.
    pub async fn chunk(&self, location: &str, first: usize, bytes: &[u8]) -> Answer {
        let range = format!("{first}-{}", first + bytes.len() - 1);
        Answer::of(self.ask(Method::PATCH, location).header("content-range", range).body(bytes.to_vec())).await
    }

    /// Pushes a blob at once.
    pub async fn push_blob(&self, name: &str, content: &[u8]) -> Digest {
        let digest = Digest::of(content);
        let path = format!("/v2/{name}/blobs/uploads/?digest={digest}");
        let answer = Answer::of(self.ask(Method::POST, &path).body(content.to_vec())).await.is(201);
        assert_eq!(answer.header("location"), format!("/v2/{name}/blobs/{digest}"));
        assert_eq!(answer.header("docker-content-digest"), digest.to_string());
        digest
    }

    pub async fn put_manifest(&self, name: &str, reference: &str, kind: &str, manifest: &Value) -> Answer {
        let request = self.ask(Method::PUT, &format!("/v2/{name}/manifests/{reference}"));
        Answer::of(request.header("content-type", kind).body(manifest.to_string())).await
    }

    /// Pushes an image of one layer: the manifest, and its digest.
    pub async fn push_image(&self, name: &str, reference: &str, layer: &[u8]) -> (Value, Digest) {
        let config = json!({"architecture": "amd64", "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [Digest::of(layer).to_string()]}})
        .to_string();
        self.push_blob(name, layer).await;
        self.push_blob(name, config.as_bytes()).await;
        let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": descriptor(OCI_CONFIG, config.as_bytes()),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", layer)]});
        let digest = Digest::of(manifest.to_string().as_bytes());
        let reference = if reference.is_empty() { digest.to_string() } else { reference.to_owned() };
        self.put_manifest(name, &reference, OCI_MANIFEST, &manifest).await.is(201);
        (manifest, digest)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(settings: &RegistrySettings, store: &Store) -> (String, Registry, JoinHandle<()>) {
    let registry = Registry::open(settings.clone()).unwrap();
    let key = MasterKey::ensure(&settings.folder.with_extension("key")).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let public: Option<rapidclaw::server::PublicUrl> = Some("https://registry.example".parse().unwrap());
    let app = RegistryApp {
        registry: registry.clone(),
        store: store.clone(),
        tokens: Tokens::new(store.clone(), Shutdown::default()),
        key,
        url: url.clone(),
        public,
        tls: false,
    };
    let listener = listener.tap_io(|stream| stream.set_nodelay(true).unwrap());
    let serving = tokio::spawn(async move { axum::serve(listener, router(app)).await.unwrap() });
    (url, registry, serving)
}

/// What a manifest says of content.
pub fn descriptor(kind: &str, content: &[u8]) -> Value {
    json!({"mediaType": kind, "digest": Digest::of(content).to_string(), "size": content.len()})
}
