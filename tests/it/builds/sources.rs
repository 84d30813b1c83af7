//! Where dependencies come from, built with the real Docker Engine: Git, C, private indexes, folders beside the
//! manifest, workspaces.

use crate::building::{self, Cleanup, built, built_with, docker, engine, imported, project, said};
use crate::index::Index;
use rapidclaw::image::{BuildOptions, Project};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn run(program: &str, folder: &Path, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Whether the image has a program.
fn has(tag: &str, program: &str) -> bool {
    docker(&["run", "--rm", "--network", "none", tag, "sh", "-c", &format!("command -v {program}")]).status.success()
}

/// A bare repository with a small package, in the project's folder.
fn repository(folder: &Path) {
    let work = tempfile::tempdir().unwrap();
    std::fs::write(
        work.path().join("pyproject.toml"),
        "[project]\nname='from-git'\nversion='4'\n[tool.setuptools]\npy-modules=['from_git']\n",
    )
    .unwrap();
    std::fs::write(work.path().join("from_git.py"), "value = 'git'\n").unwrap();
    run("git", work.path(), &["init", "-q", "-b", "main"]);
    run("git", work.path(), &["add", "."]);
    run("git", work.path(), &["-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-q", "-m", "one"]);
    run("git", work.path(), &["tag", "v4"]);
    let target = folder.join("from-git.git");
    // Its branches and tags are in one file, and the folders that Git wants for them are empty.
    run("git", work.path(), &["clone", "-q", "--bare", ".", target.to_str().unwrap()]);
    assert_eq!(std::fs::read_dir(target.join("refs/heads")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_git_dependency_is_installed_and_git_stays_behind() {
    let engine = engine().await;
    let _cleanup = Cleanup("image-git");
    let folder = tempfile::tempdir().unwrap();
    repository(folder.path());
    // The repository is one of the base image: a build reaches no file of this machine.
    let manifest = r#"{"dependencies": ["./app"], "graphs": {"agent": "./app/agent.py:graph"}, "rapidclaw": {"name": "image-git"},
        "dockerfile_lines": ["COPY from-git.git /srv/from-git.git"]}"#;
    let pyproject = "[project]\nname='app'\nversion='1'\ndependencies=['from-git>=1']\n[tool.uv.sources]\nfrom-git={git='file:///srv/from-git.git', tag='v4'}\n";
    let project = project(
        folder.path(),
        &[
            ("langgraph.json", manifest),
            ("app/pyproject.toml", pyproject),
            ("app/agent.py", "import from_git\ngraph = from_git.value\n"),
        ],
    );
    let built = built(&engine, &project).await;
    assert_eq!(imported(&built.tag, "agent", "agent.graph, m.version('from-git')"), "git 4");
    assert!(!has(&built.tag, "git"));
}

#[tokio::test]
async fn the_manifests_base_image_is_what_is_built_on() {
    let engine = engine().await;
    let _cleanup = Cleanup("image-based");
    let folder = tempfile::tempdir().unwrap();
    let manifest = format!(
        r#"{{"dependencies": ["."], "graphs": {{"agent": "./agent.py:graph"}}, "base_image": "{}", "rapidclaw": {{"name": "image-based"}}}}"#,
        building::BASE
    );
    let project = project(folder.path(), &[("langgraph.json", &manifest), ("agent.py", "graph = 'based'\n")]);
    let built = built_with(&engine, &project, &BuildOptions::default()).await;
    assert_eq!(imported(&built.tag, "agent", "agent.graph"), "based");
    // The first layers are its own.
    let layers = |image: &str| -> Vec<String> {
        let listed = said(&docker(&["image", "inspect", "-f", "{{json .RootFS.Layers}}", image]));
        serde_json::from_str(&listed).unwrap()
    };
    assert!(layers(&built.tag).starts_with(&layers(building::BASE)));
}

#[tokio::test]
async fn a_dependency_in_c_is_compiled_and_the_compiler_stays_behind() {
    let engine = engine().await;
    let _cleanup = Cleanup("image-native");
    let folder = tempfile::tempdir().unwrap();
    let setup = "from setuptools import Extension, setup\n\
        setup(name='native', version='2', ext_modules=[Extension('native', ['native.c'])])\n";
    let code = "#include <Python.h>\n\
        static PyObject *answer(PyObject *self, PyObject *args) { return PyLong_FromLong(42); }\n\
        static PyMethodDef methods[] = {{\"answer\", answer, METH_NOARGS, NULL}, {NULL, NULL, 0, NULL}};\n\
        static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, \"native\", NULL, -1, methods};\n\
        PyMODINIT_FUNC PyInit_native(void) { return PyModule_Create(&module); }\n";
    let project = project(
        folder.path(),
        &[
            (
                "langgraph.json",
                r#"{"dependencies": [".", "./native"], "graphs": {"agent": "./agent.py:graph"}, "rapidclaw": {"name": "image-native"}}"#,
            ),
            ("agent.py", "import native\ngraph = native.answer()\n"),
            ("native/setup.py", setup),
            ("native/native.c", code),
        ],
    );
    let built = built(&engine, &project).await;
    assert_eq!(imported(&built.tag, "agent", "agent.graph"), "42");
    for program in ["gcc", "cc", "make"] {
        assert!(!has(&built.tag, program), "{program}");
    }
}

/// Every byte of an image, its history and configuration included, has none of the text.
fn holds_nowhere(image: &str, text: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    said(&docker(&["save", "-o", file.path().to_str().unwrap(), image]));
    let bytes = std::fs::read(file.path()).unwrap();
    assert!(bytes.len() > 1 << 20);
    let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text);
    for text in [text, base64.trim_end_matches('=')] {
        assert!(!bytes.windows(text.len()).any(|part| part == text.as_bytes()), "{text} is in {image}");
    }
}

#[tokio::test]
async fn a_private_indexs_password_is_in_no_layer() {
    let engine = engine().await;
    let _cleanup = Cleanup("image-private");
    let folder = tempfile::tempdir().unwrap();
    let password = "hunter2-of-the-index";
    let index = Index::start(password);
    let host = index.address.split(':').next().unwrap();
    let conf =
        format!("[global]\nextra-index-url = http://ann:{password}@{}/simple\ntrusted-host = {host}\n", index.address);
    let project = project(
        folder.path(),
        &[
            (
                "langgraph.json",
                r#"{"dependencies": [".", "rapidclaw-private-thing"], "graphs": {"agent": "./agent.py:graph"},
                    "pip_config_file": "pip.conf", "rapidclaw": {"name": "image-private"}}"#,
            ),
            ("agent.py", "import rapidclaw_private_thing\ngraph = rapidclaw_private_thing.value\n"),
            ("pip.conf", &conf),
        ],
    );
    // Nothing of an earlier run: what is searched below was made with this password.
    let anew = BuildOptions { no_cache: true, ..building::options() };
    let all = || -> BTreeSet<String> {
        said(&docker(&["images", "-aq", "--no-trunc"])).lines().map(ToOwned::to_owned).collect()
    };
    let before = all();
    let built = built_with(&engine, &project, &anew).await;
    assert_eq!(imported(&built.tag, "agent", "agent.graph"), "private");
    assert!(index.log().contains("-py3-none-any.whl True"), "{}", index.log());

    // Nor in the stages that came before: they stay with the engine as the builder's cache.
    holds_nowhere(&built.tag, password);
    let mut searched = 0;
    for stage in all().difference(&before) {
        // Other tests' images may go while this one looks.
        let told =
            [&["history", "--no-trunc", "--format", "{{.CreatedBy}}", stage][..], &["inspect", stage]].map(docker);
        if told.iter().any(|told| String::from_utf8_lossy(&told.stderr).contains("o such image")) {
            continue;
        }
        let [history, config] = told.each_ref().map(said);
        assert!(!history.contains(password), "{history}");
        assert!(!config.contains(password));
        // The stage that installed, which the image itself does not stand on.
        if history.lines().next().is_some_and(|line| line.contains("uv pip install")) && searched < 4 {
            holds_nowhere(stage, password);
            searched += 1;
        }
    }
    assert!(searched > 0, "no stage that installs was found");
}

fn workspace(folder: &Path) -> PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/projects/locked");
    copy(&from, folder);
    std::fs::remove_file(folder.join("langgraph.json")).unwrap();
    folder.join("packages/x")
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[tokio::test]
async fn a_package_of_a_workspace_above_the_manifest_is_built_from_the_workspaces_lock() {
    let engine = engine().await;
    let _cleanup = Cleanup("image-member");
    let folder = tempfile::tempdir().unwrap();
    let member = workspace(folder.path());
    let manifest = r#"{"source": {"kind": "uv", "root": "../.."}, "graphs": {"agent": "./src/x/graph.py:graph"}, "rapidclaw": {"name": "image-member"}}"#;
    let project: Project =
        project(&member, &[("langgraph.json", manifest), ("src/x/graph.py", "import idna, x\ngraph = x.__name__\n")]);
    let built = built(&engine, &project).await;
    // What the package needs is installed, what only the root needs is not.
    let shown = "agent.graph, m.version('idna'), m.version('x'), [d.name for d in m.distributions() if d.name == 'six'], p['workdir']";
    let said = imported(&built.tag, "x.graph", shown);
    let locked = std::fs::read_to_string(folder.path().join("uv.lock")).unwrap();
    let idna = said.split(' ').nth(1).unwrap();
    assert!(locked.contains(&format!("name = \"idna\"\nversion = \"{idna}\"")), "{said}");
    assert!(
        said.starts_with("x ") && said.ends_with(" 1 [] /deps/x/packages/x") || said.contains(" [] /deps/"),
        "{said}"
    );
}

#[tokio::test]
async fn folders_outside_the_manifests_own_are_installed_too() {
    let engine = engine().await;
    let _cleanup = Cleanup("image-outside");
    let folder = tempfile::tempdir().unwrap();
    let text = "[project]\nname='agent-app'\nversion='1'\ndependencies=['shared-lib']\n[tool.uv.sources]\nshared-lib={path='../libs/shared', editable=true}\n";
    for (name, text) in [
        ("libs/shared/pyproject.toml", "[project]\nname='shared-lib'\nversion='5'\ndependencies=['idna']\n"),
        ("libs/shared/src/shared_lib/__init__.py", "import idna\nvalue = 'shared'\n"),
    ] {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let app = folder.path().join("app");
    std::fs::create_dir(&app).unwrap();
    let project = project(
        &app,
        &[
            (
                "langgraph.json",
                r#"{"dependencies": [".", "../libs/shared"], "graphs": {"agent": "./agent.py:graph"}, "rapidclaw": {"name": "image-outside"}}"#,
            ),
            ("pyproject.toml", text),
            ("agent.py", "import shared_lib\ngraph = shared_lib.value\n"),
        ],
    );
    let built = built(&engine, &project).await;
    assert_eq!(built.notes, Vec::<String>::new());
    assert_eq!(imported(&built.tag, "agent", "agent.graph, m.version('shared-lib')"), "shared 5");
}
