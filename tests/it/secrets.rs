//! Secrets of an agent that serves: set, listed, forgotten, deployed, and brought to its replicas one by one.

use crate::machine::{ECHO, Project, Said, Server, Terminal, docker_said, said, said_with_stdin, until};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// `secrets set`, with the value on stdin.
fn set(server: &Server, agent: &str, name: &str, value: &str, options: &[&str]) -> Said {
    let mut command = server.machine.command();
    said_with_stdin(command.args(["secrets", "set", agent, name]).args(options), value).hides(value)
}

/// What each replica greets with, once as many have answered.
#[track_caller]
fn greetings(server: &Server, agent: &str, key: &str, replicas: usize) -> BTreeSet<String> {
    let mut said: BTreeMap<String, String> = BTreeMap::new();
    until("an answer of each replica", || {
        let answer = server.chat(agent, key, &json!({ "user_id": "u", "message": "hi" })).ok();
        let greeting = answer.body["result"].as_str().unwrap().split(' ').next().unwrap().to_owned();
        said.insert(answer.replica.unwrap(), greeting);
        if said.len() >= replicas { Ok(()) } else { Err(format!("{said:?}")) }
    });
    said.into_values().collect()
}

/// Until one of three replicas has been replaced.
#[track_caller]
fn until_half_way(server: &Server) {
    let sql = "SELECT count(*) FROM rollout_events e JOIN rollouts o ON o.id = e.rollout_id
               WHERE o.state = 'running' AND e.message = '1 of 3 have them'";
    until("the rollout is half way", || match server.query(sql) {
        0 => Err("not yet".to_owned()),
        _ => Ok(()),
    });
}

fn names(server: &Server, agent: &str) -> Vec<(String, bool)> {
    let listed = server.rapidclaw(&["secrets", "list", agent, "--json"]).ok().json();
    let one = |one: &Value| (one["name"].as_str().unwrap().to_owned(), one["by_hand"].as_bool().unwrap());
    listed["secrets"].as_array().unwrap().iter().map(one).collect()
}

#[test]
fn a_change_reaches_replicas_one_after_the_other_and_nobody_is_turned_away() {
    // Given three replicas under load.
    let mut server = Server::start();
    let name = "e2e-rolling";
    let key = server.deploy(&Project::new(name).replicas(3)).ok().key();
    let before = server.until_containers(name, 3);
    let (stop, failed, most) = (AtomicBool::new(false), Mutex::new(Vec::new()), Mutex::new(0));
    std::thread::scope(|scope| {
        for client in 0..4 {
            let (server, key, stop, failed) = (&server, &key, &stop, &failed);
            scope.spawn(move || {
                let body = json!({ "thread_id": format!("t{client}"), "user_id": "u", "message": "hi" });
                while !stop.load(Ordering::Relaxed) {
                    let answer = server.chat(name, key, &body);
                    if answer.status != 200 {
                        failed.lock().unwrap().push(answer.text);
                    }
                }
            });
        }
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let count = server.containers_of(name).len();
                let status = server.rapidclaw(&["status", name, "--json"]).ok().json();
                let ready = status["agents"][0]["ready"].as_u64().unwrap();
                if !(3..=4).contains(&ready) {
                    failed.lock().unwrap().push(format!("{ready} replicas are ready"));
                }
                let mut most = most.lock().unwrap();
                *most = count.max(*most);
            }
        });
        // When a secret is changed,
        let changed = set(&server, name, "GREETING", "bonjour", &[]);
        stop.store(true, Ordering::Relaxed);
        // then they are replaced one by one by those of a release of the same image,
        changed
            .ok()
            .prints(&format!("{name}: GREETING changed; v2 live in "))
            .says("replacing 3 replicas, one after the other")
            .says("1 of 3 have them")
            .says("2 of 3 have them");
    });
    // nobody is turned away, and there are never twice as many.
    assert_eq!(failed.into_inner().unwrap(), Vec::<String>::new());
    assert!(most.into_inner().unwrap() < 6, "the one that starts, the one that ends, and three");
    assert_eq!(greetings(&server, name, &key, 3), BTreeSet::from(["bonjour".to_owned()]));
    let after = server.until_containers(name, 3);
    assert_eq!(after.intersection(&before).count(), 0);

    // When the server is killed half way,
    let changing = {
        let mut command = server.machine.command();
        command.args(["secrets", "set", name, "GREETING"]);
        std::thread::spawn(move || said_with_stdin(&mut command, "ciao"))
    };
    until_half_way(&server);
    server.kill();
    assert!(server.containers_of(name).len() >= 3);
    server.start_again();
    // then the next one goes on where it was, and who waits for it is told.
    changing.join().unwrap().ok().prints(&format!("{name}: GREETING changed; v3 live in "));
    assert_eq!(greetings(&server, name, &key, 3), BTreeSet::from(["ciao".to_owned()]));
    assert_eq!(server.until_containers(name, 3).intersection(&after).count(), 0);

    // When it is changed once more before the change has reached all,
    let changing = {
        let mut command = server.machine.command();
        command.args(["secrets", "set", name, "GREETING"]);
        std::thread::spawn(move || said_with_stdin(&mut command, "hola"))
    };
    until_half_way(&server);
    set(&server, name, "GREETING", "salut", &[]).ok().prints(&format!("{name}: GREETING changed; v5 live in "));
    // then a rollout of the newest takes its place, and both who wait are told so.
    let first = changing.join().unwrap().ok();
    first.says("v4: newer secrets take its place").prints(&format!("{name}: GREETING changed; v5 live in "));
    assert_eq!(greetings(&server, name, &key, 3), BTreeSet::from(["salut".to_owned()]));
    assert_eq!(server.query("SELECT count(*) FROM rollouts WHERE state = 'succeeded'"), 4, "the deploy, three changes");
    assert_eq!(server.query("SELECT count(*) FROM rollouts"), 5);
    server.until_containers(name, 3);
    server.until_status(name, &format!("{name} v5 running 3 replicas "));
}

#[test]
fn a_secret_that_breaks_the_agent_breaks_no_replica_that_serves() {
    let server = Server::start();
    let name = "e2e-broken";
    let graph = format!(
        "import os\nassert os.environ['GREETING'] != 'tok-breaks-it', 'a wrong greeting: tok-breaks-it'\n{ECHO}"
    );
    let key = server.deploy(&Project::new(name).replicas(2).graph(&graph)).ok().key();
    let before = server.until_containers(name, 2);
    let said =
        set(&server, name, "GREETING", "tok-breaks-it", &[]).exits(6).says("AssertionError: a wrong greeting: ***");
    said.says("v1 still serves");
    assert_eq!(greetings(&server, name, &key, 2), BTreeSet::from(["hello".to_owned()]));
    assert_eq!(server.until_containers(name, 2), before);
    // What starts now has the secrets of what serves.
    docker_said(&["kill", before.first().unwrap()]);
    server.until_status(name, &format!("{name} v1 running 2 replicas "));
    assert_eq!(greetings(&server, name, &key, 2), BTreeSet::from(["hello".to_owned()]));
    set(&server, name, "GREETING", "mended", &[]).ok();
    assert_eq!(greetings(&server, name, &key, 2), BTreeSet::from(["mended".to_owned()]));
}

#[test]
fn secrets_from_the_hand_and_from_deploys_live_beside_each_other() {
    let server = Server::start();
    let name = "e2e-secrets";
    let project = Project::new(name).env("GREETING=hello\nOLD=1\n");
    let key = server.deploy(&project).ok().key();

    // Set from stdin: its last line's end is no part of it.
    set(&server, name, "BY_HAND", "one\n", &["--detach"]).ok().prints("BY_HAND changed; v2 is being rolled out");
    server.rapidclaw(&["rollouts", name, "--watch"]);
    set(&server, name, "BY_HAND", "one", &[]).ok().prints(&format!("{name}: nothing changed"));
    // Typed at a hidden prompt.
    let mut terminal = Terminal::run(&server.machine, &["secrets", "set", name, "GREETING"]);
    terminal.shows("Value of GREETING (hidden)");
    terminal.types_hidden("typed-and-hidden");
    let (code, screen) = terminal.ends();
    assert_eq!(code, Some(0), "{screen}");
    assert!(!screen.contains("typed-and-hidden") && screen.contains("GREETING changed"), "{screen}");
    assert_eq!(server.turn(name, &key, "t", "hi"), "typed-and-hidden 1: hi");
    let listed = server.rapidclaw(&["secrets", "list", name]).ok().hides("typed").hides("one");
    let shape = regex::Regex::new(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ").unwrap();
    insta::assert_snapshot!(shape.replace_all(&listed.out, "[TIME]"), @r"
    BY_HAND [TIME] hand
    GREETING [TIME] hand
    OLD [TIME] deploy
    ");

    // A deploy brings its .env, forgets what an earlier one brought, leaves the rest, and says all of it.
    let deployed = server.deploy(&project.env("GREETING=bonjour\n")).ok();
    let notes: Vec<&str> = deployed.err.lines().filter(|line| line.starts_with("secrets that")).collect();
    insta::assert_snapshot!(notes.join("\n"), @r"
    secrets that were not deployed with it are forgotten: OLD
    secrets that were set by hand have the values of this deploy now: GREETING
    secrets that were set by hand stay: BY_HAND (`rapidclaw secrets unset e2e-secrets` forgets them)
    ");
    assert_eq!(server.turn(name, &key, "t", "hi"), "bonjour 2: hi");
    assert_eq!(names(&server, name), [("BY_HAND".to_owned(), true), ("GREETING".to_owned(), false)]);

    // Imported from a file, and from stdin; what it does not name stays.
    let project = Project::new(name).env("GREETING=ciao\nMORE='a b'\n");
    let file = project.path().join(".env");
    server.rapidclaw(&["secrets", "import", name, file.to_str().unwrap()]).ok().prints("GREETING, MORE changed");
    let mut import = server.machine.command();
    said_with_stdin(import.args(["secrets", "import", name]), "LAST=1\n").ok().prints("LAST changed");
    server.rapidclaw(&["secrets", "unset", name, "LAST", "MORE", "NONE"]).ok().prints("LAST, MORE changed");
    assert_eq!(names(&server, name), [("BY_HAND".to_owned(), true), ("GREETING".to_owned(), true)]);
    assert_eq!(server.turn(name, &key, "t", "hi"), "ciao 3: hi");

    // What is refused changes nothing, and shows nothing.
    server.rapidclaw(&["secrets", "set", name, "A", "sk-typed-by-mistake"]).fails(2).hides("sk-typed-by-mistake");
    server.rapidclaw(&["secrets", "set", name, "A=sk-typed-by-mistake"]).fails(2).says("is no argument");
    server.rapidclaw(&["secrets", "set", name, "A"]).fails(2).says("stdin held no value").says("secrets unset");
    set(&server, name, "A B", "value-refused", &[]).exits(1).says("\"A B\" cannot name a secret");
    let mut import = server.machine.command();
    said_with_stdin(import.args(["secrets", "import", name]), "A='no end").exits(3).says("stdin:1:").hides("no end");
    server.rapidclaw(&["secrets", "import", name, "/nowhere/.env"]).exits(3).says("/nowhere/.env");
    server.rapidclaw(&["secrets", "unset", name]).exits(2);
    for command in [&["list"][..], &["unset", "A"], &["set", "A"]] {
        let mut words = command.to_vec();
        words.insert(1, "nobody");
        let mut command = server.machine.command();
        said_with_stdin(command.arg("secrets").args(words), "value").fails(1).says("there is no agent \"nobody\"");
    }
    assert_eq!(names(&server, name).len(), 2);
    // Nobody can be asked where there is no terminal, or none is to be used.
    let mut terminal = Terminal::run(&server.machine, &["--no-input", "secrets", "set", name, "A"]);
    terminal.shows("nobody can be asked for the value of A");
    assert_eq!(terminal.ends().0, Some(2));

    // Scaled to nothing there is nobody to bring it to; what starts then has it.
    server.rapidclaw(&["scale", name, "0"]).ok();
    set(&server, name, "GREETING", "salut", &[]).ok().prints("GREETING changed; v");
    server.rapidclaw(&["scale", name, "auto"]).ok();
    assert_eq!(server.turn(name, &key, "t", "hi"), "salut 4: hi");
    // No value is in the database or in a container in clear.
    let inspected = server.containers_of(name).into_iter().map(|id| docker_said(&["inspect", &id]));
    assert!(inspected.into_iter().all(|text| !text.contains("salut")));
    let dump = said(server.machine.command().args(["status", "--json"])).ok();
    assert!(!dump.out.contains("salut") && !server.log().contains("salut"));
}

#[test]
fn a_release_that_fails_leaves_the_secrets_of_what_serves_alone() {
    let mut server = Server::start();
    let name = "e2e-today";
    let slow = format!("import os, time\ntime.sleep(float(os.environ.get('SLOW', '0')))\n{ECHO}");
    let project = Project::new(name).graph(&slow);
    let key = server.deploy(&project).ok().key();
    assert_eq!(server.turn(name, &key, "t", "one"), "hello 1: one");

    // A deploy that brings new secrets fails: what serves keeps its own, also after a crash, a restart and a scale.
    let project = project.replicas(3).graph("graph = None\nraise RuntimeError('no')\n").env("GREETING=bonjour\n");
    server.deploy(&project).exits(6).says("v1 still serves");
    let before = server.until_containers(name, 1);
    server.kill();
    docker_said(&["kill", before.first().unwrap()]);
    server.start_again();
    server.until_status(name, &format!("{name} v1 running 1 replica "));
    assert_eq!(server.turn(name, &key, "t", "two"), "hello 2: one");
    server.rapidclaw(&["scale", name, "0"]).ok();
    server.rapidclaw(&["scale", name, "1"]).ok();
    assert_eq!(server.turn(name, &key, "t", "three"), "hello 3: one");
    server.rapidclaw(&["scale", name, "auto"]).ok();

    // Of two deploys at once one wins, and the other leaves nothing.
    let sql = "SELECT count(*) * 1000 + (SELECT count(*) FROM secret_sets) FROM releases";
    let stored = server.query(sql);
    let others = ["GREETING=salut\nSLOW=4\n", "GREETING=ciao\nSLOW=4\n"];
    let others = others.map(|env| Project::new(name).graph(&slow).env(env));
    let said: Vec<_> = std::thread::scope(|scope| {
        let deploys: Vec<_> = others.iter().map(|project| scope.spawn(|| server.deploy(project))).collect();
        deploys.into_iter().map(|deploy| deploy.join().unwrap()).collect()
    });
    let lost = said.iter().filter(|said| said.err.contains("a rollout of this agent is under way")).count();
    assert_eq!((lost, server.query(sql)), (1, stored + 1001));
    let greeting = server.turn(name, &key, "t", "four");
    assert!(["salut 4: one", "ciao 4: one"].contains(&greeting.as_str()), "{greeting}");

    // A rollback brings the secrets of its release back; a value that was rotated stays rotated.
    let mut rotate = server.machine.command();
    said_with_stdin(rotate.args(["secrets", "rotate", name, "GREETING"]), "fresh")
        .ok()
        .prints("GREETING rotated, in 3 older secret sets as well; v4 live in ")
        .hides("fresh");
    assert_eq!(server.turn(name, &key, "t", "five"), "fresh 5: one");
    let mut rotate = server.machine.command();
    said_with_stdin(rotate.args(["secrets", "rotate", name, "NONE"]), "x").exits(1).says("no secret set of");
    let project = Project::new(name).graph(&ECHO.replace("AIMessage(f\"", "AIMessage(f\"next "));
    server.deploy(&project.env("GREETING=new\n")).ok().prints("v5 live in ");
    assert_eq!(server.turn(name, &key, "t", "six"), "next new 6: one");
    server.rapidclaw(&["rollback", "v1", "--agent", name]).ok().says("secrets as they were at v1 again: GREETING");
    assert_eq!(server.turn(name, &key, "t", "seven"), "fresh 7: one");
}
