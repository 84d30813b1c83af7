//! What a replica has open to models and hosts when the server is replaced: the one that goes stays for it.

use crate::machine::{Project, Server, bridge, until};
use serde_json::json;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

/// One connection to the model gateway and one to a host, kept from turn to turn.
const CODE: &str = r#"import asyncio, http.client, os, socket
from urllib.parse import urlsplit

from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph

MODEL, TUNNEL = http.client.HTTPConnection(urlsplit(os.environ["ANTHROPIC_BASE_URL"]).netloc, timeout=60), []


def call(path):
    # The library makes a new connection where the last answer said close, and never tries again.
    if MODEL.sock is None:
        MODEL.connect()
    port = MODEL.sock.getsockname()[1]
    MODEL.request("GET", urlsplit(os.environ["ANTHROPIC_BASE_URL"]).path + path, headers={"x-api-key": os.environ["ANTHROPIC_API_KEY"]})
    answer = MODEL.getresponse()
    return f"{port} {answer.read().decode()} {answer.getheader('connection')}"


def tunnel():
    if not TUNNEL:
        host, port = os.environ["HOST"].split(":")
        TUNNEL.append(socket.create_connection((host, int(port)), 60))
    TUNNEL[0].sendall(b"who\n")
    return TUNNEL[0].recv(64).decode()


def act(word):
    if word == "tunnel":
        return tunnel()
    if word == "close":
        MODEL.close()
        TUNNEL.pop().close()
        return word
    return call(word)


async def node(state: MessagesState) -> dict:
    return {"messages": [AIMessage(await asyncio.to_thread(act, state["messages"][-1].content))]}


graph = StateGraph(MessagesState).add_node(node).add_edge(START, "node").compile()
"#;

/// A model provider and a host: each connection is told its number.
struct Outside {
    address: std::net::SocketAddr,
    /// Hears that a stream has begun.
    begun: Receiver<()>,
    /// Lets it end.
    end: Sender<()>,
}

impl Outside {
    fn start() -> Self {
        let listener = TcpListener::bind((bridge(), 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let ((tell, begun), (end, may_end)) = (channel(), channel());
        let may_end = Arc::new(Mutex::new(may_end));
        // It ends with the test.
        std::thread::spawn(move || {
            for (n, stream) in listener.incoming().flatten().enumerate() {
                let (tell, may_end) = (tell.clone(), Arc::clone(&may_end));
                std::thread::spawn(move || answer(&stream, n, &tell, &may_end));
            }
        });
        Self { address, begun, end }
    }
}

fn answer(stream: &TcpStream, n: usize, tell: &Sender<()>, may_end: &Mutex<Receiver<()>>) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
    let mut stream = stream;
    while let Some(Ok(line)) = lines.next() {
        if line == "who" {
            stream.write_all(n.to_string().as_bytes()).ok()?;
        } else if line.starts_with("GET /one ") {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none").ok()?;
        } else if line.starts_with("GET /stream ") {
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n").ok()?;
            tell.send(()).ok()?;
            may_end.lock().unwrap().recv().ok()?;
            stream.write_all(b"4\r\n-two\r\n0\r\n\r\n").ok()?;
        }
    }
    Some(())
}

fn is_alive(pid: &str) -> bool {
    // A zombie is none: nobody waits for a server that was started in the background.
    let mut stat = String::new();
    let read = std::fs::File::open(format!("/proc/{pid}/stat")).and_then(|mut file| file.read_to_string(&mut stat));
    read.is_ok() && !stat.contains(") Z ")
}

#[test]
fn a_restart_cuts_no_model_stream_and_no_tunnel_of_the_runs_that_begin_after_it() {
    let outside = Outside::start();
    let host = format!("ways.example.com:{}", outside.address.port());
    let resolve = format!("--resolve={host}:{}", outside.address.ip());
    let provider = format!("--provider=anthropic=http://{}", outside.address);
    let server = Server::with(&[&resolve, &provider]);
    let project = Project::new("e2e-ways-out")
        .set("rapidclaw.security.allowed_hosts", json!([host]))
        .env(&format!("ANTHROPIC_API_KEY=sk-ways\nHOST={host}\n"))
        .graph(CODE);
    let key = server.deploy(&project).ok().key();
    let turn = |what: &str| server.turn("e2e-ways-out", &key, what, what);

    // Given a replica that has a pooled connection to its models, and one to a host.
    let first = turn("/one");
    let (port, said) = first.split_once(' ').unwrap();
    assert_eq!(said, "one None");
    assert_eq!(turn("/one"), first, "the connection is not pooled");
    let tunnel = turn("tunnel");

    // When another server takes over, a run of its own streams over the connection through the one before,
    server.rapidclaw(&["server", "restart"]).ok();
    let says = |what: &str| until(what, || if server.log().contains(what) { Ok(()) } else { Err(server.log()) });
    says("another server has taken over");
    std::thread::scope(|scope| {
        let stream = scope.spawn(|| turn("/stream"));
        outside.begun.recv_timeout(crate::machine::PATIENCE).unwrap();
        // which has nothing else to do any more;
        until("the first server waits for the replica alone", || {
            let log = server.log();
            let waits = log.lines().any(|line| line.contains("replicas still use") && line.contains("open=2"));
            if waits && is_alive(&server.pid) { Ok(()) } else { Err(log) }
        });
        outside.end.send(()).unwrap();
        // then it is told whole, and that the connection ends with it.
        assert_eq!(stream.join().unwrap(), format!("{port} one-two close"));
    });
    let next = turn("/one");
    assert!(next.ends_with(" one None") && !next.starts_with(port), "{next} is not by a new connection");
    // The one to the host lasts for as long as its client wants, and the server no longer.
    assert_eq!(turn("tunnel"), tunnel);
    assert!(is_alive(&server.pid));
    turn("close");
    until("the first server's end", || if is_alive(&server.pid) { Err(server.log()) } else { Ok(()) });
    assert_ne!(turn("tunnel"), tunnel);

    // And no task has failed where all went in order.
    server.rapidclaw(&["server", "restart"]).ok();
    let log = server.log();
    assert!(!log.contains("a task has failed"), "{log}");
}
