//! The gateway over real sockets: a replica's client on a Unix socket, an upstream on loopback by `--provider`.

use crate::base::open_connections::OpenConnections;
use crate::base::secret::SecretString;
use crate::base::shutdown::Shutdown;
use crate::egress::{Policy, Resolver};
use crate::models::{Clients, Inputs, ProviderOverride, plan, serve};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Response, StatusCode};
use axum::routing::any;
use futures_util::{StreamExt as _, stream};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;

const DEADLINE: Duration = Duration::from_secs(20);
const GATEWAY_KEY: &str = "rcg_gateway";

/// What the upstream does, and what it tells the test.
#[derive(Clone)]
struct Upstream {
    seen: mpsc::Sender<(String, HeaderMap, usize)>,
    /// The pieces of `/stream`'s body, as the test gives them out.
    pieces: Arc<tokio::sync::Mutex<mpsc::Receiver<&'static str>>>,
    /// Hears when `/stream`'s or `/stuck`'s response is dropped.
    dropped: mpsc::Sender<()>,
}

struct Scene {
    folder: tempfile::TempDir,
    upstream: SocketAddr,
    seen: mpsc::Receiver<(String, HeaderMap, usize)>,
    pieces: mpsc::Sender<&'static str>,
    dropped: mpsc::Receiver<()>,
    open: OpenConnections,
    _shutdown: Shutdown,
}

struct TellDrop(mpsc::Sender<()>);

impl Drop for TellDrop {
    fn drop(&mut self) {
        let _ = self.0.try_send(());
    }
}

async fn upstream(State(state): State<Upstream>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let path = head.uri.to_string();
    let mut length = 0;
    let mut body = body.into_data_stream();
    while let Some(Ok(part)) = body.next().await {
        length += part.len();
    }
    let _ = state.seen.send((path.clone(), head.headers, length)).await;
    let answer = Response::builder()
        .header("x-request-id", "req_1")
        .header("connection", "keep-alive, x-hop")
        .header("x-hop", "1");
    match path.as_str() {
        "/v1/stream" => {
            let told = TellDrop(state.dropped.clone());
            let pieces = state.pieces.clone().lock_owned().await;
            let stream = stream::unfold((pieces, told), |(mut pieces, told)| async move {
                let piece = pieces.recv().await.filter(|piece| !piece.is_empty())?;
                Some((Ok::<_, std::io::Error>(Bytes::from_static(piece.as_bytes())), (pieces, told)))
            });
            answer.header("content-type", "text/event-stream").body(Body::from_stream(stream)).unwrap()
        }
        "/v1/stuck" => {
            let _told = TellDrop(state.dropped.clone());
            std::future::pending().await
        }
        "/v1/moved" => answer
            .status(StatusCode::TEMPORARY_REDIRECT)
            .header("location", "/v1/elsewhere")
            .body(Body::empty())
            .unwrap(),
        "/v1/gzip" => answer.header("content-encoding", "gzip").body(Body::from(&b"\x1f\x8bnot really"[..])).unwrap(),
        _ => answer.status(StatusCode::CREATED).body(Body::from("{\"ok\":true}")).unwrap(),
    }
}

impl Scene {
    async fn new(secrets: &[(&str, &str)], overrides: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen_sender, seen) = mpsc::channel(64);
        let (pieces, pieces_receiver) = mpsc::channel(64);
        let (dropped_sender, dropped) = mpsc::channel(64);
        let state = Upstream {
            seen: seen_sender,
            pieces: Arc::new(tokio::sync::Mutex::new(pieces_receiver)),
            dropped: dropped_sender,
        };
        let app = Router::new().fallback(any(upstream)).with_state(state);
        tokio::spawn(async move { axum::serve(listener, app).await });

        let overrides: Vec<ProviderOverride> =
            overrides.iter().map(|text| text.replace("UPSTREAM", &address.to_string()).parse().unwrap()).collect();
        let secrets: BTreeMap<String, SecretString> =
            secrets.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
        let (policy, key) = (Policy::open(), SecretString::from(GATEWAY_KEY));
        let planned = plan(Inputs { overrides: &overrides, ..Inputs::new(&secrets, &policy, &key) }).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixListener::bind(folder.path().join("models.sock")).unwrap();
        let clients = Arc::new(Clients::new(Arc::new(Resolver::new(Vec::new()))));
        let (open, shutdown) = (OpenConnections::default(), Shutdown::default());
        serve(socket, Arc::new(planned.route), clients, &open, &shutdown);
        Self { folder, upstream: address, seen, pieces, dropped, open, _shutdown: shutdown }
    }

    async fn usual() -> Self {
        let secrets = [("OPENAI_API_KEY", "sk-real"), ("ANTHROPIC_API_KEY", "sk-ant")];
        Self::new(&secrets, &["openai=http://UPSTREAM/v1", "anthropic=http://UPSTREAM"]).await
    }

    /// A replica's client.
    fn client(&self) -> reqwest::Client {
        crate::base::http::install_crypto();
        reqwest::Client::builder()
            .unix_socket(self.folder.path().join("models.sock"))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap()
    }

    fn post(&self, path: &str) -> reqwest::RequestBuilder {
        self.client().post(format!("http://127.0.0.1:4180{path}")).bearer_auth(GATEWAY_KEY)
    }

    async fn seen(&mut self) -> (String, HeaderMap, usize) {
        tokio::time::timeout(DEADLINE, self.seen.recv()).await.unwrap().unwrap()
    }
}

fn shows(headers: &HeaderMap, needle: &str) -> bool {
    headers.values().any(|value| value.to_str().unwrap().contains(needle))
}

#[tokio::test]
async fn the_real_key_arrives_and_the_gateway_key_does_not() {
    let mut scene = Scene::usual().await;
    let request = scene.post("/openai/v1/chat/completions?x=1").header("openai-organization", "org").body("{}");
    let answer = request.header("accept-encoding", "br").send().await.unwrap();
    assert_eq!(answer.status(), 201);
    assert_eq!(answer.headers()["x-request-id"], "req_1");
    assert!(answer.headers().get("x-hop").is_none());
    assert_eq!(answer.text().await.unwrap(), "{\"ok\":true}");
    let (path, headers, length) = scene.seen().await;
    assert_eq!((path.as_str(), length), ("/v1/chat/completions?x=1", 2));
    assert_eq!(headers["authorization"], "Bearer sk-real");
    assert_eq!(headers["host"], scene.upstream.to_string());
    assert_eq!(
        (&headers["content-length"], &headers["accept-encoding"]),
        (&"2".parse().unwrap(), &"br".parse().unwrap())
    );
    assert_eq!(headers["openai-organization"], "org");
    assert!(!shows(&headers, GATEWAY_KEY));

    let request = scene.client().post("http://127.0.0.1:4180/anthropic/v1/messages").header("x-api-key", GATEWAY_KEY);
    request.header("anthropic-version", "2023-06-01").send().await.unwrap();
    let (path, headers, _) = scene.seen().await;
    assert_eq!(path, "/v1/messages");
    assert_eq!(
        (&headers["x-api-key"], &headers["anthropic-version"]),
        (&"sk-ant".parse().unwrap(), &"2023-06-01".parse().unwrap())
    );
    assert!(!shows(&headers, GATEWAY_KEY) && headers.get("authorization").is_none());
}

#[tokio::test]
async fn another_key_is_refused_in_the_providers_words() {
    let mut scene = Scene::usual().await;
    for (path, pointer) in [("/openai/v1/models", "/error/code"), ("/anthropic/v1/models", "/error/type")] {
        for key in ["", "sk-real", "rcg_gatewaz", "rcg_gateway2"] {
            let url = format!("http://127.0.0.1:4180{path}");
            let answer = scene.client().get(url).header("x-api-key", key).bearer_auth(key).send().await.unwrap();
            assert_eq!(answer.status(), 401);
            let body: Value = answer.json().await.unwrap();
            assert!(body.pointer(pointer).is_some() && body.pointer("/error/message").is_some(), "{body}");
            assert!(!body.to_string().contains("sk-"));
        }
    }
    assert!(scene.seen.try_recv().is_err());
}

#[tokio::test]
async fn a_stream_passes_piece_by_piece() {
    let mut scene = Scene::usual().await;
    let sent = tokio::spawn(scene.post("/openai/v1/stream").body("{}").send());
    scene.pieces.send("data: one\n\n").await.unwrap();
    let mut answer = tokio::time::timeout(DEADLINE, sent).await.unwrap().unwrap().unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    for (piece, next) in [("data: one\n\n", "data: two\n\n"), ("data: two\n\n", "")] {
        // The next piece is sent only when this one has arrived.
        assert_eq!(tokio::time::timeout(DEADLINE, answer.chunk()).await.unwrap().unwrap().unwrap(), piece);
        scene.pieces.send(next).await.unwrap();
    }
    assert_eq!(answer.chunk().await.unwrap(), None);
    scene.seen().await;
}

#[tokio::test]
async fn a_client_that_goes_away_ends_the_call_upstream() {
    let mut scene = Scene::usual().await;
    let sent = tokio::spawn(scene.post("/openai/v1/stream").body("{}").send());
    scene.pieces.send("data: one\n\n").await.unwrap();
    let mut answer = sent.await.unwrap().unwrap();
    answer.chunk().await.unwrap();
    drop(answer);
    tokio::time::timeout(DEADLINE, scene.dropped.recv()).await.unwrap().unwrap();
    // Before the first byte of the answer too.
    let sent = tokio::spawn(scene.post("/openai/v1/stuck").body("{}").send());
    scene.seen().await;
    scene.seen().await;
    sent.abort();
    tokio::time::timeout(DEADLINE, scene.dropped.recv()).await.unwrap().unwrap();
}

#[tokio::test]
async fn large_bodies_pass_and_larger_ones_are_refused() {
    let mut scene = Scene::usual().await;
    let limit = usize::try_from(super::Defaults::BODY_BYTES).unwrap();
    let answer = scene.post("/openai/v1/files").body(vec![7; limit]).send().await.unwrap();
    assert_eq!(answer.status(), 201);
    let (_, headers, length) = scene.seen().await;
    assert_eq!((length, headers["content-length"].to_str().unwrap()), (limit, limit.to_string().as_str()));

    let chunks = |count| {
        let chunk = Bytes::from(vec![7; 1 << 20]);
        reqwest::Body::wrap_stream(stream::iter((0..count).map(move |_| Ok::<_, std::io::Error>(chunk.clone()))))
    };
    assert_eq!(scene.post("/openai/v1/files").body(chunks(3)).send().await.unwrap().status(), 201);
    let (_, headers, length) = scene.seen().await;
    assert_eq!((length, headers.get("content-length")), (3 << 20, None));

    // Whether the client reads the answer before its own writing breaks is up to the race; nothing passes whole.
    for body in [reqwest::Body::from(vec![7; limit + 1]), chunks(65)] {
        if let Ok(answer) = scene.post("/openai/v1/files").body(body).send().await {
            assert_eq!(answer.status(), 413);
        }
    }
    while let Ok((_, _, length)) = scene.seen.try_recv() {
        assert!(length <= limit);
    }
}

#[tokio::test]
async fn redirects_and_encodings_pass_as_they_are() {
    let mut scene = Scene::usual().await;
    let answer = scene.post("/openai/v1/moved").send().await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["location"]), (307, &"/v1/elsewhere".parse().unwrap()));
    assert_eq!(scene.seen().await.0, "/v1/moved");
    let answer = scene.post("/openai/v1/gzip").send().await.unwrap();
    assert_eq!(answer.headers()["content-encoding"], "gzip");
    assert_eq!(&answer.bytes().await.unwrap()[..], b"\x1f\x8bnot really");
    assert_eq!(scene.seen().await.0, "/v1/gzip");
    assert!(scene.seen.try_recv().is_err());
}

#[tokio::test]
async fn paths_do_not_leave_the_base() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut scene = Scene::usual().await;
    for (path, status) in [
        ("/openai/v1/../admin", "400"),
        ("/openai/v1/%2e%2e/admin", "400"),
        ("/openai/v1/%252e%252e/admin", "400"),
        ("/openai/v1/a%2f..%2f..%2fadmin", "400"),
        ("/openai/v2/models", "404"),
        ("/openai/v1x", "404"),
        ("/anthropicx", "404"),
        ("/", "404"),
    ] {
        let mut raw = tokio::net::UnixStream::connect(scene.folder.path().join("models.sock")).await.unwrap();
        let text = format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {GATEWAY_KEY}\r\n\r\n"
        );
        raw.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        raw.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer.split(' ').nth(1), Some(status), "{path}");
    }
    assert!(scene.seen.try_recv().is_err());
}

#[tokio::test]
async fn a_provider_without_key_says_which_is_missing() {
    let mut scene = Scene::new(&[], &["openai=http://UPSTREAM/v1"]).await;
    let answer = scene.post("/anthropic/v1/messages").send().await.unwrap();
    assert_eq!(answer.status(), 401);
    assert!(answer.text().await.unwrap().contains("ANTHROPIC_API_KEY is not among the agent's secrets"));
    // A local model needs none.
    assert_eq!(scene.post("/openai/v1/chat/completions").send().await.unwrap().status(), 201);
    assert!(scene.seen().await.1.get("authorization").is_none());
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_named() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let scene = Scene::new(&[("OPENAI_API_KEY", "sk-real")], &[&format!("openai=http://{closed}/v1")]).await;
    let answer = scene.post("/openai/v1/models?secret=1").send().await.unwrap();
    assert_eq!(answer.status(), 502);
    let text = answer.text().await.unwrap();
    assert!(text.contains("127.0.0.1") && text.contains("server_error"), "{text}");
    assert!(!text.contains("sk-real") && !text.contains("secret=1"), "{text}");
}

#[tokio::test]
async fn a_server_that_leaves_answers_what_is_open_and_says_close() {
    let scene = Scene::usual().await;
    let client = scene.client();
    let post = |path: &str| client.post(format!("http://127.0.0.1:4180{path}")).bearer_auth(GATEWAY_KEY).body("{}");
    let pooled = post("/openai/v1/models").send().await.unwrap();
    assert_eq!(pooled.headers().get("connection"), None);
    pooled.bytes().await.unwrap();
    let stream = tokio::spawn(scene.post("/openai/v1/stream").body("{}").send());
    scene.pieces.send("data: one\n\n").await.unwrap();
    let mut stream = stream.await.unwrap().unwrap();
    assert_eq!(scene.open.count(), 2);

    scene.open.leave();

    let answer = post("/openai/v1/models").send().await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["connection"]), (201, &"close".parse().unwrap()));
    answer.bytes().await.unwrap();
    assert!(tokio::time::timeout(Duration::ZERO, scene.open.ended()).await.is_err(), "a stream is open");
    scene.pieces.send("data: two\n\n").await.unwrap();
    scene.pieces.send("").await.unwrap();
    let mut told = Vec::new();
    while let Some(piece) = stream.chunk().await.unwrap() {
        told.extend(piece);
    }
    assert_eq!(told, b"data: one\n\ndata: two\n\n");
    drop(stream);
    tokio::time::timeout(DEADLINE, scene.open.ended()).await.unwrap();
}
