//! What builds, deploys and destroyed agents leave in the engine: nothing that nobody needs, and nothing of others is
//! taken. All images of these builds bear a mark of the test's own, so that others may build meanwhile.

use crate::building::with_langgraph;
use crate::machine::{ECHO, Project, Said, Server, docker_said, until};
use serde_json::json;
use std::collections::BTreeSet;
use std::process::{Command, Stdio};

/// What is installed: what takes seconds, so that it can be cancelled meanwhile.
const REQUIREMENTS: &str = "langgraph>=1.0,<2\nnumpy==2.3.5\n";

/// A project whose every image bears the mark.
fn marked(name: &str, mark: &str) -> Project {
    let project = Project::new(name).set("dockerfile_lines", json!([format!("LABEL e2e.mark={mark}")]));
    project.write("requirements.txt", REQUIREMENTS);
    project
}

fn deploy(server: &Server, project: &Project) -> Said {
    server.deploy_with(project, &["--base-image", with_langgraph()])
}

/// All images that bear the mark, also those without a name, and what they are called.
fn images(mark: &str) -> BTreeSet<(String, String)> {
    let label = format!("label=e2e.mark={mark}");
    let format = "{{.ID}}\t{{.Repository}}:{{.Tag}}";
    let listed = docker_said(&["images", "-a", "--no-trunc", "--filter", &label, "--format", format]);
    let parts = |line: &str| line.split_once('\t').map(|(id, name)| (id.to_owned(), name.to_owned())).unwrap();
    listed.lines().map(parts).collect()
}

/// Those without a name on which no other stands.
fn nameless(mark: &str) -> BTreeSet<String> {
    let dangling = docker_said(&["images", "-q", "--no-trunc", "--filter", "dangling=true"]);
    let marked: BTreeSet<String> = images(mark).into_iter().map(|(id, _)| id).collect();
    dangling.lines().map(str::to_owned).filter(|id| marked.contains(id)).collect()
}

fn until_none(mark: &str) {
    until("nothing of the agents is left in the engine", || {
        let left = images(mark);
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}

#[test]
fn deploys_and_destroys_leave_the_engine_as_it_was() {
    // Given two servers on one engine, and two projects.
    let (server, other) = (Server::start(), Server::start());
    let mark = server.id.clone();
    let (mut first, second) = (marked("e2e-left-a", &mark), marked("e2e-left-b", &mark));

    // When both are deployed, and one is changed,
    deploy(&server, &first).ok();
    let steps = images(&mark).into_iter().filter(|(_, name)| name.contains("step-")).count();
    assert_eq!((nameless(&mark), steps), (BTreeSet::new(), 1), "{:?}", images(&mark));
    deploy(&server, &second).ok();
    first = first.graph(&ECHO.replace("{len(said)}", "{len(said)} changed"));
    deploy(&server, &first).ok();
    // and one is deployed to the other server as well, under the same name,
    deploy(&other, &first).ok();
    let of_other = format!(":{}", &other.id[other.id.len() - 8..]);
    let named = |images: BTreeSet<(String, String)>| -> BTreeSet<String> {
        images.into_iter().map(|(_, name)| name).filter(|name| name.contains(&of_other)).collect()
    };
    let before = named(images(&mark));
    assert!(before.len() >= 2, "{before:?}");
    // then what one server destroys takes nothing of the other's,
    let said = server.rapidclaw(&["destroy", "e2e-left-a", "--yes"]).ok();
    assert!(said.err.contains(&format!("{} ", with_langgraph())) && said.err.contains("the base image of"), "{said}");
    assert_eq!(named(images(&mark)), before);
    assert!(images(&mark).iter().any(|(_, name)| name.contains("rapidclaw-deps:")));
    let doctor = server.rapidclaw(&["doctor"]);
    assert!(doctor.out.contains("kept images: ") && doctor.out.contains("of installed packages"), "{doctor}");
    other.rapidclaw(&["destroy", "e2e-left-a", "--yes"]).ok();
    server.rapidclaw(&["destroy", "e2e-left-b", "--yes"]).ok();
    // and with the last of them all is gone, packages and steps as well.
    until_none(&mark);
}

#[test]
fn builds_that_fail_or_are_cancelled_leave_what_the_next_one_goes_on_from_and_nothing_else() {
    let server = Server::start();
    let mark = server.id.clone();
    let project = marked("e2e-left-c", &mark);

    // When a build fails for its packages,
    project.write("requirements.txt", &format!("{REQUIREMENTS}no-such-package-of-rapidclaw==1\n"));
    deploy(&server, &project).exits(3);
    // then what it has made has a name,
    assert_eq!(nameless(&mark), BTreeSet::new(), "{:?}", images(&mark));
    let kept = images(&mark).into_iter().filter(|(_, name)| name.contains("step-")).count();
    assert_eq!(kept, 1, "{:?}", images(&mark));

    // One that is cancelled while it installs leaves no more.
    project.write("requirements.txt", REQUIREMENTS);
    let mut command = server.machine.command();
    command.args(["build", "-v", "--base-image", with_langgraph(), "-m"]).arg(project.path().join("langgraph.json"));
    let log = tempfile::NamedTempFile::new().unwrap();
    command.stdout(Stdio::null()).stderr(log.reopen().unwrap());
    let mut building = command.spawn().unwrap();
    until("the build installs", || {
        let said = std::fs::read_to_string(log.path()).unwrap();
        if said.contains("installing dependencies") { Ok(()) } else { Err(said) }
    });
    let interrupt = Command::new("kill").args(["-INT", &building.id().to_string()]).status().unwrap();
    assert!(interrupt.success());
    assert_eq!(building.wait().unwrap().code(), Some(130));
    assert_eq!(nameless(&mark), BTreeSet::new(), "{:?}", images(&mark));

    // The next one goes on from there, a deploy makes it the server's, and with the agent all of it goes.
    server
        .rapidclaw(&[
            "build",
            "--base-image",
            with_langgraph(),
            "-m",
            project.path().join("langgraph.json").to_str().unwrap(),
        ])
        .ok();
    deploy(&server, &project).ok().prints("e2e-left-c v1 live");
    server.rapidclaw(&["destroy", "e2e-left-c", "--yes"]).ok();
    until_none(&mark);
}
