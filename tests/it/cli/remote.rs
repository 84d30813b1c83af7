//! A server elsewhere: TLS, names, certificates that change; versions that differ; logins and where they rest.

use crate::machine::{Answer, Authority, Machine, Said, Server, get, runtime, said, said_with_stdin, until};
use rapidclaw::base::http::{self, Way};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What was said, without what differs from run to run.
fn stable(said: &Said, folder: &Path) -> String {
    let text = said.err.replace(folder.to_str().unwrap(), "[FOLDER]");
    let text = regex::Regex::new(r"127\.0\.0\.1:\d+").unwrap().replace_all(&text, "127.0.0.1:[PORT]").into_owned();
    regex::Regex::new(r"hint: its log: .*\n").unwrap().replace_all(&text, "").into_owned()
}

/// A request that trusts the authority alone.
fn ask(authority: &Authority, url: &str, headers: &[(&str, &str)]) -> reqwest::Result<u16> {
    let pem = std::fs::read(authority.certificate()).unwrap();
    runtime().block_on(async {
        let way = Way { tls: true, here: true, authorities: Some(&pem) };
        let mut request = http::client_for(&way, Duration::from_secs(5)).unwrap().get(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Ok(request.send().await?.status().as_u16())
    })
}

/// The serial number of the certificate that is shown at an address.
fn shown(address: &str) -> String {
    let shown = Command::new("sh")
        .args(["-c", "openssl s_client -connect \"$0\" </dev/null 2>/dev/null | openssl x509 -noout -serial", address])
        .output()
        .unwrap();
    String::from_utf8_lossy(&shown.stdout).trim().to_owned()
}

fn serial(certificate: &Path) -> String {
    let told = Command::new("openssl").args(["x509", "-noout", "-serial", "-in"]).arg(certificate).output().unwrap();
    String::from_utf8_lossy(&told.stdout).trim().to_owned()
}

/// Waits until a certificate is the one that is shown.
#[track_caller]
fn until_shown(server: &Server, certificate: &Path) {
    let address = server.url.split_once("://").unwrap().1.to_owned();
    let wanted = serial(certificate);
    until("the certificate", || match shown(&address) {
        found if found == wanted => Ok(()),
        found => Err(found),
    });
}

#[test]
fn a_server_with_tls() {
    // Given a server that speaks TLS, with a certificate of an authority of ours.
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path());
    let server = Server::with_tls(&authority, &[]);
    assert!(server.url.starts_with("https://127.0.0.1:") && server.agents_url.starts_with("https://"));
    let token = std::fs::read_to_string(server.machine.data_dir().join("admin-token")).unwrap().trim().to_owned();

    // Then who was told of the authority at login is answered, on both listeners.
    server.rapidclaw(&["status"]).ok();
    for url in [&server.url, &server.agents_url] {
        assert_eq!(ask(&authority, &format!("{url}/none"), &[]).unwrap(), 404);
        assert_eq!(ask(&authority, &format!("{url}/healthz"), &[("host", "evil.example")]).unwrap(), 421);
    }
    // Others are told what to do, and show no token.
    let other = Machine::new();
    let environment = [("RAPIDCLAW_SERVER", server.url.as_str()), ("RAPIDCLAW_TOKEN", token.as_str())];
    let stranger = said(other.command().arg("status").envs(environment)).fails(5);
    insta::assert_snapshot!(stable(&stranger, folder.path()), @r"
    error: the server at https://127.0.0.1:[PORT] cannot be reached
    caused by: invalid peer certificate: UnknownIssuer

    hint: if its certificate is of an authority of your own, or a proxy that looks into TLS has put its own in place: name that authority's certificate with --ca-file or RAPIDCLAW_CA_FILE
    ");
    let ca = authority.certificate();
    for variable in ["RAPIDCLAW_CA_FILE", "SSL_CERT_FILE"] {
        said(other.command().arg("status").envs(environment).env(variable, &ca)).ok();
    }
    said(other.command().args(["status", "--ca-file"]).arg(&ca).envs(environment)).ok();
    let no_ca =
        said(other.command().args(["status", "--ca-file"]).arg(folder.path().join("server.key")).envs(environment));
    insta::assert_snapshot!(stable(&no_ca.fails(2), folder.path()), @r"
    error: the CA file [FOLDER]/server.key
    caused by: it holds no certificate in PEM form

    hint: --ca-file wants certificates of authorities in PEM form
    ");
    // In clear: refused before anything is said.
    let clear = get(&format!("{}/healthz", server.url.replace("https", "http")), &[]);
    clear.problem(400, "wants-tls");
    let clear = server.url.replace("https", "http");
    said(other.command().args(["status", "--server", &clear]).envs(environment)).fails(1).says("use https://");
    // A client that shakes no hands keeps nobody waiting.
    let _silent: Vec<TcpStream> =
        (0..8).map(|_| TcpStream::connect(server.url.split_once("://").unwrap().1).unwrap()).collect();
    server.rapidclaw(&["status"]).ok();

    // When the certificate is renewed, it is shown without a restart.
    let (cert, key) = authority.issue("next", &["IP:127.0.0.1", "DNS:localhost"]);
    let (shown_cert, shown_key) = (folder.path().join("server.crt"), folder.path().join("server.key"));
    std::fs::copy(&cert, &shown_cert).unwrap();
    std::fs::copy(&key, &shown_key).unwrap();
    until_shown(&server, &cert);
    server.rapidclaw(&["status"]).ok();
    // One that cannot be used is refused, and the one before stays; SIGHUP asks at once.
    std::fs::write(&shown_key, "nothing").unwrap();
    Command::new("kill").args(["-HUP", &server.pid]).status().unwrap();
    until("the refusal", || match server.log() {
        log if log.contains("holds no private key") && log.contains("the one before stays") => Ok(()),
        log => Err(log),
    });
    until_shown(&server, &cert);
    // A restart with it changes nothing: the server that runs goes on.
    let refused = server.rapidclaw(&["server", "restart"]).fails(2);
    insta::assert_snapshot!(stable(&refused, folder.path()), @r"
    error: [FOLDER]/server.key holds no private key without a passphrase in PEM form

    hint: --tls-cert wants the certificate and those above it, --tls-key its key without a passphrase, both in PEM form
    ");
    server.rapidclaw(&["status"]).ok();
    // With one that can be used it hands over.
    std::fs::copy(&key, &shown_key).unwrap();
    server.rapidclaw(&["server", "restart"]).ok();
    until_shown(&server, &cert);
    server.rapidclaw(&["status"]).ok();
    server.rapidclaw(&["server", "status"]).ok().prints(&server.url);

    // When it is called by a public name, that name is known, and agents' addresses bear it.
    server.rapidclaw(&["server", "stop"]).ok();
    let port = server.url.rsplit_once(':').unwrap().1;
    let mut start = server.machine.command();
    start.args(["server", "start", "--agents-listen=127.0.0.1:0", "--listen"]).arg(format!("127.0.0.1:{port}"));
    start.arg("--tls-cert").arg(&shown_cert).arg("--tls-key").arg(&shown_key);
    let public = format!("https://localhost:{port}");
    said(start.args(["--public-url", &public, "--agents-public-url", "https://agents.example"])).ok().prints(&public);
    let login = server.rapidclaw(&["login", "--local", "--ca-file", ca.to_str().unwrap()]).ok().prints(&public);
    login.says("the token rests in");
    let who = server.rapidclaw(&["whoami", "--json"]).ok().json();
    assert_eq!(who["server"]["agents_url"], "https://agents.example");
    let health = format!("{public}/healthz");
    for (host, status) in [("localhost", 200), ("agents.example", 200), ("rapidclaw.example", 421)] {
        assert_eq!(ask(&authority, &health, &[("host", host)]).unwrap(), status, "{host}");
    }
}

#[test]
fn what_a_server_elsewhere_is_not_started_with() {
    let machine = Machine::new();
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path());
    let (cert, key) = authority.issue("one", &["DNS:one.example"]);
    let (other, _) = authority.issue("two", &["DNS:two.example"]);
    let (cert, key, other) = (cert.to_str().unwrap(), key.to_str().unwrap(), other.to_str().unwrap());
    let run = |arguments: &[&str]| {
        let listen = ["server", "run", "--listen=127.0.0.1:0", "--agents-listen=127.0.0.1:0"];
        machine.rapidclaw(&[&listen, arguments].concat())
    };
    run(&["--tls-cert", cert]).exits(2).says("--tls-key");
    run(&["--public-url", "rapidclaw.example"]).exits(2).says("--public-url");
    let open = run(&["--public-url", "http://rapidclaw.example"]).fails(2);
    insta::assert_snapshot!(stable(&open, folder.path()), @r"
    error: http://rapidclaw.example is another host in plain HTTP, and would show it tokens and keys

    hint: use https://, or say --insecure where nobody listens in
    ");
    let mismatch = run(&["--tls-cert", other, "--tls-key", key]).fails(2);
    insta::assert_snapshot!(stable(&mismatch, folder.path()), @r"
    error: the key in [FOLDER]/one.key is not that of the certificate in [FOLDER]/two.crt

    hint: --tls-cert wants the certificate and those above it, --tls-key its key without a passphrase, both in PEM form
    ");
    let none = run(&["--tls-cert", "/none.pem", "--tls-key", key]).fails(2);
    insta::assert_snapshot!(stable(&none, folder.path()), @r"
    error: the certificate file /none.pem
    caused by: I/O error: No such file or directory (os error 2)

    hint: --tls-cert wants the certificate and those above it, --tls-key its key without a passphrase, both in PEM form
    ");
    assert!(!machine.data_dir().exists());
}

/// A server on its own port that says what it is told to say to each request.
fn answering(head: &str, body: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = format!(
        "HTTP/1.1 {head}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut line = String::new();
            while reader.read_line(&mut line).unwrap_or(0) > 2 {
                line.clear();
            }
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    url
}

#[test]
fn command_line_and_server_of_other_versions() {
    // Given a server, when it is spoken to in other versions of the control API.
    let server = Server::start();
    let token = std::fs::read_to_string(server.machine.data_dir().join("admin-token")).unwrap();
    let bearer = format!("Bearer {}", token.trim());
    let ask = |spoken: &str| -> Answer {
        get(&format!("{}/v1/whoami", server.url), &[("authorization", &bearer), ("rapidclaw-api", spoken)])
    };
    // Then it answers whoever knows one that it knows.
    ask("1").ok();
    ask("1-99").ok();
    let newer = ask("98-99").problem(400, "api-version");
    assert!(newer.text.contains("speaks control API 1-1, the request 98-99"), "{newer:?}");
    assert!(newer.text.contains("on the server's machine"), "{newer:?}");
    assert!(ask("0").problem(400, "api-version").text.contains("where you call from"));
    ask("new").problem(400, "api-version-invalid");

    // A command line does as much with servers: one that shares no version is refused by it,
    let machine = Machine::new();
    let with = |url: &str| said(machine.command().args(["whoami", "--server", url]).env("RAPIDCLAW_TOKEN", "t"));
    let far = with(&answering("200 OK\r\nrapidclaw-api: 98-99", "{}")).fails(1);
    insta::assert_snapshot!(stable(&far, &machine.home()), @r"
    error: the server at http://127.0.0.1:[PORT] speaks control API 98-99, this command line 1-1

    hint: install the newer rapidclaw here
    ");
    with(&answering("200 OK\r\nrapidclaw-api: 0-0", "{}")).fails(1).says("on the server's machine");
    // one of another version that shares one is used, with a word,
    let who = r#"{"name":"admin","role":"admin","later":1,"server":{"id":"019a0000-0000-7000-8000-000000000000",
        "version":"9.9.9","agents_url":"https://a","pid":1,"engine":null}}"#;
    with(&answering("200 OK\r\nrapidclaw-api: 1-99", who))
        .ok()
        .says("warning: this is rapidclaw 0.1.0, the server is 9.9.9");
    // and an answer that is none is one.
    with(&answering("200 OK", "<html>")).fails(1).says("is not what this version expects");
    with(&answering("502 Bad Gateway", "<html>")).exits(1).says("the server refused: 502 Bad Gateway");
}

#[test]
fn logins_have_names() {
    // Given a server, and two logins to it under names of their own.
    let server = Server::start();
    let machine = Machine::new();
    let token = std::fs::read_to_string(server.machine.data_dir().join("admin-token")).unwrap().trim().to_owned();
    let login = |arguments: &[&str]| {
        let arguments = [&["login", &server.url, "--token-stdin"], arguments].concat();
        said_with_stdin(machine.command().args(arguments), &token).hides(&token).ok()
    };
    machine.rapidclaw(&["context", "list"]).ok();
    machine.rapidclaw(&["context", "use", "prod"]).fails(2).says("error: there is no context \"prod\"");
    let host = server.url.strip_prefix("http://").unwrap();
    login(&[]).prints(&format!("context {host}"));
    login(&["--context", "prod"]).prints("context prod");

    // Then the newest is the current one, and each can be named.
    let listed = machine.rapidclaw(&["context", "list"]).ok().out;
    assert_eq!(listed, format!("{host} {0} file -\nprod {0} file current\n", server.url));
    machine.rapidclaw(&["whoami"]).ok().prints("context prod, token from the file");
    machine.rapidclaw(&["whoami", "--context", host]).ok().prints(&format!("context {host}"));
    said(machine.command().arg("whoami").env("RAPIDCLAW_CONTEXT", host)).ok().prints(&format!("context {host}"));
    machine.rapidclaw(&["whoami", "--context", "none"]).fails(2).says("there are").says("prod");
    machine.rapidclaw(&["whoami", "--context", "prod", "--server", "https://x"]).exits(2).says("--server");
    // A flag goes before the environment, the environment before what rests.
    let elsewhere = "https://127.0.0.1:1";
    said(machine.command().arg("whoami").env("RAPIDCLAW_SERVER", elsewhere)).fails(4).says(elsewhere);
    said(machine.command().args(["whoami", "--context", "prod"]).env("RAPIDCLAW_SERVER", elsewhere)).ok();
    said(machine.command().arg("whoami").env("RAPIDCLAW_TOKEN", "rcadmin_wrong")).fails(4);
    said(machine.command().arg("whoami").env("RAPIDCLAW_TOKEN", &token)).ok().prints("token from the environment");

    // One can be chosen and forgotten.
    machine.rapidclaw(&["context", "use", host]).ok();
    let json = machine.rapidclaw(&["context", "list", "--json"]).ok().hides(&token).json();
    assert_eq!((&json["contexts"][0]["current"], &json["contexts"][1]["current"]), (&true.into(), &false.into()));
    machine.rapidclaw(&["context", "remove", host]).ok();
    machine.rapidclaw(&["whoami"]).fails(4).says("error: not logged in");
    machine.rapidclaw(&["logout", "--context", "prod"]).ok().prints("logged out of");
    assert!(!std::fs::read_to_string(machine.credentials()).unwrap().contains(&token));
}

#[test]
fn a_keyring_that_hangs_holds_nobody() {
    // Given a bus that accepts and never answers.
    let server = Server::start();
    let machine = Machine::new();
    let token = std::fs::read_to_string(server.machine.data_dir().join("admin-token")).unwrap().trim().to_owned();
    let bus = machine.home().join("bus");
    let _silent = UnixListener::bind(&bus).unwrap();
    let login = |arguments: &[&str]| {
        let mut command = machine.command();
        command.args([&["login", &server.url, "--token-stdin"], arguments].concat());
        command.env("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={}", bus.display()));
        said_with_stdin(&mut command, &token).hides(&token)
    };

    // Then a login waits two seconds for it and keeps the token in the file, with a word.
    let began = Instant::now();
    let said = login(&[]).ok();
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    insta::assert_snapshot!(stable(&said, &machine.home()), @"the token rests in [FOLDER]/.config/rapidclaw/credentials.json (the OS keyring did not answer within 2 s)");
    // What it knows later it does not ask again.
    let began = Instant::now();
    machine.rapidclaw(&["whoami"]).ok().prints("token from the file");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let wanted = login(&["--store", "keyring"]).fails(1);
    insta::assert_snapshot!(stable(&wanted, &machine.home()), @r"
    error: the OS keyring did not answer within 2 s

    hint: unlock or start it, or keep the token in a file: --store file
    ");
    // Who wants the file waits for nothing.
    let began = Instant::now();
    login(&["--store", "file"]).ok();
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

/// In a session with a bus and an unlocked keyring of its own.
const SESSION: &str = r#"
export XDG_DATA_HOME="$HOME/keyring" XDG_RUNTIME_DIR="$HOME/run"
mkdir -p "$XDG_DATA_HOME" && mkdir -p -m 700 "$XDG_RUNTIME_DIR"
printf pass | gnome-keyring-daemon --unlock --components=secrets >/dev/null
printf %s "$TOKEN" | "$RAPIDCLAW" login "$SERVER" --token-stdin
cat "$HOME/.config/rapidclaw/credentials.json"
"$RAPIDCLAW" whoami
"$RAPIDCLAW" logout
"$RAPIDCLAW" whoami
"#;

#[test]
fn a_token_rests_in_the_keyring() {
    let server = Server::start();
    let machine = Machine::new();
    let token = std::fs::read_to_string(server.machine.data_dir().join("admin-token")).unwrap().trim().to_owned();
    let mut command = Command::new("dbus-run-session");
    machine.clean(&mut command);
    command.args(["--", "sh", "-c", SESSION]).env("RAPIDCLAW", env!("CARGO_BIN_EXE_rapidclaw"));
    command.env("TOKEN", &token).env("SERVER", &server.url).env_remove("DBUS_SESSION_BUS_ADDRESS");
    let output = command.output().unwrap_or_else(|error| {
        panic!("this test needs a bus and a keyring (apt-get install dbus-daemon gnome-keyring): {error}")
    });
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(err.contains("the token rests in the OS keyring"), "{out}{err}");
    assert!(out.contains("\"store\": \"keyring\"") && !out.contains(&token), "{out}{err}");
    assert!(out.contains("token from the keyring") && out.contains("logged out of"), "{out}{err}");
    assert!(err.contains("error: not logged in") && output.status.code() == Some(4), "{out}{err}");
}

#[test]
fn a_proxy_sees_nothing_that_is_meant_for_this_machine() {
    // Given a proxy in the environment that writes down what it hears.
    let server = Server::start();
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", proxy.local_addr().unwrap());
    let token = std::fs::read_to_string(server.machine.data_dir().join("admin-token")).unwrap().trim().to_owned();
    let environment = [
        ("HTTP_PROXY", &url),
        ("http_proxy", &url),
        ("HTTPS_PROXY", &url),
        ("ALL_PROXY", &url),
        ("RAPIDCLAW_TOKEN", &token),
    ];

    // Then a call to this machine goes past it,
    said(server.machine.command().arg("whoami").envs(environment)).ok();
    proxy.set_nonblocking(true).unwrap();
    assert!(proxy.accept().is_err(), "the proxy was asked");
    proxy.set_nonblocking(false).unwrap();

    // and one to another host goes to it, with the token under TLS alone.
    let heard = std::thread::spawn(move || {
        let (mut stream, _) = proxy.accept().unwrap();
        let mut heard = [0; 4096];
        let length = stream.read(&mut heard).unwrap();
        stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").unwrap();
        String::from_utf8_lossy(&heard[..length]).into_owned()
    });
    let far =
        said(server.machine.command().args(["whoami", "--server", "https://rapidclaw.invalid"]).envs(environment));
    let heard = heard.join().unwrap();
    assert!(heard.starts_with("CONNECT rapidclaw.invalid:443") && !heard.contains(&token), "{heard}");
    insta::assert_snapshot!(stable(&far.fails(5), &server.machine.home()), @r"
    error: the server at https://rapidclaw.invalid cannot be reached
    caused by: tunnel error: unsuccessful

    hint: the way to it goes through the proxy of HTTPS_PROXY or ALL_PROXY: look whether that one answers and lets this through, and whether the server runs; NO_PROXY names hosts that are reached without it
    ");
}

/// A proxy that looks into TLS: it shows a certificate of its own for whatever host is asked for, and passes what it
/// reads on to `server` in clear. It runs until the test ends.
fn looking_proxy(authority: &Authority, host: &str, server: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (cert, key) = authority.issue("proxy", &[&format!("DNS:{host}")]);
    let chain = CertificateDer::pem_file_iter(cert).unwrap().collect::<Result<_, _>>().unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let server = server.strip_prefix("http://").unwrap().to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        runtime().block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((mut client, _)) = listener.accept().await {
                let (acceptor, server) = (acceptor.clone(), server.clone());
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(client.read_u8().await?);
                    }
                    assert!(head.starts_with(b"CONNECT "), "{}", String::from_utf8_lossy(&head));
                    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
                    let mut client = acceptor.accept(client).await?;
                    let mut server = tokio::net::TcpStream::connect(server).await?;
                    tokio::io::copy_bidirectional(&mut client, &mut server).await
                });
            }
        });
    });
    url
}

#[test]
fn a_proxy_with_an_authority_of_its_own() {
    // Given a server elsewhere, and a proxy on the way to it that looks into TLS.
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path());
    let server = Server::start();
    let token = std::fs::read_to_string(server.machine.data_dir().join("admin-token")).unwrap().trim().to_owned();
    server.rapidclaw(&["server", "stop"]).ok();
    let address = server.url.strip_prefix("http://").unwrap();
    let elsewhere = "https://rapidclaw.test";
    let start = ["server", "start", "--agents-listen=127.0.0.1:0", "--public-url", elsewhere, "--listen", address];
    server.rapidclaw(&start).ok();
    let proxy = looking_proxy(&authority, "rapidclaw.test", &server.url);
    let machine = Machine::new();
    let ca = authority.certificate();
    let command = |environment: &[(&str, &str)], arguments: &[&str]| {
        let mut command = machine.command();
        command.args(arguments).env("HTTPS_PROXY", &proxy).env("RAPIDCLAW_SERVER", elsewhere);
        said(command.env("RAPIDCLAW_TOKEN", &token).envs(environment.iter().copied())).hides(&token)
    };

    // Then who does not know its authority is told what to do, and shows it no token,
    insta::assert_snapshot!(stable(&command(&[], &["whoami"]).fails(5), folder.path()), @r"
    error: the server at https://rapidclaw.test cannot be reached
    caused by: invalid peer certificate: UnknownIssuer

    hint: if its certificate is of an authority of your own, or a proxy that looks into TLS has put its own in place: name that authority's certificate with --ca-file or RAPIDCLAW_CA_FILE
    ");
    // and who names it, in any of the three ways, is answered.
    let ca = ca.to_str().unwrap();
    command(&[], &["whoami", "--ca-file", ca]).ok().prints("(admin) on https://rapidclaw.test");
    for variable in ["RAPIDCLAW_CA_FILE", "SSL_CERT_FILE"] {
        command(&[(variable, ca)], &["status"]).ok();
    }
    // A login remembers it.
    let mut login = machine.command();
    login.args(["login", elsewhere, "--token-stdin", "--ca-file", ca]).env("HTTPS_PROXY", &proxy);
    said_with_stdin(&mut login, &token).ok();
    said(machine.command().arg("whoami").env("HTTPS_PROXY", &proxy)).ok().prints("(admin) on");
    // A proxy that is not there is not the server's fault.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gone = command(&[("HTTPS_PROXY", &format!("http://{free}"))], &["whoami"]).fails(5);
    insta::assert_snapshot!(stable(&gone, folder.path()), @r"
    error: the server at https://rapidclaw.test cannot be reached
    caused by: Connection refused (os error 111)

    hint: the way to it goes through the proxy of HTTPS_PROXY or ALL_PROXY: look whether that one answers and lets this through, and whether the server runs; NO_PROXY names hosts that are reached without it
    ");
}
