//! The proxy over real sockets: a client on its Unix socket, servers on loopback.

use super::client_hello::tests::rustls_hello;
use super::*;
use crate::base::open_connections::OpenConnections;
use crate::base::shutdown::Shutdown;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// A test's patience.
const DEADLINE: Duration = Duration::from_secs(20);

struct Scene {
    folder: tempfile::TempDir,
    shutdown: Shutdown,
}

impl Scene {
    fn new(policy: Policy, resolver: Resolver) -> Self {
        let scene = Self { folder: tempfile::tempdir().unwrap(), shutdown: Shutdown::default() };
        let listener = UnixListener::bind(scene.folder.path().join("egress.sock")).unwrap();
        let replica = Replica { agent: "agent".into(), replica: "one".into() };
        serve(listener, replica, Arc::new(policy), Arc::new(resolver), &OpenConnections::default(), &scene.shutdown);
        scene
    }

    async fn dial(&self) -> UnixStream {
        UnixStream::connect(self.folder.path().join("egress.sock")).await.unwrap()
    }

    async fn request(&self, text: &str) -> (u16, String, UnixStream) {
        let mut stream = self.dial().await;
        stream.write_all(text.as_bytes()).await.unwrap();
        let head = read_until_blank(&mut stream).await;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head, stream)
    }

    async fn connect(&self, target: &str) -> UnixStream {
        let (status, head, stream) = self.request(&connect_to(target)).await;
        assert_eq!(status, 200, "{head}");
        stream
    }

    async fn problem(&self, text: &str) -> (u16, Value) {
        let (status, head, stream) = self.request(text).await;
        assert!(head.contains("Content-Type: application/problem+json\r\n"), "{head}");
        (status, serde_json::from_slice(&rest(stream).await).unwrap())
    }
}

fn connect_to(target: &str) -> String {
    format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n")
}

async fn read_until_blank(stream: &mut UnixStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(tokio::time::timeout(DEADLINE, stream.read_u8()).await.unwrap().unwrap());
    }
    String::from_utf8(bytes).unwrap()
}

async fn rest(mut stream: impl tokio::io::AsyncRead + Unpin) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A server that closes with unread bytes resets the connection after what it sent.
    let _ = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut bytes)).await.unwrap();
    bytes
}

/// A server that reads everything, and only after the client's end answers with it.
async fn echo_at_end(address: &str) -> SocketAddr {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut bytes = Vec::new();
                stream.read_to_end(&mut bytes).await.unwrap();
                stream.write_all(&bytes).await.unwrap();
            });
        }
    });
    address
}

fn allow(entries: &[String]) -> Policy {
    Policy::allowlist(entries.iter().map(String::as_str)).unwrap()
}

#[tokio::test]
async fn an_allowed_host_is_reached_and_half_close_is_kept() {
    let server = echo_at_end("127.0.0.1:0").await;
    let policy = allow(&[format!("db.example:{}", server.port())]);
    let scene = Scene::new(policy, Resolver::for_tests(&[("db.example", server)]));
    let mut stream = scene.connect(&format!("DB.example.:{}", server.port())).await;
    let sent: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    stream.write_all(&sent).await.unwrap();
    stream.shutdown().await.unwrap();
    assert!(rest(stream).await == sent);
}

#[tokio::test]
async fn bytes_sent_with_the_head_reach_the_server() {
    let server = echo_at_end("127.0.0.1:0").await;
    let scene = Scene::new(Policy::open(), Resolver::for_tests(&[("db.example", server)]));
    let text = format!("{}early ", connect_to(&format!("db.example:{}", server.port())));
    let (status, _, mut stream) = scene.request(&text).await;
    assert_eq!(status, 200);
    stream.write_all(b"late").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(rest(stream).await, b"early late");
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let scene = Scene::new(Policy::open(), Resolver::for_tests(&[("mail.example", address)]));
    let mut stream = scene.connect(&format!("mail.example:{}", address.port())).await;
    let (mut server, _) = listener.accept().await.unwrap();
    server.write_all(b"220 hello").await.unwrap();
    let mut greeting = [0; 9];
    stream.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, b"220 hello");
    // The server's end does not end the client's direction.
    server.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut greeting).await.unwrap(), 0);
    stream.write_all(b"bye").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(rest(server).await, b"bye");
}

#[tokio::test]
async fn a_denied_host_is_named_with_the_key_that_allows_it() {
    let scene = Scene::new(allow(&["api.example.com".into()]), Resolver::new(Vec::new()));
    for target in ["evil.example:443", "api.example.com:80", "10.0.0.1:443"] {
        let (status, problem) = scene.problem(&connect_to(target)).await;
        assert_eq!((status, problem["code"].as_str()), (403, Some("egress_denied")));
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(target) && detail.contains("rapidclaw.security.allowed_hosts"), "{detail}");
    }
    let scene = Scene::new(Policy::none(), Resolver::new(Vec::new()));
    assert_eq!(scene.problem(&connect_to("api.example.com:443")).await.0, 403);
}

#[tokio::test]
async fn addresses_of_the_machine_are_refused_even_when_all_is_allowed() {
    let scene = Scene::new(Policy::open(), Resolver::new(Vec::new()));
    for target in ["localhost:80", "127.0.0.1:80", "[::1]:80", "[::ffff:7f00:1]:80", "169.254.169.254:80", "0.0.0.0:80"]
    {
        let (status, problem) = scene.problem(&connect_to(target)).await;
        assert_eq!((status, problem["code"].as_str()), (403, Some("egress_address_refused")), "{target}");
    }
}

#[tokio::test]
async fn other_requests_are_refused_in_kind() {
    let scene = Scene::new(Policy::open(), Resolver::new(Vec::new()));
    for (text, status) in [
        ("GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n".to_owned(), 405),
        ("CONNECT a.example HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("CONNECT 0x7f.1:80 HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("\x16\x03\x01".to_owned(), 400),
        (format!("CONNECT a:1 HTTP/1.1\r\nX: {}", "a".repeat(9000)), 431),
    ] {
        assert_eq!(scene.problem(&text).await.0, status, "{text}");
    }
}

#[tokio::test]
async fn a_host_that_cannot_be_reached_is_a_502() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let scene = Scene::new(Policy::open(), Resolver::for_tests(&[("db.example", closed)]));
    let (status, problem) = scene.problem(&connect_to(&format!("db.example:{}", closed.port()))).await;
    assert_eq!((status, problem["code"].as_str()), (502, Some("egress_unreachable")));
    let (status, problem) = scene.problem(&connect_to("no-such-name.invalid:443")).await;
    assert!(status == 502 || status == 504, "{problem}");
}

/// Takes [`Defaults::HEAD_TIMEOUT`]: paused time wants a feature of tokio that the package does not have.
#[tokio::test]
async fn a_client_that_says_nothing_is_sent_away() {
    let scene = Scene::new(Policy::open(), Resolver::new(Vec::new()));
    let mut stream = scene.dial().await;
    stream.write_all(b"CONNECT a").await.unwrap();
    let answer = rest(stream).await;
    assert!(answer.starts_with(b"HTTP/1.1 408 "));
}

/// A tunnel for `hello` to `host` as port 443 sees it: how it ended and what the client got back.
async fn through_443(host: &str, hello: &[u8]) -> (Result<(), String>, Vec<u8>) {
    let server = echo_at_end("127.0.0.1:0").await;
    let (mut client, mut inside) = UnixStream::pair().unwrap();
    let mut upstream = TcpStream::connect(server).await.unwrap();
    let target = Authority { host: Host::parse(host).unwrap(), port: 443 };
    let (early, late) = hello.split_at(hello.len() / 2);
    client.write_all(late).await.unwrap();
    client.shutdown().await.unwrap();
    let passed = tunnel::pass(&mut inside, &mut upstream, &target, early.to_vec()).await;
    drop((inside, upstream));
    (passed.map_err(|error| error.to_string()), rest(client).await)
}

#[tokio::test]
async fn on_443_the_hello_must_name_the_host() {
    let hello = rustls_hello("api.example.com");
    assert_eq!(through_443("api.example.com", &hello).await, (Ok(()), hello.clone()));
    let alert = [21, 3, 3, 0, 2, 2, 112];
    let (passed, back) = through_443("api.example.com", &rustls_hello("other.example.com")).await;
    assert!(passed.unwrap_err().contains("other.example.com"));
    assert_eq!(back, alert);
    let (passed, back) = through_443("api.example.com", &rustls_hello("10.0.0.1")).await;
    assert!(passed.unwrap_err().contains("without server name"));
    assert_eq!(back, alert);
    let (passed, back) = through_443("api.example.com", b"GET / HTTP/1.1\r\n\r\n").await;
    assert!(passed.unwrap_err().contains("not TLS"));
    assert!(back.is_empty());
    assert_eq!(through_443("10.0.0.1", &rustls_hello("10.0.0.1")).await.0, Ok(()));
    assert!(through_443("10.0.0.1", &rustls_hello("api.example.com")).await.0.is_err());
    assert!(through_443("api.example.com", &hello[..90]).await.0.is_err());
}

/// The whole way on the real port; only where this user may bind it (in the project's own containers).
#[tokio::test]
async fn through_the_socket_443_is_for_the_named_host_alone() {
    let Ok(probe) = TcpListener::bind("127.77.0.1:443").await else { return };
    drop(probe);
    let server = echo_at_end("127.77.0.1:443").await;
    let policy = allow(&["api.example.com".into()]);
    let scene = Scene::new(policy, Resolver::for_tests(&[("api.example.com", server)]));
    let hello = rustls_hello("api.example.com");
    let mut stream = scene.connect("api.example.com:443").await;
    stream.write_all(&hello).await.unwrap();
    stream.shutdown().await.unwrap();
    assert!(rest(stream).await == hello);
    for (sent, back) in
        [(rustls_hello("evil.example"), &[21, 3, 3, 0, 2, 2, 112][..]), (b"POST / HTTP/1.1\r\n".to_vec(), &[])]
    {
        let mut stream = scene.connect("api.example.com:443").await;
        stream.write_all(&sent).await.unwrap();
        assert_eq!(rest(stream).await, back);
    }
}

#[tokio::test]
async fn on_other_ports_a_hello_for_another_host_is_refused_too() {
    let server = echo_at_end("127.0.0.1:0").await;
    let scene = Scene::new(Policy::open(), Resolver::for_tests(&[("db.example", server)]));
    let target = format!("db.example:{}", server.port());
    let mut stream = scene.connect(&target).await;
    stream.write_all(&rustls_hello("other.example")).await.unwrap();
    assert_eq!(rest(stream).await, [21, 3, 3, 0, 2, 2, 112]);
    let mut stream = scene.connect(&target).await;
    let hello = rustls_hello("db.example");
    for part in hello.chunks(7) {
        stream.write_all(part).await.unwrap();
    }
    stream.shutdown().await.unwrap();
    assert!(rest(stream).await == hello);
}

#[tokio::test]
async fn connections_beyond_the_limit_are_told_and_free_again_after_one_ends() {
    crate::base::open_files::raise();
    let server = echo_at_end("127.0.0.1:0").await;
    let scene = Scene::new(Policy::open(), Resolver::for_tests(&[("db.example", server)]));
    let text = connect_to(&format!("db.example:{}", server.port()));
    let mut open = Vec::new();
    for _ in 0..Defaults::CONNECTIONS {
        let (status, _, stream) = scene.request(&text).await;
        assert_eq!(status, 200);
        open.push(stream);
    }
    let mut refused = scene.dial().await;
    assert!(read_until_blank(&mut refused).await.starts_with("HTTP/1.1 503 "));
    open.clear();
    let start = Instant::now();
    loop {
        let mut stream = scene.dial().await;
        let _ = stream.write_all(text.as_bytes()).await;
        let head = read_until_blank(&mut stream).await;
        if head.contains(" 200 ") {
            break;
        }
        assert!(start.elapsed() < DEADLINE, "still {head}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn tunnels_end_at_shutdown() {
    let server = echo_at_end("127.0.0.1:0").await;
    let scene = Scene::new(Policy::open(), Resolver::for_tests(&[("db.example", server)]));
    let stream = scene.connect(&format!("db.example:{}", server.port())).await;
    assert!(scene.shutdown.finish(DEADLINE).await);
    assert!(rest(stream).await.is_empty());
}
