use super::*;
use crate::manifest::{Severity, parse};

fn project(manifest: &str, files: &[(&str, &str)]) -> (tempfile::TempDir, Loaded) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let loaded = parse(manifest, "langgraph.json", "x").unwrap();
    (folder, loaded)
}

#[test]
fn a_whole_project_has_no_faults() {
    let (folder, loaded) = project(
        r#"{"dependencies": ["./app", "langchain-openai"], "graphs": {"a": "./app/agent.py:graph", "m": "pkg.mod:g"}, "env": ".env"}"#,
        &[("app/agent.py", "graph = 1\n"), (".gitignore", "*.db\n")],
    );
    assert_eq!(check(&loaded, folder.path()), []);
    let env = env_file(&loaded.manifest, folder.path()).unwrap();
    assert!(!env.exists && env.path.ends_with(".env"));
}

#[test]
fn what_is_missing_or_left_out_is_said_at_its_value() {
    let manifest = r#"{"dependencies": ["./app", "./none", "./app/requirements.txt", "lib"],
 "graphs": {"a": "./app/agnet.py:graph",
  "b": "./app/secret.py:graph",
  "c": "./other/c.py:graph",
  "d": "./app:graph"}, "pip_config_file": "pip.conf"}"#;
    let (folder, loaded) = project(
        manifest,
        &[
            ("app/agent.py", ""),
            ("app/secret.py", "graph = 1"),
            ("app/requirements.txt", "x @ git+https://u:p@h/x"),
            ("other/c.py", ""),
            ("lib/x.py", ""),
            (".dockerignore", "**/secret.py\n"),
        ],
    );
    let faults = check(&loaded, folder.path());
    let seen: Vec<_> = faults.iter().map(|fault| (fault.code, fault.line, fault.column)).collect();
    assert_eq!(
        seen,
        [
            ("credentials-in-url", 1, 19),
            ("missing-dependency", 1, 28),
            ("dependency-not-a-folder", 1, 38),
            ("package-or-folder", 1, 64),
            ("missing-graph-file", 2, 18),
            ("graph-excluded", 3, 8),
            ("graph-outside-dependencies", 4, 8),
            ("graph-not-a-file", 5, 8),
            ("missing-file", 5, 43),
        ]
    );
    assert_eq!(faults[3].severity, Severity::Warning);
    assert_eq!(faults[4].fix.as_deref(), Some("did you mean \"./app/agent.py\"?"));
    assert_eq!(faults[6].fix.as_deref(), Some("add \"./other\" to `dependencies`"));
    assert!(!crate::manifest::render(&faults).contains("u:p"));
}

fn codes(manifest: &str, files: &[(&str, &str)]) -> Vec<(&'static str, String, Option<String>)> {
    let (folder, loaded) = project(manifest, files);
    check(&loaded, folder.path()).into_iter().map(|fault| (fault.code, fault.message, fault.fix)).collect()
}

#[test]
fn graphs_are_looked_for_in_the_code_which_is_not_run() {
    let manifest = r#"{"dependencies": ["."], "graphs": {"a": "./agent.py:grpah", "b": "./agent.py:make.inner", "c": "./star.py:any",
        "d": "pkg.mod:graph", "e": "pkg.none:graph", "f": "installed.mod:graph", "g": "./broken.py:graph", "h": "pkg.sub:nothing"}}"#;
    let files = [
        ("agent.py", "raise SystemExit('run')\nasync def make(): ...\ngraph = make()\n"),
        ("star.py", "from x import *\n"),
        ("broken.py", "graph = (\n"),
        ("src/pkg/__init__.py", ""),
        ("src/pkg/mod.py", "from .x import graph\n"),
        ("src/pkg/sub/__init__.py", "# nothing\n"),
    ];
    let found = codes(manifest, &files);
    let seen: Vec<_> = found.iter().map(|(code, ..)| *code).collect();
    assert_eq!(seen, ["missing-attribute", "missing-graph-file", "python-syntax", "missing-attribute"], "{found:?}");
    assert_eq!(found[0].2.as_deref(), Some("did you mean \"graph\"?"));
    assert!(found[1].1.contains("src/pkg/none.py is missing"), "{found:?}");
}

#[test]
fn places_of_this_machine_and_names_that_two_folders_share() {
    let manifest = r#"{"dependencies": ["./a", "./b", "/srv/lib", "~/lib"], "graphs": {"a": "./a/one.py:graph", "b": "./b/two.py:graph"}}"#;
    let files = [
        ("a/one.py", "graph = 1"),
        ("a/utils.py", ""),
        ("a/pyproject.toml", "[project]\nname='my-agent'"),
        ("b/two.py", "graph = 1"),
        ("b/utils/__init__.py", ""),
        ("b/pyproject.toml", "[project]\nname='my_agent'\n[tool.uv.sources]\nlib={path='../c'}\ngone={path='../d'}"),
        ("c/x.py", ""),
    ];
    let found = codes(manifest, &files);
    let mut seen: Vec<_> = found.iter().map(|(code, ..)| *code).collect();
    seen.sort_unstable();
    let want = [
        "absolute-dependency",
        "absolute-dependency",
        "missing-local-source",
        "missing-local-source",
        "shared-name",
        "shared-name",
    ];
    assert_eq!(seen, want, "{found:?}");
}

#[test]
fn the_python_of_the_manifest_is_one_that_the_project_runs_on() {
    let of = |python: &str, pyproject: &str| {
        let manifest = format!(
            r#"{{"dependencies": ["."],{python}
 "graphs": {{"a": "./x.py:graph"}}}}"#
        );
        let (folder, loaded) = project(&manifest, &[("x.py", "graph = 1"), ("pyproject.toml", pyproject)]);
        let found = check(&loaded, folder.path());
        found.into_iter().map(|fault| (fault.code, fault.column, fault.message, fault.fix)).collect::<Vec<_>>()
    };
    let newer = "[project]\nname = 'x'\nrequires-python = '>=3.12,<3.14'\n";
    // At the version where there is one, else at the folder.
    let message = "pyproject.toml of \".\" wants Python >=3.12,<3.14 (requires-python), and the manifest asks for 3.14";
    let fix = Some("write \"python_version\": \"3.12\"".to_owned());
    assert_eq!(of(r#" "python_version": "3.14","#, newer), [("requires-python", 43, message.into(), fix.clone())]);
    let found = of("", newer);
    assert_eq!((found[0].1, found[0].3.clone()), (19, fix));
    assert!(found[0].2.ends_with("and without `python_version` it is 3.11"), "{found:?}");
    let (none, poetry) = ("[project]\nname = 'x'\n", "[tool.poetry.dependencies]\npython = '^3.10'\n");
    for (python, pyproject) in [
        (r#" "python_version": "3.13","#, newer),
        // The base image decides, and the build asks it.
        (r#" "base_image": "mine:1","#, newer),
        ("", none),
        ("", poetry),
        ("", "[project]\nname = 'x'\nrequires-python = 'three'\n"),
    ] {
        assert_eq!(of(python, pyproject), [], "{python} {pyproject}");
    }
}

#[test]
fn a_workspaces_package_is_what_says_which_python() {
    let files = [
        ("pyproject.toml", "[tool.uv.workspace]\nmembers=['p/*']"),
        ("uv.lock", ""),
        ("p/one/pyproject.toml", "[project]\nname='one'\nrequires-python='>=3.13'"),
        ("p/two/pyproject.toml", "[project]\nname='two'\nrequires-python='>=3.11'"),
        ("x.py", "graph = 1"),
    ];
    let of = |package: &str| {
        let source = format!(r#"{{"kind": "uv", "package": "{package}"}}"#);
        codes(&format!(r#"{{"source": {source}, "graphs": {{"a": "./x.py:graph"}}}}"#), &files)
    };
    assert_eq!(of("two"), []);
    assert!(of("one")[0].1.starts_with("pyproject.toml of \"one\" wants Python >=3.13"));
}

#[test]
fn a_lock_that_lies_above_is_not_passed_over_in_silence() {
    let manifest = r#"{"dependencies": ["."], "graphs": {"a": "./x.py:graph"}}"#;
    let of = |files: &[(&str, &str)]| {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let loaded = parse(manifest, "langgraph.json", "x").unwrap();
        check(&loaded, &folder.path().join("apps/one"))
    };
    let workspace = ("pyproject.toml", "[tool.uv.workspace]\nmembers=['apps/*']");
    let (lock, graph, own) =
        (("uv.lock", ""), ("apps/one/x.py", "graph = 1"), ("apps/one/pyproject.toml", "[project]\nname='one'"));
    let found = of(&[workspace, lock, graph, own]);
    let [fault] = &found[..] else { panic!("{found:?}") };
    assert_eq!((fault.code, fault.severity, fault.column), ("lock-above", Severity::Warning, 19));
    assert!(fault.message.starts_with("the uv.lock in \"../..\" locks this package"), "{fault:?}");
    assert!(fault.fix.as_deref().unwrap().contains(r#""source": {"kind": "uv", "root": "../.."}"#), "{fault:?}");
    // One of its own; one that is not this package's.
    assert_eq!(of(&[workspace, lock, graph, own, ("apps/one/uv.lock", "")]), []);
    assert_eq!(of(&[("pyproject.toml", "[tool.uv.workspace]\nmembers=['libs/*']"), lock, graph, own]), []);
    assert_eq!(of(&[("pyproject.toml", "[project]\nname='above'"), lock, graph, own]), []);
    assert_eq!(of(&[workspace, graph, own]), []);
}

#[test]
fn of_a_workspace_it_must_be_clear_which_package_is_meant() {
    let files = [
        ("pyproject.toml", "[tool.uv.workspace]\nmembers=['p/*']"),
        ("uv.lock", ""),
        ("p/one/pyproject.toml", "[project]\nname='one'"),
        ("p/two/pyproject.toml", "[project]\nname='two'"),
        ("p/one/x.py", "graph = 1"),
    ];
    let of = |package: &str| {
        let manifest = format!(r#"{{"source": {{"kind": "uv"{package}}}, "graphs": {{"a": "./p/one/x.py:graph"}}}}"#);
        codes(&manifest, &files)
    };
    assert_eq!(of(r#", "package": "One""#), []);
    assert_eq!(of("")[0].2.as_deref(), Some("its packages are: one, two"));
    assert_eq!(of(r#", "package": "tow""#)[0].2.as_deref(), Some("did you mean \"two\"?"));
}

#[test]
fn engines_of_a_package_json_are_langgraphs() {
    let of = |text: &str| {
        let manifest = r#"{"graphs": {"a": "./agent.ts:graph"}, "node_version": "20"}"#;
        let found = codes(manifest, &[("agent.ts", ""), ("package.json", text)]);
        found.into_iter().map(|(code, ..)| code).collect::<Vec<_>>()
    };
    assert_eq!(of(r#"{"engines": {"node": "22"}}"#), [""; 0]);
    assert_eq!(of("{}"), [""; 0]);
    assert_eq!(of(r#"{"engines": {"node": ">=20"}}"#), ["node-engine"]);
    assert_eq!(of(r#"{"engines": {"node": "18"}}"#), ["node-engine"]);
    assert_eq!(of(r#"{"engines": {"node": "20", "pnpm": "9"}}"#), ["node-engine"]);
    assert_eq!(of("{"), ["package-json"]);
}

#[test]
fn a_graph_that_a_link_leads_elsewhere_for_would_not_enter_the_image() {
    let elsewhere = tempfile::NamedTempFile::new().unwrap();
    let (folder, loaded) = project(r#"{"dependencies": ["."], "graphs": {"a": "./x.py:graph"}}"#, &[]);
    std::os::unix::fs::symlink(elsewhere.path(), folder.path().join("x.py")).unwrap();
    let found = check(&loaded, folder.path());
    assert_eq!(found[0].code, "graph-outside-dependencies");
}

#[test]
fn an_environment_that_nobody_reads_or_that_is_missing_is_named() {
    let agent = ("agent.py", "graph = 1\n");
    let plain = r#"{"dependencies": ["."], "graphs": {"a": "./agent.py:graph"}}"#;
    let named = r#"{"dependencies": ["."], "graphs": {"a": "./agent.py:graph"}, "env": ".env"}"#;
    let found = |manifest: &str, file: &str| codes(manifest, &[agent, (file, "A=1\n")]);
    assert_eq!(found(plain, ".env")[0].0, ENV_UNREAD);
    assert_eq!(found(named, ".env"), []);
    let missing = found(named, ".env.example").remove(0);
    assert_eq!(
        (missing.0, missing.1.as_str()),
        (ENV_MISSING, "there is no .env; .env.example beside it says what it holds")
    );
    assert_eq!(found(plain, ".env.example"), []);
    assert_eq!(found(r#"{"dependencies": ["."], "graphs": {"a": "./agent.py:graph"}, "env": {}}"#, "x"), []);
}

#[test]
fn what_the_sources_ask_for_that_a_replica_has_otherwise_is_named_with_file_and_line() {
    let manifest = r#"{"dependencies": ["."], "graphs": {"a": "./agent.py:graph"}, "env": ".env"}"#;
    let agent = ("agent.py", "import llm\n\ngraph = make(\n    lambda runtime: runtime.store)\n");
    let llm = ("pkg/llm.py", "x = 1\nmodel = ChatOpenAI(base_url='https://openrouter.ai/api/v1')\n");
    let test = ("tests/x.py", "ChatOpenAI(base_url='https://openrouter.ai/api/v1')\n");
    let ignored = ("secret/x.py", "ChatOpenAI(base_url='https://openrouter.ai/api/v1')\n");
    let env = |text| (".env", text);
    let seen = |manifest: &str, files: &[(&str, &str)]| -> Vec<(String, usize, &'static str)> {
        let files = [files, &[agent, llm, test, ignored, (".gitignore", "secret\n")]].concat();
        let (folder, loaded) = project(manifest, &files);
        check(&loaded, folder.path()).into_iter().map(|one| (one.file, one.line, one.code)).collect()
    };
    let key = ("pkg/llm.py".to_owned(), 2, "key-elsewhere");
    let store = ("agent.py".to_owned(), 4, "no-store");
    assert_eq!(seen(manifest, &[env("OPENAI_API_KEY=x\n")]), [key, store.clone()]);
    // A key that is not among the variables is not the gateway's, and neither is any where there is no gateway.
    assert_eq!(seen(manifest, &[env("OPENROUTER_API_KEY=x\n")]), std::slice::from_ref(&store));
    let off = manifest.replace("\"env\"", "\"rapidclaw\": {\"models\": {\"gateway\": false}}, \"env\"");
    assert_eq!(seen(&off, &[env("OPENAI_API_KEY=x\n")]), [store]);
    let own = ("own.py", "graph = builder.compile(store=InMemoryStore())\n");
    assert_eq!(seen(&off, &[env("OPENAI_API_KEY=x\n"), own]), []);
}

#[test]
fn an_old_langgraph_among_the_dependencies_is_ours_to_refuse() {
    let manifest = r#"{"dependencies": [".", "langgraph[x]<0.6"], "graphs": {"a": "./agent.py:graph"}}"#;
    let found = codes(manifest, &[("agent.py", "graph = 1\n")]);
    assert_eq!((found.len(), found[0].0), (1, "langgraph-too-old"));
    assert!(found[0].1.starts_with("rapidclaw itself needs LangGraph 0.6"), "{found:?}");
}
