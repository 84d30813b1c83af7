use super::*;
use crate::image::context::tests::project;

fn plan(manifest: &str, files: &[(&str, &str)]) -> Plan {
    let (_folder, project) = project(manifest, files);
    Plan::of(&project, "python:3.12-slim").unwrap()
}

fn text(plan: &Plan, path: &str) -> String {
    match &plan.entries.iter().find(|entry| entry.path == path).unwrap().content {
        Content::Bytes(bytes) => String::from_utf8(bytes.clone()).unwrap(),
        other => panic!("{other:?}"),
    }
}

const SMALL: &str = r#"{"dependencies": [".", "httpx"], "graphs": {"agent": "./agent.py:graph"}}"#;

#[test]
fn code_comes_last_and_dependencies_before_it() {
    let plan = plan(SMALL, &[("agent.py", ""), ("requirements.txt", "langchain-openai\n")]);
    let at =
        |needle: &str| plan.dockerfile.find(needle).unwrap_or_else(|| panic!("no {needle} in {}", plan.dockerfile));
    assert!(
        at("--target /opt/rapidclaw/site") < at("COPY .rapidclaw/deps")
            && at("requirements.in") < at("COPY --from=rapidclaw-deps /opt/venv")
    );
    assert!(at("COPY --from=rapidclaw-deps /opt/venv") < at("COPY .rapidclaw/app /deps"));
    let after = &plan.dockerfile[at("COPY .rapidclaw/app /deps")..];
    assert!(!after.contains("RUN"), "{after}");
    assert!(after.ends_with("WORKDIR /deps/app\n"), "{after}");
    assert!(plan.dockerfile.contains(
        "USER 10001:10001\nENTRYPOINT []\nCMD [\"/opt/venv/bin/python\",\"-I\",\"-S\",\"/opt/rapidclaw/runner/rapidclaw_runner/supervisor.py\"]\nFROM rapidclaw-ready\nCOPY"
    ));
    assert!(!plan.dockerfile.contains("--mount") && !plan.dockerfile.contains("<<"));
    assert_eq!(
        text(&plan, ".rapidclaw/deps/requirements.in"),
        "-r /opt/build/app/requirements.txt\nhttpx\nlanggraph>=0.6\n"
    );
    assert_eq!(plan.layers.iter().filter(|layer| layer.dependencies).count(), 1);
}

#[test]
fn langgraph_comes_with_graphs_and_stays_away_where_all_targets_are_plain_turns() {
    let turn = ("echo.py", "async def turn(thread, message, emit):\n    return message.text\n");
    let asked = |graphs: &str| {
        let manifest =
            format!("{{\"dependencies\": [\".\", \"httpx\"], \"graphs\": {{\"echo\": \"./echo.py:turn\"{graphs}}}}}");
        text(&plan(&manifest, &[turn, ("agent.py", "graph = 1")]), ".rapidclaw/deps/requirements.in")
    };
    assert_eq!(asked(""), "httpx\n");
    assert_eq!(asked(", \"agent\": \"./agent.py:graph\""), "httpx\nlanggraph>=0.6\n");
}

#[test]
fn the_runner_is_told_where_everything_is() {
    let plan = plan(
        r#"{"dependencies": ["./flat", "./lib", "."], "graphs": {"a": "./agent.py:graph", "m": "lib.x:g"}, "env": {"KEY": "sk-1"}}"#,
        &[
            ("agent.py", ""),
            ("flat/__init__.py", ""),
            ("lib/pyproject.toml", "[project]\nname='my-lib'\nversion='2'\n"),
        ],
    );
    let want = json!({"graphs": {"a": "/deps/app/agent.py:graph", "m": "lib.x:g"}, "paths": ["/deps/app", "/deps/app/lib", "/opt/rapidclaw/meta"], "workdir": "/deps/app"});
    assert_eq!(plan.project_json, want);
    let apart = self::plan(
        r#"{"dependencies": ["./flat", "./lib"], "graphs": {"a": "./flat/agent.py:graph"}}"#,
        &[
            ("flat/agent.py", ""),
            ("flat/__init__.py", ""),
            ("lib/src/x.py", ""),
            ("lib/pyproject.toml", "[project]\nname='my-lib'\nversion='2'\n"),
        ],
    );
    let paths = ["/deps/flat", "/deps/lib/src", "/deps/lib", "/opt/rapidclaw/meta"];
    let want = json!({"graphs": {"a": "/deps/flat/flat/agent.py:graph"}, "paths": paths, "workdir": "/deps/flat/flat"});
    assert_eq!(apart.project_json, want);
    assert!(text(&apart, ".rapidclaw/meta/meta/my_lib-2.dist-info/METADATA").contains("Name: my-lib\nVersion: 2\n"));
}

#[test]
fn the_digest_changes_with_every_input_and_with_nothing_else() {
    let files = [("agent.py", "x = 1\n"), ("requirements.txt", "httpx\n")];
    let of = |manifest: &str, files: &[(&str, &str)], base: &str, platform: &str| {
        let (_folder, project) = project(manifest, files);
        Plan::of(&project, "python:3.12-slim").unwrap().digests(base, platform).unwrap().inputs
    };
    let first = of(SMALL, &files, "sha256:1", "linux/amd64");
    assert_eq!(of(SMALL, &files, "sha256:1", "linux/amd64"), first);
    assert_ne!(of(SMALL, &files, "sha256:2", "linux/amd64"), first);
    assert_ne!(of(SMALL, &files, "sha256:1", "linux/arm64"), first);
    assert_ne!(of(SMALL, &[("agent.py", "x = 2\n"), files[1]], "sha256:1", "linux/amd64"), first);
    let named = SMALL.replace("\"graphs\"", "\"rapidclaw\": {\"name\": \"other\"}, \"graphs\"");
    assert_ne!(of(&named, &files, "sha256:1", "linux/amd64"), first);
}

#[test]
fn the_digest_without_the_code_changes_with_all_else() {
    let of = |manifest: &str, files: &[(&str, &str)], base: &str| {
        let (_folder, project) = project(manifest, files);
        Plan::of(&project, "python:3.12-slim").unwrap().digests(base, "linux/amd64").unwrap()
    };
    let needs = ("requirements.txt", "httpx\n");
    let first = of(SMALL, &[("agent.py", ""), needs], "sha256:1");
    let code = of(SMALL, &[("agent.py", "x = 2\n"), ("lib/new.py", ""), needs], "sha256:1");
    assert_eq!(code.deps, first.deps);
    assert_ne!(code.inputs, first.inputs);
    let graphs =
        SMALL.replace(":graph\"", ":other\"").replace("\"graphs\"", "\"rapidclaw\": {\"name\": \"b\"}, \"graphs\"");
    assert_eq!(of(&graphs, &[("agent.py", ""), needs], "sha256:1").deps, first.deps);
    assert_ne!(of(SMALL, &[("agent.py", ""), ("requirements.txt", "six\n")], "sha256:1").deps, first.deps);
    assert_ne!(of(SMALL, &[("agent.py", ""), needs], "sha256:2").deps, first.deps);
    let lines = SMALL.replace("\"graphs\"", "\"dockerfile_lines\": [\"RUN true\"], \"graphs\"");
    assert_ne!(of(&lines, &[("agent.py", ""), needs], "sha256:1").deps, first.deps);
    // What a build backend describes is described without its code; what it compiles is not.
    for (setup, same) in [("setup()", true), ("setup(ext_modules=[])", false)] {
        let [one, other] =
            ["", "x = 1\n"].map(|code| of(SMALL, &[("setup.py", setup), ("agent.py", code)], "sha256:1"));
        assert_eq!(one.deps == other.deps, same, "{setup}");
        assert_ne!(one.inputs, other.inputs);
    }
}

#[test]
fn the_code_layer_holds_what_the_dockerfile_copies() {
    let files = [("agent.py", ""), ("pyproject.toml", "[project]\nname='x'\nversion='1'\n"), ("lib/a.py", "")];
    let entries = plan(SMALL, &files).code_entries().unwrap();
    let paths: Vec<&str> = entries.iter().map(|entry| entry.path.as_str()).collect();
    let want = [
        "deps/app",
        "deps/app/agent.py",
        "deps/app/lib/a.py",
        "deps/app/pyproject.toml",
        "opt/rapidclaw/meta/project.pth",
        "opt/rapidclaw/meta/x-1.dist-info/METADATA",
        "opt/rapidclaw/project.json",
    ];
    assert_eq!(paths, want);
    assert!(plan(SMALL, &[("agent.py", ""), ("lib/.wh.a.py", "")]).code_entries().is_none());
}

#[test]
fn values_of_an_inline_env_do_not_enter_the_image() {
    let manifest = r#"{"dependencies": ["."], "graphs": {"a": "./agent.py:graph"}, "env": {"KEY": "sk-1234"}}"#;
    let (folder, mut project) = project(manifest, &[("agent.py", ""), ("langgraph.json", manifest)]);
    project.manifest_file = Some(folder.path().join("langgraph.json"));
    let plan = Plan::of(&project, "b").unwrap();
    let mut tar = Vec::new();
    archive::write(&plan.entries, &archive::Seen::default(), &mut tar).unwrap();
    assert!(!String::from_utf8_lossy(&tar).contains("sk-1234"));
    assert!(text(&plan, ".rapidclaw/app/app/langgraph.json").contains("KEY"));
}

#[test]
fn pip_conf_and_lines_and_locks() {
    let plan = plan(
        r#"{"dependencies": ["."], "graphs": {"a": "./agent.py:g"}, "pip_config_file": "pip.conf", "keep_pkg_tools": ["pip"],
            "dockerfile_lines": ["RUN apt-get update", "COPY extra.txt /x"]}"#,
        &[
            ("agent.py", ""),
            ("extra.txt", ""),
            ("Dockerfile", "FROM theirs"),
            (
                "pip.conf",
                "[global]\nindex-url = https://i/simple\nextra_index_url =\n  https://a\n  https://b\ntimeout = 5\n",
            ),
        ],
    );
    assert!(plan.dockerfile.starts_with(
        "FROM python:3.12-slim AS rapidclaw-base\nLABEL rapidclaw.step=1\nRUN apt-get update\nCOPY extra.txt /x\nFROM"
    ));
    assert_eq!(text(&plan, ".rapidclaw/deps/requirements.in"), "pip\nlanggraph>=0.6\n");
    assert!(plan.entries.iter().any(|entry| entry.path == "extra.txt"));
    // What pip.conf holds (an index' password) goes by an argument that no image keeps, and by no file.
    let all = format!("{:?}{}", plan.entries, plan.dockerfile);
    assert!(!all.contains("pip.conf\"") && !all.contains("https://i/simple"), "{all}");
    assert_eq!(plan.build_arguments().len(), 2);
    assert_eq!(text(&plan, ".rapidclaw/Dockerfile"), plan.dockerfile);
    let locked = self::plan(
        r#"{"source": {"kind": "uv", "root": ".", "package": "x"}, "graphs": {"a": "./packages/x/src/x/g.py:g"}}"#,
        &[
            ("pyproject.toml", "[tool.uv.workspace]\nmembers=['packages/*']\n"),
            ("uv.lock", "version = 1\n"),
            ("packages/x/pyproject.toml", "[project]\nname='x'\nversion='1'\n"),
            ("packages/x/src/x/g.py", ""),
        ],
    );
    assert!(locked.dockerfile.contains(
        "uv sync --project /opt/build/app --frozen --inexact --no-dev --no-install-workspace --compile-bytecode --package 'x' && "
    ));
    assert!(locked.dockerfile.contains("--constraints /opt/build/locked.txt -r /opt/build/requirements.in $index"));
    assert_eq!(text(&locked, ".rapidclaw/deps/requirements.in"), "langgraph>=0.6\n");
    assert_eq!(
        locked.project_json["paths"],
        json!(["/deps/app/packages/x/src", "/deps/app/packages/x", "/deps/app", "/opt/rapidclaw/meta"])
    );
}

#[test]
fn javascript_and_strangers_are_refused() {
    let (_folder, js) = project(r#"{"graphs": {"a": "./agent.ts:graph"}}"#, &[("agent.ts", "")]);
    assert!(matches!(Plan::of(&js, "b"), Err(PlanError::JavaScript(_))));
    let (_folder, outside) =
        project(r#"{"dependencies": ["./a"], "graphs": {"a": "./b/x.py:g"}}"#, &[("a/x.py", ""), ("b/x.py", "")]);
    assert!(matches!(Plan::of(&outside, "b"), Err(PlanError::GraphOutside(_))));
}
