//! uv's own settings and locks: overrides, wheels beside the project, folders, an index with a login.

use super::stands_on;
use crate::building::{Cleanup, built_quickly, engine, imported, project};
use crate::index::{Index, uv, wheel};

const MANIFEST: &str = r#"{"dependencies": ["."], "graphs": {"agent": "./agent.py:graph"}, "pip_config_file": "pip.conf",
    "rapidclaw": {"name": "NAME"}}"#;

/// `base` asks for `six<1.17` of the index, and the override says otherwise; `six` itself is a wheel beside the project.
const PYPROJECT: &str = r#"[project]
name = "shop"
version = "1"
requires-python = ">=3.11"
dependencies = ["idna", "beside", "lib[more]", "rapidclaw-private-thing"]

[tool.ruff]
line-length = 80

[tool.uv]
override-dependencies = ["idna<3.8"]

[tool.uv.sources]
beside = { path = "vendor/beside-3-py3-none-any.whl" }
lib = { path = "lib" }
rapidclaw-private-thing = { index = "mine" }

[[tool.uv.index]]
name = "mine"
url = "http://INDEX/simple"
explicit = true
"#;

const LIB: &str = "[project]\nname = \"lib\"\nversion = \"2\"\ndependencies = [\"idna>=3.8\"]\n\
    [project.optional-dependencies]\nmore = [\"sniffio\"]\n";

const AGENT: &str = "import beside, idna, lib, rapidclaw_private_thing, sniffio\ngraph = ' '.join([beside.value, lib.value, rapidclaw_private_thing.value])\n";

#[tokio::test]
async fn a_lock_is_installed_as_it_stands_and_without_one_uv_has_its_settings() {
    let engine = engine().await;
    let (_one, _other) = (Cleanup("e2e-locked"), Cleanup("e2e-unlocked"));
    let index = Index::start("hunter2-of-a-lock");
    let pyproject = PYPROJECT.replace("INDEX", &index.address);
    let conf = format!("[global]\nextra-index-url = http://ann:hunter2-of-a-lock@{}/simple\n", index.address);
    for (name, locked) in [("e2e-locked", true), ("e2e-unlocked", false)] {
        let folder = tempfile::tempdir().unwrap();
        wheel(&folder.path().join("vendor"));
        let manifest = MANIFEST.replace("NAME", name);
        let files = [
            ("langgraph.json", manifest.as_str()),
            ("agent.py", AGENT),
            ("pip.conf", &conf),
            ("pyproject.toml", &pyproject),
            ("lib/pyproject.toml", LIB),
            ("lib/src/lib/__init__.py", "value = 'lib'\n"),
        ];
        let made = project(folder.path(), &files);
        if locked {
            uv(folder.path(), &["lock", "--quiet"]);
        }
        let first = built_quickly(&engine, &made).await;
        assert_eq!(first.notes, Vec::<String>::new(), "{name}");
        let shown = "agent.graph, m.version('idna') < '3.8', m.version('beside'), m.version('lib')";
        assert_eq!(imported(&first.tag, "agent", shown), "beside lib private True 3 2", "{name}");
        // Another version, another tool's table: nothing is installed anew.
        let changed =
            pyproject.replace("version = \"1\"", "version = \"1.1\"").replace("line-length = 80", "line-length = 90");
        std::fs::write(folder.path().join("pyproject.toml"), changed).unwrap();
        if locked {
            uv(folder.path(), &["lock", "--quiet"]);
        }
        let second = built_quickly(&engine, &made).await;
        assert_ne!(second.image_id, first.image_id);
        assert_eq!(stands_on(&second.tag), stands_on(&first.tag), "{name}");
    }
}
