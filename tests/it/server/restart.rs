//! `server restart`, which nobody notices: those who wait, replicas that end what they run, a rollout under way.

use crate::machine::{Answer, Server, docker_said, try_post, until};
use crate::supervision::agent::{project, turn};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const CLIENTS: usize = 8;
/// Longer than a replica that is told to end may take.
const STOPPED_BY: Duration = Duration::from_secs(13);

#[test]
fn clients_that_wait_in_a_queue_get_their_answers_over_a_restart_and_no_place_is_given_twice() {
    // Given an agent with two places, and more clients than that, each with turn after turn on a thread of its own,
    let server = Server::start();
    let agent = "e2e-queued";
    let key = server.deploy(&project(agent, 1).set("rapidclaw.runs_per_replica", json!(2))).ok().key();
    let url = format!("{}/agents/{agent}/v1/chat", server.agents_url);
    let is_over = AtomicBool::new(false);
    let waiting = |server: &Server| {
        until("a queue", || match server.query("SELECT count(*) FROM rapidclaw.runs WHERE status = 'pending'") {
            count if count >= 3 => Ok(()),
            count => Err(format!("{count} wait")),
        });
    };
    let turns: usize = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|n| {
                let (url, key, is_over) = (&url, &key, &is_over);
                scope.spawn(move || {
                    let mut turns = 0;
                    loop {
                        let is_last = is_over.load(Ordering::Relaxed);
                        turns += 1;
                        let body = json!({ "thread_id": format!("t-{n}"), "user_id": "ann", "message": "wait 0.3" });
                        let answer = try_post(url, &[("x-api-key", key)], &body).unwrap().ok();
                        // Each its own, and once: the thread holds as many messages as were sent.
                        assert_eq!(answer.body["result"], format!("well {turns}"), "client {n}");
                        if is_last {
                            return turns;
                        }
                    }
                })
            })
            .collect();
        let restarted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            // when the server is replaced, and once more,
            for servers in 2..=3 {
                waiting(&server);
                server.rapidclaw(&["server", "restart"]).ok();
                until("a run of the next server's", || {
                    match server.query("SELECT count(DISTINCT gateway_id) FROM rapidclaw.attempts") {
                        count if count == servers => Ok(()),
                        count => Err(format!("{count} servers have had one")),
                    }
                });
            }
            waiting(&server);
        }));
        is_over.store(true, Ordering::Relaxed);
        // then every turn is answered,
        let turns = clients.into_iter().map(|client| client.join().unwrap()).sum();
        restarted.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        turns
    });
    // by one attempt each, given by three servers in turn,
    let count = |sql| usize::try_from(server.query(sql)).unwrap();
    assert_eq!(count("SELECT count(*) FROM rapidclaw.runs WHERE status = 'success' AND attempt = 1"), turns);
    assert_eq!(count("SELECT count(*) FROM rapidclaw.runs"), turns);
    assert_eq!(count("SELECT count(*) FROM rapidclaw.attempts"), turns);
    assert_eq!(count("SELECT count(DISTINCT gateway_id) FROM rapidclaw.attempts"), 3);
    // and never by more at once than there are places: so says the database, and so does the replica.
    let most = "SELECT max(beside) FROM (SELECT (SELECT count(*) FROM rapidclaw.attempts b
                  WHERE b.started_at <= a.started_at AND b.ended_at > a.started_at) AS beside
                FROM rapidclaw.attempts a) AS each";
    assert_eq!(count(most), 2);
    assert_eq!(server.turn(agent, &key, "last", "waited"), "2 at once 1");
}

#[test]
fn a_restart_takes_new_options_while_turns_go_on() {
    // Given a server, and a client with turn after turn,
    let server = Server::start();
    let agent = "e2e-options";
    let key = server.deploy(&project(agent, 1)).ok().key();
    let url = format!("{}/agents/{agent}/v1/chat", server.agents_url);
    let is_over = AtomicBool::new(false);
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let moved = free();
    let shown = |server: &Server| server.rapidclaw(&["server", "status", "--json"]).ok().json()["server"].clone();
    let before = shown(&server);
    let turns = AtomicUsize::new(0);
    let two_more = || {
        let before = turns.load(Ordering::Relaxed);
        until("two turns more", || match turns.load(Ordering::Relaxed) {
            now if now >= before + 2 => Ok(()),
            now => Err(format!("{now} turns")),
        });
    };
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let body = json!({ "thread_id": "t", "user_id": "ann", "message": "wait 0.1" });
                let answer = try_post(&url, &[("x-api-key", &key)], &body).unwrap().ok();
                let turn = turns.fetch_add(1, Ordering::Relaxed) + 1;
                assert_eq!(answer.body["result"], format!("well {turn}"));
            }
        });
        let restarted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            two_more();
            // when it is started again with another port, another name and a provider,
            let listen = moved.to_string();
            let options = [
                "--listen",
                &listen,
                "--public-url",
                "https://rapid.example",
                "--provider=openai=http://127.0.0.1:9/v1",
            ];
            let said = server.rapidclaw(&[&["server", "restart"], &options[..]].concat()).ok();
            said.says(&format!("the control API is called http://{moved} now"));
            two_more();
        }));
        is_over.store(true, Ordering::Relaxed);
        client.join().unwrap();
        restarted.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    // then no turn was lost, and it is called so,
    let after = shown(&server);
    let port = server.agents_url.rsplit(':').next().unwrap();
    assert_eq!(after["url"], format!("http://{moved}"));
    assert_eq!(after["agents_url"], format!("https://rapid.example:{port}"));
    let old = before["url"].as_str().unwrap().strip_prefix("http://").unwrap().to_owned();
    until("the old port is closed", || {
        std::net::TcpStream::connect(&old).map_or(Ok(()), |_| Err("it is open".to_owned()))
    });
    server.rapidclaw(&["login", "--local"]).ok();
    server.until_status(agent, &format!("{agent} v1 running"));
    // a restart without options keeps all of them, and a start beside it says what it does not do;
    server.rapidclaw(&["server", "restart"]).ok();
    let kept = shown(&server);
    assert_eq!((&kept["arguments"], &kept["url"]), (&after["arguments"], &after["url"]));
    let said = server.rapidclaw(&["server", "start", "--provider", "openai=http://127.0.0.1:8/v1"]).ok();
    said.says("`rapidclaw server restart` takes it");
    // what cannot be had changes nothing;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let refused = server.rapidclaw(&["server", "restart", "--listen", &taken.local_addr().unwrap().to_string()]);
    refused.exits(1).says("listening on");
    server.rapidclaw(&["server", "restart", "--listen", &format!("0.0.0.0:{}", moved.port())]).exits(2);
    assert_eq!(shown(&server)["pid"], kept["pid"]);
    // and the same port on all addresses is one that it can have.
    server.rapidclaw(&["server", "restart", "--insecure", "--listen", &format!("0.0.0.0:{}", moved.port())]).ok();
    server.until_status(agent, &format!("{agent} v1 running"));
}

#[test]
fn replicas_that_end_what_they_run_have_their_time_over_a_restart() {
    // Given a replica of a release that is neither served nor on standby any more, and one too many of the one that
    // is, each with a run,
    let server = Server::start();
    let agent = "e2e-drains";
    let version = |n: u32, replicas: u32| project(agent, replicas).set("rapidclaw.limits", json!({ "queue": 100 + n }));
    let key = server.deploy(&version(1, 1)).ok().key();
    let running = |server: &Server, count: i64| {
        until("the runs", || match server.query("SELECT count(*) FROM rapidclaw.runs WHERE status = 'running'") {
            running if running == count => Ok(()),
            running => Err(format!("{running} are running")),
        });
    };
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let (server, key) = (&server, &key);
        let occupy = |thread: &'static str| scope.spawn(move || turn(server, agent, key, thread, "hold open"));
        let mut held = vec![occupy("first")];
        let drained = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            running(server, 1);
            server.deploy(&version(2, 1)).ok();
            server.deploy(&version(3, 2)).ok();
            let before = server.containers_of(agent);
            held.extend([occupy("second"), occupy("third")]);
            running(server, 3);
            server.rapidclaw(&["scale", agent, "1"]).ok();

            // when the server is replaced,
            server.rapidclaw(&["server", "restart"]).ok();
            // then nothing of them is ended,
            server.until_status(agent, &format!("{agent} v3 running 1 replica"));
            let began = Instant::now();
            while began.elapsed() < STOPPED_BY {
                assert_eq!(server.containers_of(agent), before);
                std::thread::sleep(Duration::from_millis(250));
            }
        }));
        for container in server.containers_of(agent) {
            docker_said(&["exec", &container, "touch", "/tmp/open"]);
        }
        let answers = held.into_iter().map(|one| one.join().unwrap()).collect();
        drained.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        answers
    });
    // their runs end as they began, each on a replica of its own,
    let replicas: BTreeSet<_> = answers.into_iter().map(|answer| answer.ok().replica).collect();
    assert_eq!(replicas.len(), 3);
    assert_eq!(server.query("SELECT count(*) FROM rapidclaw.attempts WHERE state = 'lost'"), 0);
    assert_eq!(server.query("SELECT count(*) FROM rapidclaw.attempts"), 3);
    // and then they go: what is left is the one that is wanted, and the one on standby.
    server.until_containers(agent, 2);
    assert_eq!(server.turn(agent, &key, "first", "hello"), "well 2");
}

#[test]
fn a_rollout_goes_on_over_a_restart_and_no_scale_makes_what_is_untried_serve() {
    // Given a rollout whose replica loads for as long as nobody opens its gate,
    let server = Server::start();
    let agent = "e2e-rolls";
    let key = server.deploy(&project(agent, 1)).ok().key();
    let before = server.containers_of(agent);
    let gated = project(agent, 1);
    let code = std::fs::read_to_string(gated.path().join("agent.py")).unwrap();
    let gate = "import os, time\nwhile not os.path.exists('/tmp/open'):\n    time.sleep(0.05)\n";
    gated.write("agent.py", &format!("{gate}{code}"));
    let mut deploy = server.machine.command();
    let mut deploy =
        deploy.arg("deploy").current_dir(gated.path()).stdout(std::process::Stdio::null()).spawn().unwrap();
    let phase = |server: &Server| server.query("SELECT count(*) FROM rapidclaw.rollouts WHERE state = 'running'");
    let green = until("the replica that loads", || {
        let mut new = server.containers_of(agent);
        new.retain(|one| !before.contains(one));
        let new = new.pop_first().ok_or_else(|| format!("{} rollouts", phase(&server)))?;
        match docker_said(&["inspect", "--format", "{{.State.Status}}", &new]).as_str() {
            "running" => Ok(new),
            status => Err(status.to_owned()),
        }
    });

    // when nothing is wanted any more, and the server is replaced meanwhile,
    server.rapidclaw(&["scale", agent, "0"]).ok();
    server.rapidclaw(&["server", "restart"]).ok();
    until("the server that has taken over", || match server.log().matches("a replica is adopted").count() {
        0 => Err("nothing was adopted".to_owned()),
        _ => Ok(()),
    });
    // then the release is still being tried, by the one replica that it had, and does not serve;
    assert_eq!(phase(&server), 1);
    let release =
        "SELECT r.version::bigint FROM rapidclaw.agents a JOIN rapidclaw.releases r ON r.id = a.serving_release";
    assert_eq!(server.query(release), 1);
    assert!(deploy.try_wait().unwrap().is_none());
    // once it has shown that it can, it does.
    docker_said(&["exec", &green, "touch", "/tmp/open"]);
    assert!(deploy.wait().unwrap().success(), "{}", server.log());
    assert_eq!(server.query(release), 2);
    server.until_containers(agent, 0);
    server.rapidclaw(&["scale", agent, "1", "--detach"]).ok();
    let replica = server.until_containers(agent, 1).pop_first().unwrap();
    docker_said(&["exec", &replica, "touch", "/tmp/open"]);
    server.until_status(agent, &format!("{agent} v2 running 1 replica"));
    assert_eq!(server.turn(agent, &key, "t", "hello"), "well 1");
}
