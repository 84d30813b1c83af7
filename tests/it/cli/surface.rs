//! The surface that people and programs see: each command's `--help`, and the shape of its JSON.

use crate::machine::{self, Machine, Project, Server, said, said_with_stdin};
use rapidclaw::cli::args::Cli;
use serde_json::Value;

/// All commands, each as its words; those that only hold others as well.
fn commands(command: &clap::Command, words: &[String], found: &mut Vec<Vec<String>>) {
    found.push(words.to_vec());
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        let words = [words, &[sub.get_name().to_owned()]].concat();
        commands(sub, &words, found);
    }
}

#[test]
fn the_help_of_each_command() {
    let machine = Machine::new();
    let mut found = Vec::new();
    commands(&<Cli as clap::CommandFactory>::command(), &[], &mut found);
    assert!(found.len() > 30, "{found:?}");
    for words in found {
        let said = said(
            machine
                .command()
                .args(&words)
                .arg("--help")
                .env_remove("RAPIDCLAW_BASE_IMAGE")
                .env_remove("RAPIDCLAW_DATA_DIR"),
        )
        .ok();
        assert_eq!(said.err, "", "{said}");
        for line in said.out.lines() {
            assert!(line.chars().count() <= 100, "longer than a terminal: {line:?}");
        }
        let name = if words.is_empty() { "rapidclaw".to_owned() } else { words.join("-") };
        insta::with_settings!({ snapshot_path => "snapshots/help", prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(name, said.out);
        });
    }
}

/// The names and kinds of what a document holds, a line each; of lists what their items have.
fn shape(path: &str, value: &Value, lines: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                shape(&if path.is_empty() { name.clone() } else { format!("{path}.{name}") }, value, lines);
            }
        }
        Value::Array(items) => match items.first() {
            Some(first) => shape(&format!("{path}[]"), first, lines),
            None => lines.push(format!("{path}: []")),
        },
        Value::String(text) if path == "schema" || path == "type" => lines.push(format!("{path}: {text:?}")),
        Value::String(_) => lines.push(format!("{path}: string")),
        Value::Number(_) => lines.push(format!("{path}: number")),
        Value::Bool(_) => lines.push(format!("{path}: bool")),
        Value::Null => lines.push(format!("{path}: null")),
    }
}

#[test]
fn the_json_of_each_command() {
    // Given an agent that has been deployed, talked to and changed.
    let server = Server::start();
    let project = Project::new("e2e-json");
    let deploy = server.deploy_with(&project, &["--json"]).ok();
    let key = deploy.json()["key"].as_str().unwrap().to_owned();
    server.turn("e2e-json", &key, "t", "one");
    let text = |arguments: &[&str]| {
        let said = said(server.machine.command().args(arguments).arg("--json").current_dir(project.path()));
        (said.json(), said)
    };
    let value = |arguments: &[&str]| text(arguments).0;
    let run = value(&["runs", "e2e-json"])["runs"][0]["id"].as_str().unwrap().to_owned();
    let set = said_with_stdin(
        server.machine.command().args(["secrets", "set", "e2e-json", "TOKEN", "--json"]),
        "value-of-it",
    )
    .ok();
    let made = value(&["keys", "create", "e2e-json"]);
    let id = made["id"].as_str().unwrap().to_owned();
    let token = value(&["tokens", "create", "ci", "--role", "deployer", "--agent", "e2e-json", "--expires", "1d"]);

    // Then each command's document has its schema, and the same fields as yesterday.
    let mut shown =
        vec![("deploy", deploy.json()), ("secrets set", set.json()), ("keys create", made), ("tokens create", token)];
    let asked: &[(&str, &[&str])] = &[
        ("validate", &["validate"]),
        ("build", &["build"]),
        ("deploy --dry-run", &["deploy", "--dry-run"]),
        ("whoami", &["whoami"]),
        ("login", &["login", "--local"]),
        ("context list", &["context", "list"]),
        ("context use", &["context", "use", "local"]),
        ("status", &["status"]),
        ("releases", &["releases", "e2e-json"]),
        ("rollouts", &["rollouts", "e2e-json"]),
        ("runs", &["runs", "e2e-json"]),
        ("runs show", &["runs", "show", &run]),
        ("threads", &["threads", "e2e-json"]),
        ("threads show", &["threads", "show", "e2e-json", "t"]),
        ("logs", &["logs", "e2e-json"]),
        ("secrets list", &["secrets", "list", "e2e-json"]),
        ("keys list", &["keys", "list", "e2e-json"]),
        ("keys revoke", &["keys", "revoke", "e2e-json", &id]),
        ("tokens list", &["tokens", "list"]),
        ("tokens revoke", &["tokens", "revoke", "ci"]),
        ("scale", &["scale", "e2e-json", "1"]),
        ("doctor", &["doctor"]),
        ("server status", &["server", "status"]),
        ("server start", &["server", "start"]),
        ("an error", &["releases", "nobody"]),
    ];
    shown.extend(asked.iter().map(|(name, arguments)| (*name, value(arguments))));
    project.write("agent.py", &format!("{}\n# changed\n", machine::ECHO));
    server.deploy(&project).ok();
    shown.push(("rollback", value(&["rollback", "--agent", "e2e-json"])));
    let destroy: &[(&str, &[&str])] = &[
        ("destroy", &["destroy", "e2e-json", "--yes"]),
        ("logout", &["logout"]),
        ("server restart", &["server", "restart"]),
        ("server stop", &["server", "stop"]),
    ];
    shown.extend(destroy.iter().map(|(name, arguments)| (*name, value(arguments))));
    for (name, value) in shown {
        assert!(value["schema"].as_str().is_some_and(|schema| schema.ends_with("/v1")), "{name}: {value}");
        let mut lines = Vec::new();
        shape("", &value, &mut lines);
        insta::with_settings!({ snapshot_path => "snapshots/json", prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(name.replace(' ', "-"), lines.join("\n"));
        });
    }
}
