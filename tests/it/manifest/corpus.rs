//! Manifests of others and hand-made edge cases, each with what langgraph-cli 0.4.40 says of it.
//!
//! `tests/corpus/cases` is our own and always read. The 156 manifests of public repositories are not
//! ours to keep: they are read from the folder that `RAPIDCLAW_CORPUS` names.

use rapidclaw::manifest::{self, render};
use std::path::{Path, PathBuf};

/// Cases that langgraph-cli lets through and cannot build: here they are refused at once.
const REFUSED_LATER: [&str; 1] = ["S009"];

fn read(path: &Path) -> Result<(), String> {
    match manifest::load(path) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("{error}\n{}", render(error.diagnostics()))),
    }
}

/// The rows of a tab-separated table, without its head.
fn rows(path: &Path) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

#[test]
fn the_edge_cases_end_as_langgraph_cli_ends_them() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/cases");
    let mut disagreements = Vec::new();
    let rows = rows(&folder.join("LABELS.tsv"));
    assert!(rows.len() > 50, "only {} cases", rows.len());
    for row in &rows {
        let (id, case, verdict) = (&row[0], &row[1], &row[2]);
        let wanted = verdict == "accept" && !REFUSED_LATER.contains(&id.as_str());
        let got = read(&folder.join(format!("{id}.json")));
        if got.is_ok() != wanted {
            disagreements.push(format!("{id} ({case}): langgraph {verdict}, we {got:?}"));
        }
    }
    assert!(disagreements.is_empty(), "{}", disagreements.join("\n"));
}

#[test]
fn manifests_of_public_repositories_are_accepted_where_langgraph_cli_accepts_them() {
    let Some(corpus) = std::env::var_os("RAPIDCLAW_CORPUS").map(PathBuf::from) else {
        eprintln!("LEFT OUT: RAPIDCLAW_CORPUS is not set, so the manifests of public repositories were not read");
        return;
    };
    let mut disagreements = Vec::new();
    let rows = rows(&corpus.join("real/INDEX.tsv"));
    assert!(rows.len() > 150, "only {} manifests", rows.len());
    for row in &rows {
        let (id, repository, validate, build) = (&row[0], &row[1], &row[4], &row[5]);
        let got = read(&corpus.join(format!("real/{id}.json")));
        let wanted = validate == "accept" && build == "ok";
        // What fails only in its repository's tree may pass here: the tree is not here.
        if wanted && got.is_err() || validate == "reject" && got.is_ok() {
            disagreements.push(format!("{id} ({repository}): langgraph {validate} {build}, we {got:?}"));
        }
    }
    assert!(disagreements.is_empty(), "{}", disagreements.join("\n\n"));
}

/// What a schema cannot say, and the validator does. Each with a manifest's `rapidclaw` section, or a whole
/// manifest, that the schema lets through.
const BEYOND_SCHEMA: [(&str, &str); 9] = [
    ("two keys against each other", r#"{"min_replicas": 5, "max_replicas": 2}"#),
    ("how a host is written", r#"{"security": {"allowed_hosts": ["a b"]}}"#),
    ("a host of the machine itself", r#"{"security": {"allowed_hosts": ["localhost"]}}"#),
    ("a port", r#"{"security": {"allowed_hosts": ["a.example.com:99999"]}}"#),
    ("the least of a size", r#"{"resources": {"memory": "1MiB"}}"#),
    ("whole bytes", r#"{"resources": {"memory": "1000000000.5B"}}"#),
    ("whole numbers written with a point", r#"{"min_replicas": 1.0}"#),
    ("the longest time", r#"{"rollout": {"ready_timeout": "99999999999999999999w"}}"#),
    ("the largest number", r#"{"limits": {"tokens_per_run": 99999999999999999999999}}"#),
];

/// Sections that both judge, and must judge alike.
const SECTIONS: [(&str, bool); 45] = [
    ("null", true),
    ("{}", true),
    ("[]", false),
    (r#"{"name": "a-1"}"#, true),
    (r#"{"name": "A"}"#, false),
    (r#"{"name": "-a"}"#, false),
    (r#"{"name": ""}"#, false),
    (r#"{"names": "a"}"#, false),
    (r#"{"checkpointer": "own", "database": true}"#, true),
    (r#"{"checkpointer": "mongo"}"#, false),
    (r#"{"database": "yes"}"#, false),
    (r#"{"database": "auto"}"#, true),
    (r#"{"database": null, "min_replicas": null}"#, true),
    (r#"{"min_replicas": 0, "max_replicas": 1}"#, true),
    (r#"{"max_replicas": 0}"#, false),
    (r#"{"min_replicas": -1}"#, false),
    (r#"{"min_replicas": "1"}"#, false),
    (r#"{"runs_per_replica": 1.5}"#, false),
    (r#"{"scaling_metric": "cpu"}"#, false),
    (r#"{"observability": {"otel": true, "log_level": "warning", "otlp_endpoint": "http://c:4318"}}"#, true),
    (r#"{"observability": {"log_level": "warn"}}"#, false),
    (r#"{"observability": {"otlp_endpoint": "c:4318"}}"#, false),
    (r#"{"observability": {"otl": true}}"#, false),
    (r#"{"observability": null}"#, true),
    (r#"{"security": {"egress": "none", "allowed_hosts": [], "public": false}}"#, true),
    (r#"{"security": {"egress": "closed"}}"#, false),
    (r#"{"security": {"allowed_hosts": "a.example.com"}}"#, false),
    (r#"{"security": {"allowed_hosts": [1]}}"#, false),
    (r#"{"security": {"allowed_hosts": ["*.example.com:8443", "db:5432"]}}"#, true),
    (r#"{"limits": {"recursion_limit": 25, "run_timeout": "1h30m", "queue": 0, "state_bytes": "4MiB"}}"#, true),
    (r#"{"limits": {"recursion_limit": 0}}"#, false),
    (r#"{"limits": {"run_timeout": "0s"}}"#, false),
    (r#"{"limits": {"run_timeout": "1m1h"}}"#, false),
    (r#"{"limits": {"run_timeout": 90}}"#, true),
    (r#"{"limits": {"run_timeout": 0}}"#, false),
    (r#"{"limits": {"run_timeout": "1.5h"}}"#, true),
    (r#"{"limits": {"run_timeout": "5 minutes"}}"#, false),
    (r#"{"limits": {"cost_per_run": 0}}"#, false),
    (r#"{"limits": {"cost_per_run": 0.5, "rate": {"user": "10/m"}}}"#, true),
    (r#"{"limits": {"tools": []}}"#, false),
    (r#"{"limits": {"state_bytes": "4 MiB"}}"#, true),
    (r#"{"limits": {"state_bytes": "4Zb"}}"#, false),
    (r#"{"limits": {"state_bytes": 0}}"#, false),
    (r#"{"resources": {"cpu": 0}}"#, false),
    (r#"{"rollout": {"drain_timeout": true}}"#, false),
];

fn schema() -> jsonschema::Validator {
    let schema = serde_json::from_str(manifest::schema::TEXT).unwrap();
    jsonschema::draft202012::options().build(&schema).unwrap()
}

fn with_section(section: &str) -> String {
    format!(r#"{{"dependencies": ["."], "graphs": {{"a": "./a.py:graph"}}, "rapidclaw": {section}}}"#)
}

/// Both judgements of a text, where it is JSON at all.
fn judged(schema: &jsonschema::Validator, text: &str) -> Option<(bool, bool, String)> {
    let json: serde_json::Value = serde_json::from_str(text).ok()?;
    let ours = manifest::parse(text, "langgraph.json", "folder");
    let why = match &ours {
        Ok(_) => {
            let errors = schema.iter_errors(&json).map(|error| format!("{error} at {}", error.instance_path()));
            errors.collect::<Vec<_>>().join("; ")
        }
        Err(faults) => render(faults),
    };
    Some((schema.is_valid(&json), ours.is_ok(), why))
}

#[test]
fn the_schema_and_the_validator_agree() {
    let schema = schema();
    let mut disagreements = Vec::new();
    let mut judge = |name: &str, text: &str| {
        if let Some((by_schema, by_us, why)) = judged(&schema, text)
            && by_schema != by_us
        {
            disagreements.push(format!("{name}: the schema {by_schema}, we {by_us}: {why}"));
        }
    };
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/cases");
    let mut folders = vec![own];
    folders.extend(std::env::var_os("RAPIDCLAW_CORPUS").map(|corpus| PathBuf::from(corpus).join("real")));
    let mut count = 0;
    for folder in folders {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                count += 1;
                judge(&path.display().to_string(), &String::from_utf8_lossy(&std::fs::read(&path).unwrap()));
            }
        }
    }
    assert!(count > 50, "only {count} manifests");
    for (section, valid) in SECTIONS {
        let text = with_section(section);
        judge(section, &text);
        assert_eq!(manifest::parse(&text, "f", "d").is_ok(), valid, "{section}");
    }
    assert!(disagreements.is_empty(), "{}", disagreements.join("\n"));
    // What a schema cannot say is said by the validator alone; what it can say leaves this list.
    for (what, section) in BEYOND_SCHEMA {
        let (by_schema, by_us, why) = judged(&schema, &with_section(section)).unwrap();
        assert_eq!((by_schema, by_us), (true, false), "{what}: {section}: {why}");
    }
}
