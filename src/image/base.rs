//! The base image: there or fetched, and which Python it has.

use crate::base::paths;
use crate::engine::{self, PullError};
use crate::image::error::BuildError;
use crate::image::report::BuildReporter;
use crate::manifest::Manifest;
use bollard::Docker;
use bollard::errors::Error as DockerError;
use bollard::models::{ContainerCreateBody, HostConfig, ImageInspect};
use bollard::query_parameters::{AttachContainerOptionsBuilder, CreateContainerOptions, StartContainerOptions};
use etcetera::BaseStrategy as _;
use futures_util::StreamExt as _;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// How long a container may take to say which Python it has.
const ASK_TIMEOUT: Duration = Duration::from_secs(30);

/// What a build stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// As it was asked for.
    pub name: String,
    /// What it is wherever it is built on: the digest that its registry knows it by, else the engine's id of it.
    pub identity: String,
    /// `linux/amd64`
    pub platform: String,
    /// `3.13.5`; empty where it could not be found out.
    pub python: String,
}

/// The base image of a manifest: `given` (a flag or the environment), else its `base_image`, else
/// `python:X-slim`.
pub fn name(manifest: &Manifest, given: Option<&str>) -> String {
    // An empty variable says nothing.
    let named = given.filter(|given| !given.is_empty()).map(ToOwned::to_owned).or_else(|| manifest.base_image.clone());
    // LangGraph's `debian` is whatever Debian its images stand on; wolfi has no such image.
    let distro = if manifest.image_distro.as_deref() == Some("bookworm") { "-bookworm" } else { "" };
    named.unwrap_or_else(|| format!("python:{}-slim{distro}", manifest.python_version))
}

/// Sees that the image is there, fetching it where it is not, or in any case with `pull`, and which Python it has.
/// One for another platform than `wanted` is refused before anything is built.
pub async fn ensure(
    docker: &Docker,
    name: &str,
    wanted: Option<&str>,
    renewed: bool,
    reporter: &dyn BuildReporter,
) -> Result<Base, BuildError> {
    if !renewed && let Some(base) = find(docker, name, wanted).await? {
        return Ok(base);
    }
    pull(docker, name, wanted, reporter).await?;
    let found = find(docker, name, wanted).await?;
    found.ok_or_else(|| BuildError::BaseImageUnavailable {
        image: name.to_owned(),
        host: engine::registry_of(name).to_owned(),
        message: "it is gone again".to_owned(),
    })
}

/// [`ensure`] without fetching it: nothing where it is not there.
pub async fn find(docker: &Docker, name: &str, wanted: Option<&str>) -> Result<Option<Base>, BuildError> {
    let image = match docker.inspect_image(name).await {
        Err(DockerError::DockerResponseServerError { status_code: 404, .. }) => return Ok(None),
        other => other.map_err(|source| BuildError::engine("inspecting the base image", source))?,
    };
    let id = image.id.clone().unwrap_or_else(|| name.to_owned());
    let part = |value: &Option<String>, default: &str| value.clone().unwrap_or_else(|| default.to_owned());
    let platform = format!("{}/{}", part(&image.os, "linux"), part(&image.architecture, "amd64"));
    if let Some(wanted) = wanted.filter(|wanted| *wanted != platform) {
        let (image, wanted) = (name.to_owned(), wanted.to_owned());
        return Err(BuildError::Platform { image, found: platform, wanted });
    }
    let python = match python_of(&image) {
        Some(python) => python,
        None => remembered_python(docker, &id).await,
    };
    let identity = registry_digest(name, image.repo_digests.as_deref().unwrap_or_default()).unwrap_or(id);
    Ok(Some(Base { name: name.to_owned(), identity, platform, python }))
}

/// The digest by which the registry of its name knows the image: each machine that pulls the same name has the same,
/// and an engine's own id differs by how it keeps images. One that another registry knows it by comes and goes with
/// names that others give it.
fn registry_digest(name: &str, known: &[String]) -> Option<String> {
    // Docker Hub's may be written out, by people and by Podman.
    let familiar = |name: &str| {
        let name = ["docker.io/", "index.docker.io/"].iter().find_map(|hub| name.strip_prefix(hub)).unwrap_or(name);
        name.strip_prefix("library/").unwrap_or(name).to_owned()
    };
    let name = name.split_once('@').map_or(name, |(name, _)| name);
    let tag = name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'));
    let named = familiar(tag.map_or(name, |(name, _)| name));
    let mut known: Vec<&str> = known
        .iter()
        .filter_map(|known| known.split_once('@'))
        .filter(|(of, _)| familiar(of) == named)
        .map(|(_, one)| one)
        .collect();
    known.sort_unstable();
    known.first().map(|digest| (*digest).to_owned())
}

async fn pull(
    docker: &Docker,
    name: &str,
    wanted: Option<&str>,
    reporter: &dyn BuildReporter,
) -> Result<(), BuildError> {
    reporter.output(&format!("pulling {name}"));
    engine::pull(docker, name, wanted).await.map_err(|error| match error {
        PullError::Unavailable { host, message } => {
            BuildError::BaseImageUnavailable { image: name.to_owned(), host, message }
        }
        PullError::Engine(source) => BuildError::engine("pulling the base image", source),
    })
}

/// `PYTHON_VERSION`, as the official images and ours have it.
fn python_of(image: &ImageInspect) -> Option<String> {
    let env = image.config.as_ref()?.env.as_ref()?;
    env.iter().find_map(|pair| pair.strip_prefix("PYTHON_VERSION=")).map(ToOwned::to_owned)
}

/// Asks the image once and remembers what it said, by its id.
async fn remembered_python(docker: &Docker, id: &str) -> String {
    let cache = cache_file();
    let text = cache.as_ref().and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
    let mut known: BTreeMap<String, String> = serde_json::from_slice(&text).unwrap_or_default();
    if let Some(python) = known.get(id) {
        return python.clone();
    }
    let asked = tokio::time::timeout(ASK_TIMEOUT, ask_python(docker, id)).await;
    let python = asked.ok().and_then(Result::ok).unwrap_or_default();
    if let (false, Some(path)) = (python.is_empty(), cache) {
        known.insert(id.to_owned(), python.clone());
        // A cache that cannot be written costs a question more.
        let folder = path.parent().map(|folder| paths::ensure_dir(folder, 0o700));
        let bytes = serde_json::to_vec(&known).unwrap_or_default();
        let _ = folder.transpose().and_then(|_| paths::write_private(&path, &bytes));
    }
    python
}

fn cache_file() -> Option<PathBuf> {
    etcetera::base_strategy::Xdg::new().ok().map(|dirs| dirs.cache_dir().join("rapidclaw/pythons.json"))
}

async fn ask_python(docker: &Docker, id: &str) -> Result<String, DockerError> {
    let script = "import platform; print(platform.python_version())";
    let body = ContainerCreateBody {
        image: Some(id.to_owned()),
        entrypoint: Some(vec!["python3".into(), "-c".into(), script.into()]),
        attach_stdout: Some(true),
        host_config: Some(HostConfig {
            network_mode: Some("none".into()),
            auto_remove: Some(true),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    let container = docker.create_container(None::<CreateContainerOptions>, body).await?.id;
    // Attached before the start, so that nothing is missed; the engine removes the container at its end.
    let options = AttachContainerOptionsBuilder::new().stdout(true).stream(true).build();
    let mut output = docker.attach_container(&container, Some(options)).await?.output;
    docker.start_container(&container, None::<StartContainerOptions>).await?;
    let mut text = String::new();
    while let Some(part) = output.next().await {
        text += &part?.to_string();
    }
    Ok(text.trim().to_owned())
}

/// The line that is said where the base image's Python is not the one that the manifest asks for.
pub fn python_note(python: &str, manifest: &Manifest) -> Option<String> {
    let asked = manifest.raw.get("python_version").is_some_and(|value| !value.is_null());
    let minor: String = python.splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
    (asked && !minor.is_empty() && minor != manifest.python_version)
        .then(|| format!("python {minor} of the base image is used, the manifest asks for {}", manifest.python_version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_known_by_its_registrys_digest() {
        let of = |name: &str, known: &[&str]| {
            registry_digest(name, &known.iter().map(|known| (*known).to_owned()).collect::<Vec<_>>())
        };
        let both = ["python@sha256:1", "h:5000/p/python@sha256:2"];
        assert_eq!(of("python:3.12-slim", &both).as_deref(), Some("sha256:1"));
        assert_eq!(of("h:5000/p/python", &both).as_deref(), Some("sha256:2"));
        assert_eq!(of("h:5000/p/python:1@sha256:2", &both).as_deref(), Some("sha256:2"));
        // What somebody pushed it to says nothing of it.
        assert_eq!(of("mine:1", &both), None);
        assert_eq!(of("mine:1", &[]), None);
        for written in ["python:3.12-slim", "docker.io/library/python:3.12-slim", "library/python"] {
            assert_eq!(of(written, &both).as_deref(), Some("sha256:1"), "{written}");
            assert_eq!(of(written, &["docker.io/library/python@sha256:3"]).as_deref(), Some("sha256:3"), "{written}");
        }
        assert_eq!(of("team/python", &both), None);
    }

    #[test]
    fn the_base_image_is_the_given_one_then_the_manifests_then_pythons() {
        let read = |text: &str| crate::manifest::parse(text, "f", "d").unwrap().manifest;
        let plain = read(r#"{"dependencies": ["x"], "graphs": {"a": "m:g"}, "python_version": "3.12"}"#);
        let named = read(r#"{"dependencies": ["x"], "graphs": {"a": "m:g"}, "base_image": "mine:1"}"#);
        assert_eq!(name(&plain, None), "python:3.12-slim");
        let distro = plain.raw.to_string().replace("\"3.12\"", "\"3.12\", \"image_distro\": \"bookworm\"");
        assert_eq!(name(&read(&distro), None), "python:3.12-slim-bookworm");
        assert_eq!(name(&named, None), "mine:1");
        assert_eq!(name(&named, Some("flag:2")), "flag:2");
        assert_eq!(name(&named, Some("")), "mine:1");
        assert_eq!(
            python_note("3.13.5", &plain).as_deref(),
            Some("python 3.13 of the base image is used, the manifest asks for 3.12")
        );
        assert_eq!(
            (python_note("3.12.1", &plain), python_note("", &plain), python_note("3.13.5", &named)),
            (None, None, None)
        );
    }
}
