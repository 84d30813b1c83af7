//! A machine without Docker Engine, in a network of its own: nothing but its loopback, on which one port leads to the
//! test's server. What passes is counted, and can be cut.

use super::{Machine, Server, until};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

/// The port there that leads to the server.
const PORT: u16 = 4190;

/// Passes connections on to a Unix socket, which is reached from every network.
const RELAY: &str = r"
import asyncio, sys
async def copy(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data); await writer.drain()
        writer.write_eof()
    except OSError:
        writer.transport.abort()
async def passed(reader, writer):
    there = await asyncio.open_unix_connection(sys.argv[1])
    await asyncio.gather(copy(reader, there[1]), copy(there[0], writer))
    for one in (writer, there[1]): one.close()
async def main():
    server = await asyncio.start_server(passed, '127.0.0.1', int(sys.argv[2]))
    open(sys.argv[3], 'w').close()
    await server.serve_forever()
asyncio.run(main())
";

pub struct Apart {
    pub machine: Machine,
    relay: Child,
    sent: Arc<AtomicU64>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    token: String,
    _folder: TempDir,
}

impl Apart {
    /// With a way to the server.
    pub fn from(server: &Server) -> Self {
        let folder = tempfile::Builder::new().prefix("rc-apart-").tempdir().unwrap();
        let (socket, ready) = (folder.path().join("socket"), folder.path().join("ready"));
        let listener = UnixListener::bind(&socket).unwrap();
        let address = server.url.split_once("://").unwrap().1.to_owned();
        let (sent, open) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (count, kept) = (Arc::clone(&sent), Arc::clone(&open));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let there = TcpStream::connect(&address).unwrap();
                kept.lock().unwrap().push(there.try_clone().unwrap());
                let (back, to) = (stream.try_clone().unwrap(), there.try_clone().unwrap());
                let count = Arc::clone(&count);
                std::thread::spawn(move || copy(stream, to, Some(&count)));
                std::thread::spawn(move || copy(there, back, None));
            }
        });
        let script = "ip link set lo up && exec python3 -c \"$0\" \"$@\"";
        let mut relay = Command::new("unshare")
            .args(["-n", "sh", "-c", script, RELAY])
            .arg(&socket)
            .arg(PORT.to_string())
            .arg(&ready)
            .stdin(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("this test needs unshare (util-linux): {error}"));
        until("a network of the machine's own (this test needs root, ip and python3)", || {
            let ended = relay.try_wait().unwrap();
            if ready.exists() { Ok(()) } else { Err(format!("{ended:?}")) }
        });
        let network = PathBuf::from(format!("/proc/{}/ns/net", relay.id()));
        let machine = Machine::in_network(&network, Some("unix:///nowhere/docker.sock".to_owned()));
        let token = std::fs::read_to_string(server.machine.data_dir().join("admin-token")).unwrap().trim().to_owned();
        Self { machine, relay, sent, open, token, _folder: folder }
    }

    /// A command there, logged in by its environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.machine.command();
        command.args(arguments);
        command.env("RAPIDCLAW_SERVER", format!("http://127.0.0.1:{PORT}")).env("RAPIDCLAW_TOKEN", &self.token);
        command
    }

    /// Bytes that went to the server.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Cuts all connections that are open.
    pub fn cut(&self) {
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

trait Halves: Read + Send {
    fn end(&self, how: Shutdown);
}

impl Halves for TcpStream {
    fn end(&self, how: Shutdown) {
        let _ = self.shutdown(how);
    }
}

impl Halves for UnixStream {
    fn end(&self, how: Shutdown) {
        let _ = self.shutdown(how);
    }
}

fn copy<T: Halves + Write>(mut from: impl Halves, mut to: T, count: Option<&AtomicU64>) {
    let mut piece = vec![0; 64 << 10];
    loop {
        match from.read(&mut piece) {
            Ok(0) | Err(_) => break,
            Ok(read) => {
                if let Some(count) = count {
                    count.fetch_add(read as u64, Ordering::Relaxed);
                }
                if to.write_all(&piece[..read]).is_err() {
                    from.end(Shutdown::Both);
                    break;
                }
            }
        }
    }
    to.end(Shutdown::Write);
}

impl Drop for Apart {
    fn drop(&mut self) {
        let _ = self.relay.kill();
        let _ = self.relay.wait();
    }
}
