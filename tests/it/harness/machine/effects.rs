//! What tools do outside their replica: a service on this machine that does a thing once for each key, as
//! payment services do, and remembers what it was asked.

use super::docker_said;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What was asked under one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// What was to be done. Something else under the same key is refused.
    pub what: String,
    /// What came of it.
    pub result: usize,
    /// How often it was asked for.
    pub calls: usize,
}

/// The service. Agents reach it as [`Effects::host`], where the server is told [`Effects::resolve`].
pub struct Effects {
    address: std::net::SocketAddr,
    done: Arc<Mutex<BTreeMap<String, Effect>>>,
    refused: Arc<Mutex<Vec<String>>>,
}

/// The way of a graph to the service: `effect(what)`, under the key of the step that calls it.
pub const EFFECT: &str = r#"
import asyncio as _asyncio, json as _json, os as _os, urllib.request as _request
from rapidclaw_runner import step_key

async def effect(what):
    body = _json.dumps({"key": step_key(), "what": what}).encode()
    def ask():
        with _request.urlopen(_os.environ["EFFECTS"], body, timeout=30) as answer:
            return _json.load(answer)["result"]
    return step_key(), await _asyncio.to_thread(ask)
"#;

/// An address of this machine that agents may be let through to: none may reach its loopback.
pub fn bridge() -> Ipv4Addr {
    let format = "{{range .IPAM.Config}}{{.Gateway}} {{.Subnet}}{{end}}";
    let said = docker_said(&["network", "inspect", "bridge", "-f", format]);
    let (gateway, subnet) = said.split_once(' ').unwrap();
    // An engine that has found its bridge there does not name the gateway: it is the first address.
    let first = |subnet: &str| -> Ipv4Addr {
        let network: Ipv4Addr = subnet.split('/').next().unwrap().parse().unwrap();
        (u32::from(network) + 1).into()
    };
    gateway.parse().unwrap_or_else(|_| first(subnet))
}

impl Effects {
    pub fn start() -> Self {
        let listener = TcpListener::bind((bridge(), 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (done, refused) = (Arc::<Mutex<BTreeMap<_, _>>>::default(), Arc::<Mutex<Vec<_>>>::default());
        let state = (Arc::clone(&done), Arc::clone(&refused));
        // It ends with the test.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = state.clone();
                std::thread::spawn(move || answer(&stream, &state.0, &state.1));
            }
        });
        Self { address, done, refused }
    }

    /// `--resolve` for the server.
    pub fn resolve(&self) -> String {
        format!("--resolve=effects.example.com:{}:{}", self.address.port(), self.address.ip())
    }

    /// For `allowed_hosts`.
    pub fn host(&self) -> String {
        format!("effects.example.com:{}", self.address.port())
    }

    /// For the agent's `.env`.
    pub fn env(&self) -> String {
        format!("EFFECTS=http://{}/\n", self.host())
    }

    /// All that was done, by key. Nothing may have been refused.
    #[track_caller]
    pub fn done(&self) -> BTreeMap<String, Effect> {
        assert_eq!(*self.refused.lock().unwrap(), Vec::<String>::new(), "one key for two things");
        self.done.lock().unwrap().clone()
    }
}

/// A replica that is killed closes its connection in the middle: nobody hears of that.
fn answer(stream: &TcpStream, done: &Mutex<BTreeMap<String, Effect>>, refused: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let asked: Value = serde_json::from_slice(&body).ok()?;
    let (key, what) = (asked["key"].as_str()?.to_owned(), asked["what"].as_str()?.to_owned());
    let (status, said) = {
        let mut done = done.lock().unwrap();
        let next = done.len() + 1;
        let effect = done.entry(key.clone()).or_insert(Effect { what: what.clone(), result: next, calls: 0 });
        effect.calls += 1;
        if effect.what == what {
            ("200 OK", json!({ "result": effect.result }))
        } else {
            refused.lock().unwrap().push(format!("{key}: {} and {what}", effect.what));
            ("409 Conflict", json!({}))
        }
    };
    let said = said.to_string();
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n", said.len());
    let mut stream = stream;
    stream.write_all(format!("{head}Connection: close\r\n\r\n{said}").as_bytes()).ok()
}
