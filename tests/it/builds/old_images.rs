//! What builds and releases leave in the engine, and that it does not grow for ever.

use crate::machine::{ECHO, Project, Server, until};
use std::collections::BTreeSet;

/// Names of the agent's images: those that builds gave, and those that the server gave.
fn names(server: &Server, agent: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let all = server.machine.docker_lines(&["images", "--format", "{{.Tag}}", &format!("rapidclaw/{agent}")]);
    let own = &server.id[server.id.len() - 8..];
    let all = all.into_iter().filter(|tag| tag.starts_with(own) && !tag.contains("step-"));
    all.partition(|tag| tag.contains('.'))
}

fn digits(version: usize, server: &Server, agent: &str) -> String {
    let releases = server.rapidclaw(&["releases", agent, "--json"]).ok().json();
    let release =
        releases["releases"].as_array().unwrap().iter().find(|one| one["version"] == version).unwrap().clone();
    release["image"].as_str().unwrap().trim_start_matches("sha256:")[..12].to_owned()
}

#[test]
fn images_of_old_releases_and_builds_are_removed() {
    // Given a server that keeps the images of two releases.
    let server = Server::with(&["--keep-images", "2"]);
    let mut project = Project::new("e2e-images");

    // When six releases have served, one after the other,
    for version in 1..=6 {
        project = project.graph(&ECHO.replace("{len(said)}", &format!("{{len(said)}}v{version}")));
        server.deploy(&project).ok().prints(&format!("e2e-images v{version} live in"));
    }
    // and one could not,
    let broken = project.graph("raise RuntimeError('broken')\ngraph = None\n");
    server.deploy(&broken).exits(6);

    // then the server has names for the two that served last, and the builder for its last five.
    let wanted: BTreeSet<String> = [5, 6].map(|version| digits(version, &server, "e2e-images")).into();
    until("only the images of v5 and v6 bear names of the server's", || {
        let (_, kept) = names(&server, "e2e-images");
        let kept: BTreeSet<String> = kept.iter().map(|tag| tag.split('-').nth(1).unwrap().to_owned()).collect();
        if kept == wanted { Ok(()) } else { Err(format!("{kept:?}, not {wanted:?}")) }
    });
    assert_eq!(names(&server, "e2e-images").0.len(), 5);

    // A rollback goes to what is kept, and says of the rest that its image is gone.
    server.rapidclaw(&["rollback", "v5", "--agent", "e2e-images"]).ok();
    let gone = server.rapidclaw(&["rollback", "v1", "--agent", "e2e-images"]).fails(1);
    let gone = gone.says("the image of v1").says("check its source revision out and deploy it");
    assert!(!gone.err.contains("panicked"));

    // With the agent go its images, but for those that another server has named.
    let image = format!("rapidclaw/e2e-images:{}", names(&server, "e2e-images").1.first().unwrap());
    let other = "rapidclaw/e2e-images:00000000-000000000000";
    assert!(server.machine.docker(&["tag", &image, other]).status.success());
    server.rapidclaw(&["destroy", "e2e-images", "--yes"]).ok();
    assert_eq!(names(&server, "e2e-images"), (BTreeSet::new(), BTreeSet::new()));
    assert!(server.machine.docker(&["rmi", other]).status.success());
}
