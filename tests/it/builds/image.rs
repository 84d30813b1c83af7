//! Builds small projects with the real Docker Engine, on the base image of scripts/base-image.sh.

use crate::building::{BASE, Cleanup, Heard, docker, engine, imported, options, project, said};
use rapidclaw::base::shutdown::CancellationToken;
use rapidclaw::image::{BuildError, BuildOptions, Project, build};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const GRAPH: &str = "from langgraph.graph import StateGraph, START, MessagesState\n\
import langchain_openai\n\
def model(state):\n    return {'messages': []}\n\
graph = StateGraph(MessagesState).add_node(model).add_edge(START, 'model').compile()\n";

#[tokio::test]
async fn a_project_is_built_and_a_changed_line_moves_the_last_layer_alone() {
    let docker_engine = engine().await;
    let _cleanup = Cleanup("image-test");
    let folder = tempfile::tempdir().unwrap();
    let project = project(
        folder.path(),
        &[
            (
                "langgraph.json",
                r#"{"dependencies": ["."], "graphs": {"agent": "./agent.py:graph"}, "python_version": "3.12", "env": ".env", "rapidclaw": {"name": "image-test"}}"#,
            ),
            ("agent.py", GRAPH),
            ("requirements.txt", "langgraph\nlangchain-openai\n"),
            (".env", "KEY=sk-1234\n"),
        ],
    );
    let never = CancellationToken::new();
    let heard = Heard::default();

    let started = Instant::now();
    let first = build(&docker_engine, &project, &options(), &heard, &never).await;
    let first = first.unwrap_or_else(|error| panic!("{error:?}\n{}", heard.lines().join("\n")));
    eprintln!("first build: {:.1} s", started.elapsed().as_secs_f64());
    assert_eq!(first.notes, ["python 3.13 of the base image is used, the manifest asks for 3.12"]);
    assert!(!first.cached && first.image_id.starts_with("sha256:"));

    // The image runs as nobody, without a network, and finds the environment, compiled.
    let script = "import os, sys, json, glob, importlib.util as u\n\
        p = json.load(open('/opt/rapidclaw/project.json'))\n\
        sys.path[:0] = p['paths']\n\
        f, a = p['graphs']['agent'].split(':')\n\
        s = u.spec_from_file_location('g', f); m = u.module_from_spec(s); s.loader.exec_module(m)\n\
        sys.path.append('/opt/rapidclaw/site')\n\
        import langgraph.graph, websockets, ormsgpack, orjson\n\
        print(os.getuid(), os.getcwd(), type(getattr(m, a)).__name__, os.path.exists(langgraph.graph.__cached__),\n\
              sorted(os.listdir('/deps/app')), glob.glob('/deps/**/__pycache__', recursive=True), os.path.expanduser('~'))";
    let run =
        ["run", "--rm", "--network", "none", "--read-only", first.tag.as_str(), "/opt/venv/bin/python", "-c", script];
    assert_eq!(
        said(&docker(&run)),
        "10001 /deps/app CompiledStateGraph True ['agent.py', 'langgraph.json', 'requirements.txt'] [] /tmp"
    );
    let gone = "import importlib.util as u, os; print(u.find_spec('pip'), os.path.exists('/opt/uv'), os.path.exists('/opt/build'))";
    let run = ["run", "--rm", first.tag.as_str(), "/opt/venv/bin/python", "-I", "-c", gone];
    assert!(said(&docker(&run)).ends_with("False False"));
    let label = [
        "image",
        "inspect",
        "-f",
        "{{index .Config.Labels \"rapidclaw.inputs\"}} {{.Config.User}} {{json .Config.Cmd}}",
        &first.tag,
    ];
    assert_eq!(
        said(&docker(&label)),
        format!(
            "{} 10001:10001 [\"/opt/venv/bin/python\",\"-I\",\"-S\",\"/opt/rapidclaw/runner/rapidclaw_runner/supervisor.py\"]",
            first.inputs_digest
        )
    );

    // The same again is nothing to do.
    let started = Instant::now();
    let again = build(&docker_engine, &project, &options(), &Heard::default(), &never).await.unwrap();
    eprintln!("nothing changed: {:.2} s", started.elapsed().as_secs_f64());
    assert_eq!((again.image_id.as_str(), again.cached), (first.image_id.as_str(), true));

    // One changed line (never seen before, or its image would be there): no builder is asked, every layer
    // but the last is the same.
    change(folder.path());
    let heard = Heard::default();
    let started = Instant::now();
    let changed = build(&docker_engine, &project, &options(), &heard, &never).await.unwrap();
    eprintln!("one changed line: {:.2} s", started.elapsed().as_secs_f64());
    assert_eq!(heard.lines(), ["started 1/1 the code".to_owned(), format!("finished {}", changed.image_id)]);
    let layers = |tag: &str| said(&docker(&["image", "inspect", "-f", "{{json .RootFS.Layers}}", tag]));
    let (one, other): (Vec<String>, Vec<String>) =
        (serde_json::from_str(&layers(&first.tag)).unwrap(), serde_json::from_str(&layers(&changed.tag)).unwrap());
    assert_eq!(one.len(), other.len());
    assert_eq!(one[..one.len() - 1], other[..one.len() - 1]);
    assert_ne!(one.last(), other.last());
}

/// Changes the graph's file as it never was.
fn change(folder: &Path) {
    std::fs::write(folder.join("agent.py"), format!("{GRAPH}# {}\n", rapidclaw::base::ids::new_id())).unwrap();
}

fn small(folder: &Path, name: &str) -> Project {
    let manifest = format!(
        r#"{{"dependencies": ["."], "graphs": {{"agent": "./agent.py:graph"}}, "rapidclaw": {{"name": "{name}"}},
            "dockerfile_lines": ["ENV GREETING=\"hello {name}\"", "EXPOSE 8000", "RUN mkdir -m 700 -p /deps"]}}"#
    );
    let pyproject = "[project]\nname='small'\nversion='1'\ndependencies=[]\n";
    project(
        folder,
        &[
            ("langgraph.json", &manifest),
            ("agent.py", GRAPH),
            ("pyproject.toml", pyproject),
            ("lib/data/words.txt", "one"),
            ("lib/gone.py", "gone = 1"),
            ("run.sh", "#!/bin/sh\n"),
            ("lib/größe.txt", "x"),
            (&format!("lib/{}/long.txt", "long".repeat(40)), "x"),
        ],
    )
}

/// All below /deps and what is ours below /opt: kinds, modes, owners, contents. Not the times of folders.
fn tree(tag: &str) -> String {
    let script = "import hashlib, os, stat\n\
        def show(path):\n\
        \x20   s = os.lstat(path); m = stat.filemode(s.st_mode)\n\
        \x20   what = os.readlink(path) if m[0] == 'l' else hashlib.sha256(open(path, 'rb').read()).hexdigest() + f' {s.st_mtime}' if m[0] == '-' else ''\n\
        \x20   print(m, s.st_uid, s.st_gid, ascii(path), what)\n\
        for top in ('/opt', '/deps'):\n\
        \x20   show(top)\n\
        \x20   for folder, folders, files in os.walk(top):\n\
        \x20       folders[:] = sorted(name for name in folders if name not in ('venv', 'site', '__pycache__'))\n\
        \x20       for name in sorted(folders + files): show(os.path.join(folder, name))\n\
        print(os.getcwd())";
    said(&docker(&["run", "--rm", "--network", "none", tag, "python", "-c", script]))
}

/// What the image says of itself, without its labels' order and its own name.
fn config(tag: &str) -> String {
    said(&docker(&["image", "inspect", "-f", "{{json .Config}}", tag]))
}

#[tokio::test]
async fn a_layer_made_here_is_what_a_builder_makes_and_holds_no_deleted_file() {
    let docker_engine = engine().await;
    let _cleanup = Cleanup("image-equal");
    let folder = tempfile::tempdir().unwrap();
    let project = small(folder.path(), "image-equal");
    std::os::unix::fs::symlink("data/words.txt", folder.path().join("lib/link")).unwrap();
    std::fs::create_dir_all(folder.path().join("lib/inbox/new")).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path().join("run.sh"), executable).unwrap();
    let never = CancellationToken::new();
    build(&docker_engine, &project, &options(), &Heard::default(), &never).await.unwrap();

    change(folder.path());
    std::fs::remove_file(folder.path().join("lib/gone.py")).unwrap();
    std::fs::write(folder.path().join("lib/data/words.txt"), "two").unwrap();
    let heard = Heard::default();
    let ours = build(&docker_engine, &project, &options(), &heard, &never).await.unwrap();
    assert!(!heard.lines().iter().any(|line| line.contains("installing")), "{:?}", heard.lines());

    // The whole Dockerfile by the engine's builder, as `build --print-dockerfile` prints it.
    let archive = folder.path().with_extension("tar");
    let plan = rapidclaw::image::Plan::of(&project, BASE).unwrap();
    rapidclaw::image::archive::write(&plan.entries, &plan.seen, std::fs::File::create(&archive).unwrap()).unwrap();
    let labels = ["agent=image-equal".to_owned(), format!("base={BASE}"), format!("inputs={}", ours.inputs_digest)];
    let built = Command::new("docker")
        .env("DOCKER_BUILDKIT", "0")
        .args(["build", "-q", "-f", ".rapidclaw/Dockerfile", "-t", "rapidclaw/image-equal:whole"])
        .args(labels.iter().flat_map(|label| ["--label".to_owned(), format!("rapidclaw.{label}")]))
        .arg("-")
        .stdin(std::fs::File::open(&archive).unwrap())
        .output();
    said(&built.unwrap());
    std::fs::remove_file(&archive).unwrap();
    let (made, whole) = (tree(&ours.tag), tree("rapidclaw/image-equal:whole"));
    assert_eq!(made, whole);
    assert!(made.contains("/lib/data/words.txt") && !made.contains("gone.py"), "{made}");
    assert!(made.contains("-rwxr-xr-x 0 0 '/deps/app/run.sh'") && made.contains("link' data/words.txt"), "{made}");
    assert!(made.contains("drwxr-xr-x 0 0 '/deps/app/lib/inbox/new'"), "{made}");
    assert!(made.contains("drwxr-xr-x 0 0 '/deps'") && made.ends_with("\n/deps/app"), "{made}");
    let parse = |text: String| serde_json::from_str::<serde_json::Value>(&text).unwrap();
    let (mut made, mut whole) = (parse(config(&ours.tag)), parse(config("rapidclaw/image-equal:whole")));
    // The builder notes the image that it stood on before the last step.
    for config in [&mut made, &mut whole] {
        config.as_object_mut().unwrap().remove("Image");
    }
    // Only where the code is laid on it, that image is named.
    assert!(made["Labels"].as_object_mut().unwrap().remove("rapidclaw.stands-on").is_some());
    assert_eq!(made, whole);
    let history = said(&docker(&["history", "--format", "{{.CreatedBy}}", &ours.tag]));
    assert!(history.starts_with("rapidclaw: the code"), "{history}");
}

/// The engine, except that it loads no images.
async fn engine_that_loads_nothing(folder: &Path) -> bollard::Docker {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let path = folder.join("docker.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await?);
                }
                let text = String::from_utf8_lossy(&head).into_owned();
                if text.starts_with("POST /images/load") {
                    let body = r#"{"message": "whole archives only"}"#;
                    let length = body.len();
                    let answer = format!(
                        "HTTP/1.1 500 No\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
                    );
                    return client.write_all(answer.as_bytes()).await;
                }
                // One request a connection, so that none passes unseen.
                let text = text.replacen("\r\n", "\r\nConnection: close\r\n", 1);
                let mut engine = tokio::net::UnixStream::connect("/var/run/docker.sock").await?;
                engine.write_all(text.as_bytes()).await?;
                tokio::io::copy_bidirectional(&mut client, &mut engine).await.map(drop)
            });
        }
    });
    rapidclaw::engine::connect_to(&format!("unix://{}", path.display())).await.unwrap()
}

#[tokio::test]
async fn without_the_kept_image_or_the_load_the_builder_does_it() {
    let docker_engine = engine().await;
    let _cleanup = Cleanup("image-fallback");
    let folder = tempfile::tempdir().unwrap();
    let project = small(folder.path(), "image-fallback");
    let never = CancellationToken::new();
    let first = build(&docker_engine, &project, &options(), &Heard::default(), &never).await.unwrap();

    // The kept image is gone: it is built again, from the cache as far as that is kept.
    let base = said(&docker(&["image", "inspect", "-f", "{{.Id}} {{.Os}}/{{.Architecture}}", BASE]));
    let (id, platform) = base.split_once(' ').unwrap();
    let digests = rapidclaw::image::Plan::of(&project, BASE).unwrap().digests(id, platform).unwrap();
    let kept = format!("rapidclaw-deps:{}", &digests.deps["sha256:".len()..][..12]);
    let labelled = ["image", "inspect", "-f", "{{index .Config.Labels \"rapidclaw.deps\"}}", &kept];
    assert_eq!(said(&docker(&labelled)), digests.deps);
    said(&docker(&["rmi", "--no-prune", &kept]));
    change(folder.path());
    let heard = Heard::default();
    let second = build(&docker_engine, &project, &options(), &heard, &never).await.unwrap();
    let cached = "cached installing uv and what the runner needs".to_owned();
    assert!(heard.lines().contains(&cached), "{:?}", heard.lines());
    assert_eq!(said(&docker(&labelled)), digests.deps);
    assert_eq!(tree(&first.tag).lines().count(), tree(&second.tag).lines().count());

    // The engine takes no layer from us.
    let proxied = engine_that_loads_nothing(folder.path()).await;
    std::fs::write(folder.path().join(".dockerignore"), "docker.sock\n").unwrap();
    change(folder.path());
    let heard = Heard::default();
    let third = build(&proxied, &project, &options(), &heard, &never).await;
    let third = third.unwrap_or_else(|error| panic!("{error:?}\n{}", heard.lines().join("\n")));
    assert!(heard.lines().iter().any(|line| line.ends_with("the code") && line.contains("/2")), "{:?}", heard.lines());
    let ours = ["image", "inspect", "-f", "{{.Id}}", &third.tag];
    assert_eq!(said(&docker(&ours)), third.image_id);
    assert!(tree(&third.tag).contains(".dockerignore"));
    let again = build(&docker_engine, &project, &options(), &Heard::default(), &never).await.unwrap();
    assert_eq!((again.image_id, again.cached), (third.image_id, true));
}

#[tokio::test]
async fn dependencies_that_do_not_resolve_are_told_in_the_resolvers_words() {
    let docker_engine = engine().await;
    let _cleanup = Cleanup("image-clash");
    let folder = tempfile::tempdir().unwrap();
    let project = project(
        folder.path(),
        &[
            (
                "langgraph.json",
                r#"{"dependencies": [".", "langgraph>=1", "langchain-core==0.1.0"], "graphs": {"agent": "./agent.py:graph"}, "rapidclaw": {"name": "image-clash"}}"#,
            ),
            ("agent.py", GRAPH),
        ],
    );
    let error =
        build(&docker_engine, &project, &options(), &Heard::default(), &CancellationToken::new()).await.unwrap_err();
    let BuildError::Dependencies(said) = &error else { panic!("{error:?}") };
    assert!(said.contains("langchain-core==0.1.0") && said.contains("unsatisfiable"), "{said}");
}

#[tokio::test]
async fn a_failing_line_and_a_base_image_that_is_nowhere() {
    let docker_engine = engine().await;
    let folder = tempfile::tempdir().unwrap();
    let project = project(
        folder.path(),
        &[
            (
                "langgraph.json",
                r#"{"dependencies": ["."], "graphs": {"agent": "./agent.py:graph"}, "rapidclaw": {"name": "image-fail"},
               "dockerfile_lines": ["RUN (echo before; echo wrong) >&2; exit 7"]}"#,
            ),
            ("agent.py", GRAPH),
        ],
    );
    let never = CancellationToken::new();
    let error = build(&docker_engine, &project, &options(), &Heard::default(), &never).await.unwrap_err();
    let BuildError::Step { step, message, last_lines } = &error else { panic!("{error:?}") };
    assert!(step.contains("exit 7") && message == "exit code 7", "{step} {message}");
    assert_eq!(last_lines, &["before", "wrong"]);
    let nowhere = BuildOptions { base_image: Some("127.0.0.1:1/none:1".into()), ..BuildOptions::default() };
    let error = build(&docker_engine, &project, &nowhere, &Heard::default(), &never).await.unwrap_err();
    assert!(
        matches!(&error, BuildError::BaseImageUnavailable { image, .. } if image == "127.0.0.1:1/none:1"),
        "{error:?}"
    );
    assert!(error.hint().unwrap().contains("scripts/base-image.sh"));
}

#[tokio::test]
async fn an_interrupted_build_leaves_nothing_running() {
    let docker_engine = engine().await;
    let folder = tempfile::tempdir().unwrap();
    let mark = format!("sleep 61.{}", std::process::id());
    let manifest = format!(
        r#"{{"dependencies": ["."], "graphs": {{"agent": "./agent.py:graph"}}, "rapidclaw": {{"name": "image-stop"}}, "dockerfile_lines": ["RUN {mark}"]}}"#
    );
    let project = project(folder.path(), &[("langgraph.json", &manifest), ("agent.py", GRAPH)]);
    let ours = || {
        let listed = said(&docker(&["ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.Command}}"]));
        listed.lines().filter(|line| line.contains(&mark)).count()
    };
    let cancel = CancellationToken::new();
    let heard = Heard::default();
    let stopper = async {
        let deadline = Instant::now() + Duration::from_secs(20);
        while ours() == 0 {
            assert!(Instant::now() < deadline, "the step never ran: {:?}", heard.lines());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        cancel.cancel();
    };
    let build_options = options();
    let (result, ()) = tokio::join!(build(&docker_engine, &project, &build_options, &heard, &cancel), stopper);
    assert!(matches!(result, Err(BuildError::Interrupted)), "{result:?}");
    let deadline = Instant::now() + Duration::from_secs(15);
    while ours() > 0 {
        assert!(Instant::now() < deadline, "its container is still there");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn a_lock_is_installed_as_it_stands() {
    let docker_engine = engine().await;
    let _cleanup = Cleanup("image-locked");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/projects/locked");
    let project = project(&folder, &[]);
    let heard = Heard::default();
    let built = build(&docker_engine, &project, &options(), &heard, &CancellationToken::new()).await;
    let built = built.unwrap_or_else(|error| panic!("{error:?}\n{}", heard.lines().join("\n")));
    let locked = std::fs::read_to_string(folder.join("uv.lock")).unwrap();
    let version = imported(&built.tag, "agent", "agent.graph, m.version('root'), m.version('idna')");
    let idna = version.rsplit(' ').next().unwrap().to_owned();
    assert!(
        version.starts_with("1 0.1 ") && locked.contains(&format!("name = \"idna\"\nversion = \"{idna}\"")),
        "{version}"
    );
}

#[tokio::test]
async fn flat_packages_a_setup_py_and_lines_that_install_and_copy() {
    let docker_engine = engine().await;
    let _cleanup = Cleanup("image-shapes");
    let folder = tempfile::tempdir().unwrap();
    let manifest = r#"{"dependencies": ["./flat", "./pkg", "idna"], "graphs": {"agent": "./flat/agent.py:graph"},
        "dockerfile_lines": ["RUN pip install -q attrs", "COPY extra.txt /x"], "keep_pkg_tools": ["setuptools"],
        "rapidclaw": {"name": "image-shapes"}}"#;
    let setup =
        "from setuptools import setup\nsetup(name='mypkg', version='3', packages=['mypkg'], install_requires=['six'])";
    let project = project(
        folder.path(),
        &[
            ("langgraph.json", manifest),
            ("flat/agent.py", "from flat.y import z\nimport mypkg, six, attrs, idna, setuptools\ngraph = z"),
            ("flat/__init__.py", ""),
            ("flat/y.py", "z = 5"),
            ("pkg/setup.py", setup),
            ("pkg/mypkg/__init__.py", ""),
            ("extra.txt", "hi"),
            ("Dockerfile", "FROM theirs"),
        ],
    );
    let heard = Heard::default();
    let built = build(&docker_engine, &project, &options(), &heard, &CancellationToken::new()).await;
    let built = built.unwrap_or_else(|error| panic!("{error:?}\n{}", heard.lines().join("\n")));
    assert_eq!(built.notes.len(), 1, "{:?}", built.notes);
    let shown = "agent.graph, m.version('mypkg'), agent.mypkg.__file__, open('/x').read(), p['workdir']";
    assert_eq!(imported(&built.tag, "flat.agent", shown), "5 3 /deps/pkg/mypkg/__init__.py hi /deps/flat/flat");
}
