//! uv's own settings and locks: overrides, wheels beside the project, folders, an index with a login.

use super::building::{Cleanup, built, engine, imported, project};
use super::stands_on;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

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

/// A wheel made by hand.
fn wheel(folder: &Path) {
    let script = "import zipfile, sys\n\
        files = {'beside.py': \"value = 'beside'\\n\", 'beside-3.dist-info/METADATA': 'Metadata-Version: 2.1\\nName: beside\\nVersion: 3\\n',\n\
        'beside-3.dist-info/WHEEL': 'Wheel-Version: 1.0\\nGenerator: t\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n',\n\
        'beside-3.dist-info/RECORD': 'beside.py,,\\nbeside-3.dist-info/METADATA,,\\nbeside-3.dist-info/WHEEL,,\\nbeside-3.dist-info/RECORD,,\\n'}\n\
        archive = zipfile.ZipFile(sys.argv[1], 'w')\n\
        [archive.writestr(name, text) for name, text in files.items()]\n\
        archive.close()\n";
    std::fs::create_dir_all(folder).unwrap();
    let made = Command::new("python3").args(["-c", script]).arg(folder.join("beside-3-py3-none-any.whl")).status();
    assert!(made.unwrap().success());
}

/// `tests/projects/private_index.py`, where containers reach this machine.
struct Index {
    child: Child,
    address: String,
    _log: tempfile::NamedTempFile,
}

impl Index {
    fn start(password: &str) -> Self {
        let gateway = ["network", "inspect", "bridge", "-f", "{{(index .IPAM.Config 0).Gateway}}"];
        let gateway = super::said(&super::docker(&gateway));
        let log = tempfile::NamedTempFile::new().unwrap();
        let script = crate::machine::repository().join("tests/projects/private_index.py");
        let mut command = Command::new("python3");
        command.arg(script).args([&*gateway, "ann", password]).arg(log.path()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        Self { child, address: format!("{gateway}:{}", port.trim()), _log: log }
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn uv(folder: &Path, arguments: &[&str]) {
    let python = std::env::var("RAPIDCLAW_TEST_PYTHON").expect("RAPIDCLAW_TEST_PYTHON: run scripts/test.sh");
    let uv = Path::new(&python).with_file_name("uv");
    let login = [("UV_INDEX_MINE_USERNAME", "ann"), ("UV_INDEX_MINE_PASSWORD", "hunter2-of-a-lock")];
    let output = Command::new(uv).args(arguments).current_dir(folder).envs(login).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

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
        let first = built(&engine, &made).await;
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
        let second = built(&engine, &made).await;
        assert_ne!(second.image_id, first.image_id);
        assert_eq!(stands_on(&second.tag), stands_on(&first.tag), "{name}");
    }
}
