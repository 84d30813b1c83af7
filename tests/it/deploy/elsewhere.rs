//! A CI job and a server elsewhere: two machines, each with a Docker Engine and a network of its own, and a cable
//! between them. The image is made on the one, by a job without terminal and without home, and runs on the other.

use crate::machine::{Authority, ECHO, Engine, Machine, Project, Said, Server, need_docker, said, until, walk};
use serde_json::{Value, json};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// Dropped from the top: what runs goes before the engine that it runs on.
struct World {
    /// Here applications and the operator are, too: what a test does itself.
    server: Server,
    ci: Machine,
    ci_engine: Engine,
    server_engine: Engine,
    authority: Authority,
    token: String,
    /// The job's checked-out project, and its files for GitHub Actions.
    project: Project,
    step: TempDir,
}

impl World {
    fn new(name: &str) -> Self {
        need_docker();
        // The dependencies' image is copied into the job's engine, as a CI machine keeps what it built before:
        // between the two machines there is a cable and nothing else, and no index of packages at its end.
        let project = Project::new(name);
        let kept = Machine::new();
        let built = said(kept.command().args(["build", "--json"]).current_dir(project.path())).ok().json();
        let ci_engine = Engine::for_builds_of(built["image"].as_str().unwrap());
        let server_engine = Engine::start();
        let [_, address] = ci_engine.join(&server_engine);
        let step = tempfile::tempdir().unwrap();
        let authority = Authority::new(step.path());
        let (cert, key) = authority.issue("server", &[&format!("IP:{address}")]);
        // Ports that nobody else has: the network is its own.
        let (url, agents) = (format!("https://{address}:4120"), format!("https://{address}:4121"));
        let mut arguments = vec!["--public-url", &url, "--agents-public-url", &agents];
        arguments.extend(["--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()]);
        let ca = authority.certificate();
        let at = [&url["https://".len()..], &agents["https://".len()..]];
        let machine = Machine::beside(&server_engine);
        let server = Server::listening(machine, at, &arguments, &["--ca-file", ca.to_str().unwrap()]);
        let token = std::fs::read_to_string(server.machine.data_dir().join("admin-token")).unwrap().trim().to_owned();
        Self { server, ci: Machine::beside(&ci_engine), ci_engine, server_engine, authority, token, project, step }
    }

    /// A step of the job: what it says to which server is in its environment alone.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.ci.command();
        command.args(arguments).current_dir(self.project.path()).env("CI", "true").env("GITHUB_ACTIONS", "true");
        command.env("GITHUB_WORKSPACE", self.project.path());
        command.env("GITHUB_OUTPUT", self.step.path().join("output"));
        command.env("GITHUB_STEP_SUMMARY", self.step.path().join("summary"));
        command.env("RAPIDCLAW_SERVER", &self.server.url).env("RAPIDCLAW_TOKEN", &self.token);
        command.env("RAPIDCLAW_CA_FILE", self.authority.certificate());
        command
    }

    /// Its end. The token is in nothing that it says.
    fn ci(&self, arguments: &[&str]) -> Said {
        said(&mut self.command(arguments)).hides(&self.token)
    }

    fn begin(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn end(&self, child: Child) -> Said {
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said::new("deploy", output.status.code(), text(&output.stdout), text(&output.stderr)).hides(&self.token)
    }

    /// What has come of uploads that are not whole.
    fn uploads(&self) -> Vec<(String, u64)> {
        let files = walk(&self.server.machine.data_dir().join("registry/repositories"));
        files.into_iter().filter(|file| file.0.contains("/_uploads/")).collect()
    }

    /// Begins a deploy, waits until a part of an image is there, and kills the server while the rest is under way.
    fn deploy_and_kill_the_server_in_the_middle_of_the_push(&self, arguments: &[&str]) -> Child {
        // What another push has left is still there.
        let before = self.uploads();
        let is_new = |file: &&(String, u64)| before.iter().all(|one| one.0 != file.0);
        let arrived = || self.uploads().iter().filter(is_new).map(|file| file.1).sum::<u64>();
        let deploy = self.begin(arguments);
        until("an upload", || match arrived() {
            0..1_000_000 => Err("no part of an image".to_owned()),
            _ => Ok(()),
        });
        assert!(Command::new("kill").args(["-STOP", &self.server.pid]).status().unwrap().success());
        assert!(arrived() > 0, "the push was over before the server could be killed");
        self.server.kill();
        deploy
    }

    /// What the server's registry holds: name and bytes.
    fn blobs(&self) -> Vec<(String, u64)> {
        walk(&self.server.machine.data_dir().join("registry/blobs"))
    }

    /// Bytes of what is there now and was not before.
    fn since(&self, before: &[(String, u64)]) -> Vec<u64> {
        self.blobs().into_iter().filter(|blob| !before.contains(blob)).map(|blob| blob.1).collect()
    }

    /// An application beside the job calls the agent: over the cable and TLS, by the URL that the deploy printed.
    fn turn(&self, url: &str, key: &str, thread: &str, message: &str) -> String {
        let body = json!({ "thread_id": thread, "user_id": "tester", "message": message }).to_string();
        let mut curl = self.ci.program("curl");
        curl.args(["-sS", "--fail-with-body", "--max-time", "60", "--cacert"]).arg(self.authority.certificate());
        curl.args(["-H", &format!("x-api-key: {key}"), "-H", "content-type: application/json", "-d", &body]);
        let answer = said(curl.arg(format!("{url}/v1/chat"))).ok().json();
        answer["result"].as_str().unwrap_or_else(|| panic!("no result: {answer}")).to_owned()
    }

    fn images_of_ci(&self) -> String {
        self.ci_engine.docker(&["images", "-a", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}"]).1
    }
}

#[test]
fn a_job_deploys_changes_and_takes_back() {
    // Given a job on one machine, and a server on another.
    let world = World::new("e2e-ci");
    let url = format!("{}/agents/e2e-ci", world.server.agents_url);

    // When it logs in, the token stays in its environment, and nothing asks.
    world.ci(&["login"]).ok().prints("as admin (admin)").says("the token of RAPIDCLAW_TOKEN is stored nowhere");
    world.ci(&["status"]).ok();
    world.ci(&["doctor"]).ok().prints("ok    server: that of this login is at https://");
    assert!(
        walk(&world.ci.home()).iter().all(|file| !std::fs::read_to_string(&file.0).unwrap().contains(&world.token))
    );

    // When it deploys, the image is made by its engine and runs on the server's, and nowhere else.
    let before = world.blobs();
    let deployed = world.ci(&["deploy"]).ok().prints("e2e-ci v1 live in ").prints(&format!("url: {url}\n"));
    let key = deployed.key();
    let moved: u64 = world.since(&before).iter().sum();
    assert!(moved > 10_000_000, "{moved} bytes were moved");
    let replicas = |engine: &Engine| engine.docker(&["ps", "-q", "--filter", "label=rapidclaw.agent=e2e-ci"]).1;
    assert_eq!((replicas(&world.server_engine).lines().count(), replicas(&world.ci_engine)), (1, String::new()));
    let output = std::fs::read_to_string(world.step.path().join("output")).unwrap();
    assert!(output.contains("agent=e2e-ci\nversion=1\n") && output.contains(&format!("url={url}\n")), "{output}");
    assert_eq!(world.turn(&url, &key, "t1", "one"), "hello 1: one");
    // The same again is no release.
    world.ci(&["deploy"]).ok().prints("nothing changed");

    // When a line has changed, in a job without the `.env` that only the first one had, a small layer is moved.
    world.project.write("agent.py", &ECHO.replace("{len(said)}", "{len(said)}!"));
    world.project.remove(".env");
    let before = world.blobs();
    world.ci(&["deploy", "--dry-run", "--exit-code"]).exits(8);
    let changed = world.ci(&["deploy", "--json"]).ok().json();
    assert_eq!((&changed["type"], &changed["version"], &changed["exit"]), (&json!("result"), &json!(2), &json!(0)));
    let moved = world.since(&before);
    assert_eq!(moved.len(), 3, "a layer, a config, a manifest: {moved:?}");
    assert!(moved.iter().sum::<u64>() < 40_000, "{moved:?}");
    assert_eq!(world.turn(&url, &key, "t1", "two"), "hello 2!: one");

    // When it takes that back, nothing is built and nothing is moved.
    let (blobs, images) = (world.blobs(), world.images_of_ci());
    world.ci(&["rollback", "--agent", "e2e-ci"]).ok().prints("e2e-ci v3 (v1 again) live in ");
    assert_eq!((world.blobs(), world.images_of_ci()), (blobs, images));
    assert_eq!(world.turn(&url, &key, "t1", "three"), "hello 3: one");
    world.ci(&["status", "e2e-ci"]).ok().prints("e2e-ci v3 running 1 replica p95=");
    let status = world.ci(&["status", "--json"]).ok().json();
    let agent = &status["agents"][0];
    assert_eq!(
        (&status["schema"], &agent["version"], &agent["state"]),
        (&json!("rapidclaw.status/v1"), &json!(3), &json!("running"))
    );
    assert_eq!(agent["url"], json!(url));

    // What goes wrong ends the job with its code, and what served serves on.
    world.project.write("agent.py", &format!("raise SystemExit('no')\n{ECHO}"));
    world.ci(&["deploy"]).exits(6).says("::error title=rapidclaw deploy::").says("SystemExit");
    world.project.remove("agent.py");
    world.ci(&["deploy"]).exits(3).says("::error file=langgraph.json,line=1,col=20,");
    world.ci(&["status", "e2e-none"]).exits(1);
    world.ci(&["deploy", "--no-such"]).exits(2);
    said(world.command(&["status"]).env("RAPIDCLAW_TOKEN", "rcadmin_wrong")).exits(4);
    said(world.command(&["status"]).env("RAPIDCLAW_SERVER", "https://10.213.7.2:4199")).exits(5);
    assert_eq!(world.turn(&url, &key, "t1", "four"), "hello 4: one");
    world.ci(&["destroy", "e2e-ci", "--yes"]).ok();
    for file in ["output", "summary"] {
        let text = std::fs::read_to_string(world.step.path().join(file)).unwrap();
        assert!(!text.contains(&world.token) && !text.contains(&key), "{file}: {text}");
    }
}

#[test]
fn a_push_that_is_cut_off() {
    let mut world = World::new("e2e-cut");
    let url = format!("{}/agents/e2e-cut", world.server.agents_url);
    // Given a job that trusts another authority, when it deploys, nothing is built and nothing is sent.
    let stranger = tempfile::tempdir().unwrap();
    let other = Authority::new(stranger.path()).certificate();
    let images = world.images_of_ci();
    let refused = said(world.command(&["deploy"]).env("RAPIDCLAW_CA_FILE", other)).hides(&world.token).exits(5);
    refused.says("invalid peer certificate: ").says("name that authority's certificate with --ca-file");
    assert_eq!((world.images_of_ci(), world.blobs()), (images, vec![]));

    // When the server dies in the middle of a push and stays away, the job fails for want of it.
    let deploy = world.deploy_and_kill_the_server_in_the_middle_of_the_push(&["deploy"]);
    world.end(deploy).fails(5).says("cannot be reached").says("the same command goes on");
    world.server.start_again();
    assert_eq!(world.server.rapidclaw(&["status"]).ok().out, "", "an agent of which half an image is there");

    // When it comes back at once, the push goes on where it broke off, and the job never knows.
    let deploy = world.deploy_and_kill_the_server_in_the_middle_of_the_push(&["deploy", "--json"]);
    world.server.start_again();
    let done: Value = world.end(deploy).ok().json();
    assert_eq!((&done["version"], &done["exit"]), (&json!(1), &json!(0)), "{done}");
    let key = done["key"].as_str().unwrap();
    assert_eq!(world.turn(&url, key, "t1", "one"), "hello 1: one");
    world.server.rapidclaw(&["destroy", "e2e-cut", "--yes"]).ok();
}
