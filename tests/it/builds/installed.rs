//! What the base image and `dockerfile_lines` have installed is used, not installed a second time.

use super::runs;
use crate::building::{Cleanup, built_quickly, engine, imported, project};
use std::path::Path;

const AGENT: &str = "import idna, six, sniffio\ngraph = 'here'\n";

/// `six` will do as it is, `sniffio` has a local version that no index has, `idna` is too old.
const LINES: &str = "RUN python3 -m pip install --quiet --break-system-packages --root-user-action=ignore six==1.15.0 sniffio==1.3.0 idna==2.0 \
     && cd $(python3 -c 'import sniffio, os; print(os.path.dirname(os.path.dirname(sniffio.__file__)))') \
     && mv sniffio-1.3.0.dist-info sniffio-1.3.0+cpu.dist-info \
     && sed -i 's/^Version: .*/Version: 1.3.0+cpu/' sniffio-1.3.0+cpu.dist-info/METADATA";

fn manifest(name: &str, more: &str) -> String {
    format!(
        r#"{{"dependencies": ["."], "graphs": {{"agent": "./agent.py:graph"}}, "dockerfile_lines": ["{LINES}"], {more}
            "rapidclaw": {{"name": "{name}"}}}}"#
    )
}

const SHOWN: &str = "m.version('six'), m.version('sniffio'), m.version('idna') >= '3', len([d for d in m.distributions() if d.name.lower() in ('six', 'sniffio')])";
const ENVIRONMENT: &str = "import sysconfig, os; print(sorted(x for x in os.listdir('/opt/venv/lib/' + os.listdir('/opt/venv/lib')[0] + '/site-packages') if x.startswith(('six', 'sniffio', 'idna'))))";

#[tokio::test]
async fn what_is_installed_below_is_not_installed_again() {
    let engine = engine().await;
    let _cleanup = Cleanup("e2e-below");
    let requirements = "six\nsniffio>=1.2\nidna>=3\nanyio\n";
    let pyproject = "[project]\nname = \"below\"\nversion = \"1\"\ndependencies = [\"six\", \"sniffio>=1.2\", \"idna>=3\"]\n\
        [tool.uv]\nprerelease = \"allow\"\n";
    for (file, text, more) in [
        ("requirements.txt", requirements, ""),
        // uv's own settings, and pip.
        ("pyproject.toml", pyproject, ""),
        ("requirements.txt", requirements, "\"pip_installer\": \"pip\","),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let manifest = manifest("e2e-below", more);
        let made = project(folder.path(), &[("langgraph.json", manifest.as_str()), ("agent.py", AGENT), (file, text)]);
        let image = built_quickly(&engine, &made).await;
        assert_eq!(image.notes, Vec::<String>::new(), "{file} {more}");
        assert_eq!(imported(&image.tag, "agent", SHOWN), "1.15.0 1.3.0+cpu True 2", "{file} {more}");
        let own = runs(&image.tag, &["python", "-c", ENVIRONMENT]);
        assert!(own.contains("idna") && !own.contains("six") && !own.contains("sniffio"), "{file} {more}: {own}");
    }
    // What a lock says comes first.
    let folder = tempfile::tempdir().unwrap();
    let manifest = manifest("e2e-below", "");
    let locked = pyproject.replace("\"six\"", "\"six==1.16.0\"");
    let files = [("langgraph.json", manifest.as_str()), ("agent.py", AGENT), ("pyproject.toml", &locked)];
    write(folder.path(), &files);
    crate::index::uv(folder.path(), &["lock", "--quiet"]);
    let image = built_quickly(&engine, &project(folder.path(), &files)).await;
    assert!(imported(&image.tag, "agent", "m.version('six')").starts_with("1.16.0"));
}

fn write(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        std::fs::write(folder.join(name), text).unwrap();
    }
}
