//! A way to Docker Engine that can be made slow: requests whose path has some text wait at a gate.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use tempfile::TempDir;

/// What is done with a request that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    Open,
    Held,
    /// Who sent it is dead.
    Dropped,
}

#[derive(Default)]
struct State {
    held: Vec<(&'static str, Gate)>,
    waiting: Vec<&'static str>,
}

type Shared = Arc<(Mutex<State>, Condvar)>;

pub struct Proxy {
    folder: TempDir,
    state: Shared,
}

impl Proxy {
    /// In front of the engine at this socket.
    pub fn before(engine: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("s")).unwrap();
        let state: Shared = Arc::default();
        let (engine, shared) = (engine.to_owned(), Arc::clone(&state));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (engine, shared) = (engine.clone(), Arc::clone(&shared));
                std::thread::spawn(move || serve(&client, &engine, &shared));
            }
        });
        Self { folder, state }
    }

    /// What `DOCKER_HOST` is to say.
    pub fn host(&self) -> String {
        format!("unix://{}", self.folder.path().join("s").display())
    }

    /// From now on requests with this text in their first line wait.
    pub fn hold(&self, text: &'static str) {
        self.state.0.lock().unwrap().held.push((text, Gate::Held));
    }

    /// How many do.
    pub fn waiting(&self, text: &str) -> usize {
        self.state.0.lock().unwrap().waiting.iter().filter(|one| **one == text).count()
    }

    /// Lets them go on, or, where who sent them is dead, nowhere.
    pub fn release(&self, text: &str, drop_them: bool) {
        let mut state = self.state.0.lock().unwrap();
        let gate = if drop_them { Gate::Dropped } else { Gate::Open };
        state.held.iter_mut().filter(|(held, _)| *held == text).for_each(|held| held.1 = gate);
        self.state.1.notify_all();
        // Those that wait have to see it before a new one comes.
        while state.waiting.contains(&text) {
            state = self.state.1.wait(state).unwrap();
        }
        state.held.retain(|(held, _)| *held != text);
    }
}

fn serve(client: &UnixStream, engine: &PathBuf, shared: &Shared) {
    let Ok(upstream) = UnixStream::connect(engine) else { return };
    let back = (upstream.try_clone().unwrap(), client.try_clone().unwrap());
    std::thread::spawn(move || pass(back.0, back.1, None));
    pass(client.try_clone().unwrap(), upstream, Some(shared));
}

fn pass(mut from: UnixStream, mut to: UnixStream, shared: Option<&Shared>) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(count) = from.read(&mut bytes) {
        let part = &bytes[..count];
        if count == 0 || shared.is_some_and(|shared| !may_pass(part, shared)) || to.write_all(part).is_err() {
            break;
        }
    }
    let _ = from.shutdown(std::net::Shutdown::Both);
    let _ = to.shutdown(std::net::Shutdown::Both);
}

/// Waits at the gate where there is one. A request comes in one piece, or its head does.
fn may_pass(part: &[u8], shared: &Shared) -> bool {
    let end = part.iter().position(|byte| *byte == b'\r').unwrap_or(0).min(512);
    let line = String::from_utf8_lossy(&part[..end]);
    let mut state = shared.0.lock().unwrap();
    let is_request = line.starts_with("POST /");
    let Some(text) = state.held.iter().map(|(held, _)| *held).find(|held| is_request && line.contains(held)) else {
        return true;
    };
    state.waiting.push(text);
    loop {
        let gate = state.held.iter().find(|(held, _)| *held == text).map_or(Gate::Open, |held| held.1);
        if gate != Gate::Held {
            let at = state.waiting.iter().position(|one| *one == text).unwrap();
            state.waiting.remove(at);
            shared.1.notify_all();
            return gate == Gate::Open;
        }
        state = shared.1.wait(state).unwrap();
    }
}
