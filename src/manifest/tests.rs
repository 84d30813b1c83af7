use super::*;
use crate::base::secret::ExposeSecret as _;

const BASE: &str = r#"{"dependencies": ["."], "graphs": {"my_agent": "./agent.py:graph"}, "rapidclaw": SECTION}"#;

fn with_section(section: &str) -> Result<Loaded, Vec<Diagnostic>> {
    parse(&BASE.replace("SECTION", section), "langgraph.json", "Folder Name")
}

fn fault_codes(section: &str) -> Vec<&'static str> {
    with_section(section).map_or_else(|faults| faults.iter().map(|fault| fault.code).collect(), |_| Vec::new())
}

#[test]
fn without_a_section_there_is_one_replica_and_open_egress() {
    let text = r#"{"dependencies": ["."], "graphs": {"my_agent": "./agent.py:graph"}}"#;
    let manifest = parse(text, "langgraph.json", "Folder Name").unwrap().manifest;
    assert!(!manifest.has_section);
    assert_eq!((manifest.name.as_str(), manifest.python_version.as_str()), ("my-agent", "3.11"));
    assert_eq!((manifest.section.min_replicas, manifest.section.max_replicas), (1, 1));
    assert_eq!(manifest.section.security.egress, Egress::Open);
    assert!(manifest.not_enforced().is_empty());
}

#[test]
fn the_section_of_the_design_is_read_whole() {
    let section = r#"{
      "name": "agent", "checkpointer": "postgres", "database": false,
      "min_replicas": 1, "max_replicas": 10, "scaling_metric": "runs_in_flight", "target_value": 10, "runs_per_replica": 20,
      "observability": { "otel": true, "log_level": "info", "otlp_endpoint": null },
      "security": { "egress": "allowlist", "allowed_hosts": ["api.anthropic.com", "db.example.com:5432"], "public": false },
      "limits": { "recursion_limit": null, "run_timeout": null, "tokens_per_run": null, "cost_per_run": null, "cost_per_day": null,
                  "state_bytes": "32MiB", "messages": null, "queue": 1000, "rate": {}, "tools": {} },
      "models": { "gateway": true, "prices": {} },
      "checkpoints": { "ttl": null, "keep_last": null },
      "resources": { "cpu": 1, "memory": "1GiB" },
      "rollout": { "ready_timeout": "120s", "drain_timeout": "15m", "rehearse_threads": 20 }
    }"#;
    let loaded = with_section(section).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let given = loaded.manifest.section;
    let default = Section { max_replicas: 10, ..Section::default() };
    assert_eq!(given.limits, default.limits);
    assert_eq!(given.resources, default.resources);
    assert_eq!(given.rollout, default.rollout);
    assert_eq!(given.security.allowed_hosts.len(), 2);
    assert_eq!(
        given.unenforced(),
        ["max_replicas", "observability.otel", "rollout.rehearse_threads", "scaling_metric", "target_value",]
    );
}

#[test]
fn egress_is_closed_as_soon_as_security_is_spoken_of() {
    let egress = |section: &str| with_section(section).unwrap().manifest.section.security.egress;
    assert_eq!(egress("{}"), Egress::Open);
    assert_eq!(egress(r#"{"security": {}}"#), Egress::Allowlist);
    assert_eq!(egress(r#"{"security": {"allowed_hosts": ["a.com"]}}"#), Egress::Allowlist);
    assert_eq!(egress(r#"{"security": {"egress": "none"}}"#), Egress::None);
}

#[test]
fn every_fault_is_said_at_once_with_its_place() {
    let text = "{\n  \"graphs\": {\n    \"a\": \"./a.py\"\n  },\n  \"python_version\": \"3.12.4\",\n  \"rapidclaw\": {\n    \"min_replica\": 2,\n    \"limits\": {\"run_timeout\": \"soon\", \"recursionLimit\": 3},\n    \"security\": {\"egres\": \"none\", \"allowed_hosts\": [\"https://a.com/v1\", \"127.0.0.1\"]}\n  }\n}\n";
    let faults = parse(text, "langgraph.json", "x").unwrap_err();
    let seen: Vec<_> = faults.iter().map(|fault| (fault.code, fault.line, fault.column)).collect();
    assert_eq!(
        seen,
        [
            ("no-dependencies", 1, 1),
            ("graph-path", 3, 10),
            ("python-version", 5, 21),
            ("unknown-key", 7, 5),
            ("invalid-value", 8, 31),
            ("unknown-key", 8, 39),
            ("unknown-key", 9, 18),
            ("invalid-host", 9, 53),
            ("invalid-host", 9, 73),
        ]
    );
    assert_eq!(
        faults[3].to_string(),
        "error[unknown-key]: unknown key `min_replica` in `rapidclaw`\n --> langgraph.json:7:5\n  |\n7 |     \"min_replica\": 2,\n  |     ^^^^^^^^^^^^^\nhelp: did you mean `min_replicas`?"
    );
    assert_eq!(faults[5].fix.as_deref(), Some("did you mean `recursion_limit`?"));
}

#[test]
fn cross_checks_and_bounds() {
    for section in [
        r#"{"min_replicas": 3, "max_replicas": 2}"#,
        r#"{"target_value": 0}"#,
        r#"{"resources": {"cpu": 0}}"#,
        r#"{"resources": {"cpu": -1}}"#,
        r#"{"resources": {"memory": "32MiB"}}"#,
        r#"{"name": "My Agent"}"#,
        r#"{"checkpointer": "redis"}"#,
        r#"{"scaling_metric": "cpu"}"#,
        r#"{"limits": {"recursion_limit": 0}}"#,
        r#"{"limits": {"run_timeout": 0}}"#,
        r#"{"limits": {"cost_per_run": 0}}"#,
        r#"{"max_replicas": 1.5}"#,
        r#"{"database": "yes"}"#,
        r#"{"observability": {"otlp_endpoint": "collector"}}"#,
    ] {
        assert_eq!(fault_codes(section), ["invalid-value"], "{section}");
    }
    for section in
        [r#"{"min_replicas": "2"}"#, r#"{"database": 1}"#, r#"{"limits": []}"#, r#"{"limits": {"rate": 3}}"#, "[]"]
    {
        assert_eq!(fault_codes(section), ["wrong-type"], "{section}");
    }
    let sleeping = with_section(r#"{"min_replicas": 0}"#).unwrap().manifest;
    assert_eq!(sleeping.section.min_replicas, 0);
    let many = with_section(r#"{"min_replicas": 25}"#).unwrap().manifest;
    assert_eq!(many.section.max_replicas, 25);
}

#[test]
fn values_of_env_are_kept_apart_and_never_shown() {
    let text =
        r#"{"dependencies": ["."], "graphs": {"a": "./a.py:g"}, "env": {"KEY": "sk-1234", "N": 5}, "grpahs": 1}"#;
    let loaded = parse(text, "langgraph.json", "x").unwrap();
    let EnvSource::Inline(values) = &loaded.manifest.env else { panic!("not inline") };
    assert_eq!(values["KEY"].expose_secret(), "sk-1234");
    assert_eq!(values["N"].expose_secret(), "5");
    assert!(!loaded.manifest.raw.to_string().contains("sk-1234"));
    assert!(!format!("{:?}", loaded.manifest).contains("sk-1234"));
    assert!(!render(&loaded.warnings).contains("sk-1234"), "{}", render(&loaded.warnings));
    assert_eq!(loaded.warnings[0].fix.as_deref(), Some("did you mean `graphs`?"));
}

#[test]
fn the_name_is_the_sections_or_the_only_graphs_or_the_folders() {
    let named = |text: &str| parse(text, "f", "My Folder").unwrap().manifest.name;
    assert_eq!(named(r#"{"dependencies": ["."], "graphs": {"one": "a:b", "two": "a:c"}}"#), "my-folder");
    assert_eq!(named(r#"{"dependencies": ["."], "graphs": {"One": "a:b"}}"#), "one");
    assert_eq!(named(r#"{"dependencies": ["."], "graphs": {"one": "a:b"}, "rapidclaw": {"name": "n"}}"#), "n");
}

#[test]
fn what_the_cli_sends_the_server_reads() {
    let sent =
        parse(r#"{"dependencies": ["."], "graphs": {"a": "x:y", "b": "x:z"}, "env": {"K": "v"}}"#, "f", "Dir").unwrap();
    let got = Manifest::from_json(&sent.manifest.raw, &sent.manifest.name).unwrap();
    assert_eq!(got.name, "dir");
    assert_eq!(got.raw, sent.manifest.raw);
    assert!(matches!(got.env, EnvSource::Inline(values) if values.is_empty()));
}

#[test]
fn files_that_are_no_manifest() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("langgraph.json");
    assert!(matches!(load(&path), Err(ManifestError::Missing(_))));
    assert!(matches!(load(folder.path()), Err(ManifestError::Directory(_))));
    for bytes in [b"\xEF\xBB\xBF{}".as_slice(), b"\xFF\xFE{\0}\0", b"{\"a\": \"\xE9\"}"] {
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(load(&path), Err(ManifestError::Encoding { .. })));
    }
    std::fs::write(&path, vec![b' '; usize::try_from(MAX_BYTES).unwrap() + 1]).unwrap();
    assert!(matches!(load(&path), Err(ManifestError::TooLarge(_))));
    std::fs::write(&path, "").unwrap();
    assert_eq!(load(&path).unwrap_err().diagnostics()[0].code, "syntax");
}

#[test]
fn a_key_of_the_section_that_stands_at_the_top_was_meant_for_it() {
    let text = r#"{"dependencies": ["."], "graphs": {"a": "./a.py:g"}, "name": "x", "min_replicas": 2}"#;
    let loaded = parse(text, "langgraph.json", "x").unwrap();
    let fixes: Vec<_> = loaded.warnings.iter().map(|fault| fault.fix.as_deref().unwrap()).collect();
    assert_eq!(fixes, ["did you mean `rapidclaw.name`?", "did you mean `rapidclaw.min_replicas`?"]);
}
