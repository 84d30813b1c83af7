//! Base images are fetched with Docker's logins, as `docker` itself fetches them.

use super::tools::{Debian, Image, PASSWORD, base64};
use crate::machine::{Machine, Project, Said, said};
use std::process::Command;

/// Builds on the image, with this as Docker's configuration.
fn build_on(image: &str, config: &str) -> Said {
    let (machine, project) = (Machine::new(), Project::new("e2e-base-login"));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), config).unwrap();
    let mut build = machine.command();
    build.args(["build", "--base-image", image]).current_dir(project.path()).env("DOCKER_CONFIG", folder.path());
    said(&mut build)
}

fn docker(config: &str, arguments: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), config).unwrap();
    let done = Command::new("docker").arg("--config").arg(folder.path()).args(arguments).output().unwrap();
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn a_base_image_behind_a_login_is_fetched_with_dockers() {
    // Given an image that is in a registry alone. Nothing can be built on it: it is fetched, and that is all.
    let (closed, open) = (Debian::with_password(), Debian::start());
    let login = format!(r#"{{"auths": {{"{}": {{"auth": "{}"}}}}}}"#, closed.host, base64(&format!("ann:{PASSWORD}")));
    let wrong = format!(r#"{{"auths": {{"{}": {{"auth": "{}"}}}}}}"#, closed.host, base64("ann:wrong"));
    let helper = r#"{"credsStore": "nowhere"}"#;
    let there = |registry: &Debian| {
        let image = Image::make(&format!("{}/team/base:1", registry.host));
        docker(&login, &["push", "-q", &image.0]);
        image.remove();
        image
    };
    let (image, other) = (there(&closed), there(&open));

    // Without a login, with a wrong one, and where a helper has failed, the registry's refusal says what to do.
    for (config, more) in [("{}", ""), (wrong.as_str(), ""), (helper, "the credential helper nowhere failed")] {
        let refused = build_on(&image.0, config).fails(1);
        refused
            .says(&format!("error: the base image {} cannot be pulled", image.0))
            .says(&format!("`docker login {}`", closed.host))
            .says(more)
            .hides(PASSWORD);
    }
    // With Docker's login it is fetched; and from a registry that asks nobody, whatever the helper does.
    for (image, config) in [(&image, login.as_str()), (&other, helper)] {
        build_on(&image.0, config).says("error: the step `").hides("cannot be pulled").hides(PASSWORD);
        docker("{}", &["image", "inspect", &image.0]);
    }
    // What has its registry's digest is the same wherever it was pulled; `--pull` fetches it anew.
    let machine = Machine::new();
    let project = Project::new("e2e-base-login");
    let mut build = machine.command();
    build.args(["build", "--pull", "--base-image", "127.0.0.1:1/none:1"]).current_dir(project.path());
    said(&mut build).fails(1).says("and without --pull");
}
