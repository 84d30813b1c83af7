//! What tests of builds stand on: the real Docker Engine and the base image of scripts/base-image.sh.

use rapidclaw::base::shutdown::CancellationToken;
use rapidclaw::engine;
use rapidclaw::image::{BuildOptions, BuildReporter, Built, Project, Unsteady, build};
use rapidclaw::manifest;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Mutex;

pub const BASE: &str = "rapidclaw-base:3.13";

/// Remembers what a build said.
#[derive(Default)]
pub struct Heard(pub Mutex<Vec<String>>);

impl Heard {
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    fn add(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }
}

impl BuildReporter for Heard {
    fn step_started(&self, number: usize, total: usize, title: &str) {
        self.add(format!("started {number}/{total} {title}"));
    }
    fn step_cached(&self, _number: usize, _total: usize, title: &str) {
        self.add(format!("cached {title}"));
    }
    fn output(&self, line: &str) {
        self.add(format!("output {line}"));
    }
    fn finished(&self, built: &Built) {
        self.add(format!("finished {}", built.image_id));
    }
}

pub fn docker(arguments: &[&str]) -> Output {
    Command::new("docker").args(arguments).output().expect("the docker command")
}

pub fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

pub fn project(folder: &Path, files: &[(&str, &str)]) -> Project {
    for (name, text) in files {
        std::fs::create_dir_all(folder.join(name).parent().unwrap()).unwrap();
        std::fs::write(folder.join(name), text).unwrap();
    }
    let manifest_file = folder.join("langgraph.json");
    let loaded = manifest::load(&manifest_file).unwrap();
    assert_eq!(manifest::project::check(&loaded, folder), []);
    let private = Vec::new();
    let unsteady = Unsteady::default();
    Project {
        manifest: loaded.manifest,
        folder: folder.to_owned(),
        manifest_file: Some(manifest_file),
        private,
        unsteady,
    }
}

pub async fn engine() -> bollard::Docker {
    assert!(
        docker(&["image", "inspect", BASE]).status.success(),
        "the base image {BASE} is missing: run scripts/base-image.sh"
    );
    engine::connect().await.unwrap()
}

pub fn options() -> BuildOptions {
    BuildOptions { base_image: Some(BASE.into()), ..BuildOptions::default() }
}

/// The base image with LangGraph: what is built on it installs the project's own packages alone. Made once.
pub fn with_langgraph() -> &'static str {
    const NAME: &str = "rapidclaw-base:e2e-langgraph";
    // Of several tests at once one makes it.
    let lock = std::fs::File::create(std::env::temp_dir().join("rapidclaw-e2e-langgraph.lock")).unwrap();
    lock.lock().unwrap();
    let id = |name: &str| said(&docker(&["image", "inspect", "-f", "{{.Id}}", name]));
    let stands_on = ["image", "inspect", "-f", "{{index .Config.Labels \"e2e.base\"}}", NAME];
    let there = docker(&stands_on);
    if there.status.success() && said(&there) == id(BASE) {
        return NAME;
    }
    let pip = "python3 -m pip install -q --break-system-packages --root-user-action=ignore --no-cache-dir";
    let file = format!("FROM {BASE}\nRUN {pip} 'langgraph>=1.0,<2'\nLABEL e2e.base={}\n", id(BASE));
    let mut build = Command::new("docker");
    build.env("DOCKER_BUILDKIT", "0").args(["build", "-q", "-t", NAME, "-"]).stdin(std::process::Stdio::piped());
    let mut child = build.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), file.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    NAME
}

/// [`options`], on [`with_langgraph`].
pub fn quick_options() -> BuildOptions {
    BuildOptions { base_image: Some(with_langgraph().to_owned()), ..options() }
}

/// Takes the images of one agent away when the test ends, however it ends.
pub struct Cleanup(pub &'static str);

impl Drop for Cleanup {
    fn drop(&mut self) {
        let found = docker(&["images", "-q", "--filter", &format!("label=rapidclaw.agent={}", self.0)]);
        for id in String::from_utf8_lossy(&found.stdout).lines() {
            // Not the layers below: another build may stand on them.
            docker(&["rmi", "-f", "--no-prune", id]);
        }
    }
}

/// Builds a project that must be built.
pub async fn built(engine: &bollard::Docker, project: &Project) -> Built {
    built_with(engine, project, &options()).await
}

/// [`built`], on [`with_langgraph`].
pub async fn built_quickly(engine: &bollard::Docker, project: &Project) -> Built {
    built_with(engine, project, &quick_options()).await
}

/// [`built`], in another way.
pub async fn built_with(engine: &bollard::Docker, project: &Project, options: &BuildOptions) -> Built {
    let heard = Heard::default();
    let built = build(engine, project, options, &heard, &CancellationToken::new()).await;
    built.unwrap_or_else(|error| panic!("{error:?}\n{}", heard.lines().join("\n")))
}

/// Imports `module` as a replica would and prints what `shown` says.
pub fn imported(tag: &str, module: &str, shown: &str) -> String {
    let script = format!(
        "import sys, json, importlib.metadata as m; p = json.load(open('/opt/rapidclaw/project.json'))\n\
         sys.path[:0] = p['paths']; import langgraph, {module} as agent; print({shown})"
    );
    said(&docker(&["run", "--rm", "--network", "none", tag, "python", "-c", &script]))
}
