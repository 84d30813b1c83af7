//! A server with an agent for each cell, all brought into their phases at once, so that one kill meets them all.

use super::cell::{CELLS, Cell, Phase, Work};
use super::hold::{Database, Gates, Step};
use super::proxy::Proxy;
use super::table::Row;
use crate::machine::{Machine, Said, Server, docker_at, until};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;

/// Deploys at the same time: more would starve each other on two processors.
const AT_ONCE: usize = 4;
/// The CLI hands the code's layer to the engine with this: its deploy is in the phase `build`.
pub const LOAD: &str = "/images/load";
/// The server starts containers with this: the rollout is in the phase `start`.
pub const START: &str = "/start";

pub struct World {
    pub server: Server,
    pub cells: Vec<Cell>,
    pub gates: Gates,
    pub proxy: Proxy,
    // Last: when nothing runs on them.
    litter: Litter,
}

/// The images of one test, by the suffix of its agents' names: no other test has them, and they do not stay.
struct Litter {
    suffix: String,
    engine: String,
}

impl Litter {
    /// Tags and ids.
    fn images(&self) -> BTreeSet<String> {
        let reference = format!("reference=rapidclaw/f-*-{}", self.suffix);
        let format = "{{.Repository}}:{{.Tag}} {{.ID}}";
        let output =
            docker_at(Some(&self.engine), &["images", "--no-trunc", "--format", format, "--filter", &reference]);
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
    }
}

impl Drop for Litter {
    fn drop(&mut self) {
        for image in self.images() {
            docker_at(Some(&self.engine), &["rmi", "-f", image.split(' ').next().unwrap_or_default()]);
        }
    }
}

/// What a cell has to come to.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    /// The CLI's exit code; none when it was killed.
    pub exit: Option<i32>,
    /// Whether the new release serves in the end.
    pub new_serves: bool,
    /// What the CLI says, on stdout or stderr.
    pub says: &'static str,
}

/// The CLI waits, and all goes on to its end.
pub const WELL: Expected = Expected { exit: Some(0), new_serves: true, says: " live in " };

impl World {
    /// Every agent with what its cell begins with.
    pub fn new(engine: &Path) -> Self {
        let proxy = Proxy::before(engine);
        let server = Server::on(Machine::on(Some(proxy.host())), &[], &[]);
        let suffix = uuid::Uuid::new_v4().simple().to_string()[..6].to_owned();
        let gates = Gates::of(&server);
        let (todo, done) = (Mutex::new(CELLS.to_vec()), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    loop {
                        let Some((work, phase)) = todo.lock().unwrap().pop() else { return };
                        let mut cell = Cell::deployed(&server, &suffix, work, phase);
                        cell.prepare(&server);
                        done.lock().unwrap().push(cell);
                    }
                });
            }
        });
        let mut cells = done.into_inner().unwrap();
        cells.sort_by_key(|cell| (cell.work, cell.phase));
        let mut database = Database::of(&server);
        database.install();
        for cell in cells.iter().filter(|cell| cell.work == Work::Rollback) {
            database.end_standby(&cell.agent);
            // It looks at the clock when it is woken.
            server.rapidclaw(&["scale", &cell.agent, "auto"]).ok();
            server.until_containers(&cell.agent, 1);
        }
        let litter = Litter { suffix, engine: format!("unix://{}", engine.display()) };
        Self { server, cells, gates, proxy, litter }
    }

    /// Begins everything and waits until each is in its phase. With `made` the replicas of those in `start` have
    /// been started; else they are being started.
    pub fn enter_phases(&mut self, made: bool) -> Database {
        let mut database = Database::of(&self.server);
        for cell in &mut self.cells {
            match (cell.work, cell.phase) {
                (Work::RollbackToStandby, Phase::Ready) => database.hold(&cell.agent, Step::Switch),
                (_, Phase::Switch) => database.hold(&cell.agent, Step::End),
                (_, Phase::Ready) => self.gates.close(&cell.agent, "load"),
                (_, Phase::Draining) => {
                    self.gates.close(&cell.agent, "go");
                    cell.begin_turn(&self.server);
                }
                (_, Phase::Start) => database.hold(&cell.agent, Step::Ready),
                (_, Phase::Build) => {}
            }
        }
        let draining = self.cells.iter().filter(|cell| cell.phase == Phase::Draining).count();
        until("the runs that keep old releases draining", || {
            match database.count("SELECT count(*) FROM runs WHERE status = 'running'") {
                count if usize::try_from(count) == Ok(draining) => Ok(()),
                count => Err(count.to_string()),
            }
        });
        let natural = |cell: &Cell| cell.phase == Phase::Start && cell.work != Work::RollbackToStandby;
        for cell in self.cells.iter_mut().filter(|cell| cell.phase != Phase::Build && !natural(cell)) {
            cell.begin(&self.server);
        }
        for cell in &self.cells {
            match (cell.work, cell.phase) {
                (Work::RollbackToStandby, Phase::Start) => database.until_held(&cell.agent, Step::Ready),
                (Work::RollbackToStandby, Phase::Ready) => database.until_held(&cell.agent, Step::Switch),
                (_, Phase::Switch) => database.until_held(&cell.agent, Step::End),
                (_, Phase::Ready) => until_rollout(&mut database, cell, "running ready"),
                (_, Phase::Draining) => until_rollout(&mut database, cell, "succeeded switch"),
                (_, Phase::Start | Phase::Build) => {}
            }
        }
        if !made {
            self.proxy.hold(START);
        }
        let starting = self.cells.iter().filter(|cell| natural(cell)).count();
        for cell in self.cells.iter_mut().filter(|cell| natural(cell)) {
            cell.begin(&self.server);
        }
        for cell in self.cells.iter().filter(|cell| natural(cell) && made) {
            database.until_held(&cell.agent, Step::Ready);
        }
        if !made {
            self.until_waiting(START, starting);
        }
        self.proxy.hold(LOAD);
        for cell in self.cells.iter_mut().filter(|cell| cell.phase == Phase::Build) {
            cell.begin(&self.server);
        }
        self.until_waiting(LOAD, 1);
        for cell in &self.cells {
            let wanted = match cell.phase {
                Phase::Build | Phase::Draining => "succeeded switch",
                phase => &format!("running {}", phase.word()),
            };
            assert_eq!(database.rollout(&cell.agent), wanted, "{} is not in its phase", cell.agent);
            // Before the switch the old release serves, after it the new one.
            let word = &cell.words[usize::from(cell.phase == Phase::Draining)];
            let answer = self.server.turn(&cell.agent, &cell.key, "now", "hello");
            assert_eq!(answer, format!("{word} 1: hello"), "{}", cell.agent);
        }
        database
    }

    fn until_waiting(&self, text: &str, count: usize) {
        until(&format!("requests of {text} at the gate"), || match self.proxy.waiting(text) {
            found if found == count => Ok(()),
            found => Err(found.to_string()),
        });
    }

    /// Sees that all is as it must be, cell by cell, and that nothing is left behind.
    pub fn check(mut self, victim: &str, expected: impl Fn(Work, Phase) -> Expected) -> Vec<Row> {
        let mut database = Database::of(&self.server);
        let mut rows = Vec::new();
        let mut cells = std::mem::take(&mut self.cells);
        for cell in &mut cells {
            let expected = expected(cell.work, cell.phase);
            rows.push(self.check_cell(victim, cell, expected, &mut database));
        }
        // Nothing is left behind.
        until("as many folders as containers", || {
            let (folders, containers) = (self.server.replica_folders().len(), self.server.containers().len());
            if folders == containers { Ok(()) } else { Err(format!("{folders} folders, {containers} containers")) }
        });
        for sql in [
            "SELECT count(*) FROM runs WHERE status IN ('pending', 'running')",
            "SELECT count(*) FROM attempts WHERE state = 'live'",
            "SELECT count(*) FROM rollouts WHERE state = 'running'",
        ] {
            assert_eq!(database.count(sql), 0, "{sql}");
        }
        let ours = self.server.machine.data_dir().display().to_string();
        let processes: Vec<String> = processes_with(&ours);
        let servers = processes.iter().filter(|line| line.contains("server run")).count();
        assert!(
            servers == 1 && processes.iter().all(|line| line.contains("server run") || line.contains("postgres")),
            "{processes:?}"
        );
        let log = self.server.log();
        assert!(!log.contains("panicked"), "{log}");
        rows
    }

    fn check_cell(&self, victim: &str, cell: &mut Cell, expected: Expected, database: &mut Database) -> Row {
        let (server, agent) = (&self.server, cell.agent.clone());
        // The CLI ends as documented.
        let said = cell.said();
        let what = format!("{victim} x {} x {}: {said}", cell.work.words(), cell.phase.word());
        assert_eq!(said.code(), expected.exit, "{what}");
        assert!(said.out.contains(expected.says) || said.err.contains(expected.says), "{:?} in {what}", expected.says);
        if expected.exit == Some(6) {
            evidence(&said, cell);
        }
        // Status, releases and rollouts agree with what is served.
        let which = usize::from(expected.new_serves);
        let (word, version) = (&cell.words[which], cell.versions[which]);
        server.until_status(&agent, &format!("{agent} v{version} running 1 replica "));
        assert_eq!(server.turn(&agent, &cell.key, "t", "second"), format!("{word} 2: second"), "{what}");
        let releases = server.rapidclaw(&["releases", &agent, "--json"]).ok().json()["releases"].take();
        let serving: Vec<_> = releases.as_array().unwrap().iter().filter(|one| one["serving"] == true).collect();
        assert!(serving.len() == 1 && serving[0]["version"] == version, "{what}: {releases}");
        let newest = cell.newest(server, "rollouts");
        let state = if expected.exit == Some(6) { "failed" } else { "succeeded" };
        assert_eq!(newest["state"], state, "{what}: {newest}");
        // The run that was under way has been answered, and was said once.
        let mut outcome = format!("v{version} serves");
        if let Some(turn) = cell.turn.take() {
            let answer = turn.join().unwrap().unwrap_or_else(|error| panic!("{what}: {error}; log:\n{}", server.log()));
            assert!(cell.words.iter().any(|word| answer == format!("{word} 1: wait")), "{what}: {answer}");
            outcome += if answer.starts_with(&cell.words[0]) {
                ", the run ended where it was"
            } else {
                ", the run went on in it"
            };
        }
        // No container, and no image, that belongs to nothing.
        let [own_generation, _] = database.generations(&agent);
        until(&format!("the containers of {agent}"), || {
            let format = "{{.State}} {{.Label \"rapidclaw.rollout\"}}";
            let filters = [format!("label=rapidclaw.server={}", server.id), format!("label=rapidclaw.agent={agent}")];
            let arguments = ["ps", "-a", "--format", format, "--filter", &filters[0], "--filter", &filters[1]];
            let output = server.machine.docker(&arguments);
            let text = String::from_utf8(output.stdout).unwrap();
            let own = text.lines().filter(|line| line.ends_with(&own_generation)).count();
            let strange = text.lines().count() - own;
            let fine = own == 1
                && strange <= usize::from(expected.new_serves)
                && text.lines().all(|line| line.starts_with("running "));
            if fine { Ok(()) } else { Err(format!("{text}; {own_generation} serves")) }
        });
        let known: BTreeSet<&str> =
            releases.as_array().unwrap().iter().map(|one| one["image"].as_str().unwrap()).collect();
        for image in self.litter.images().iter().filter(|image| image.contains(&format!("/{agent}:"))) {
            assert!(known.contains(image.split(' ').nth(1).unwrap()), "{what}: {image} has no release");
        }
        let exit = match (expected.exit, cell.phase) {
            (None, _) => "killed".to_owned(),
            (Some(code), Phase::Draining) => format!("{code} (had ended)"),
            (Some(code), _) => code.to_string(),
        };
        Row { victim: victim.to_owned(), work: cell.work.words(), phase: cell.phase.word(), outcome, exit }
    }
}

/// Why it failed, in the replica's own words, and what serves.
fn evidence(said: &Said, cell: &Cell) {
    let serves = format!("v{} still serves", cell.versions[0]);
    for text in ["error: a replica ended with code 137 before it was ready", &serves] {
        assert!(said.err.contains(text), "{text:?} is not in {said}");
    }
    let errors = said.err.lines().filter(|line| line.starts_with("error: ")).count();
    assert_eq!(errors, 1, "{said}");
}

fn until_rollout(database: &mut Database, cell: &Cell, wanted: &str) {
    until(&format!("{} {wanted}", cell.agent), || match database.rollout(&cell.agent) {
        found if found == wanted => Ok(()),
        found => Err(found),
    });
}

/// Command lines that name something.
fn processes_with(text: &str) -> Vec<String> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = all.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " ")).filter(|line| line.contains(text)).collect()
}
