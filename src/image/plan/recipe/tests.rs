use super::*;
use crate::image::Project;
use crate::image::context::tests::project;
use std::fs::File;

const MANIFEST: &str = r#"{"dependencies": ["."], "graphs": {"agent": "./agent.py:graph"}}"#;

fn request(project: &Project) -> (BuildRequest, Contents) {
    let (recipe, contents) = Plan::of(project, "python:3.12-slim").unwrap().recipe().unwrap();
    let request = BuildRequest {
        manifest: project.manifest.raw.clone(),
        base_image: "python:3.12-slim".into(),
        platform: None,
        no_cache: false,
        pull: false,
        revision: None,
        pip_config: None,
        recipe,
        with_code: None,
    };
    (request, contents)
}

fn bounds() -> Bounds {
    Bounds { files: 10_000, bytes: 1 << 30 }
}

#[test]
fn a_plan_that_has_travelled_makes_the_same_image() {
    let (_folder, project) =
        project(MANIFEST, &[("agent.py", "x"), ("run.sh", "y"), ("requirements.txt", "httpx\n"), ("copy.py", "x")]);
    let mut plan = Plan::of(&project, "python:3.12-slim").unwrap();
    let (request, contents) = request(&project);
    let text = serde_json::to_string(&request).unwrap();
    let arrived: BuildRequest = serde_json::from_str(&text).unwrap();
    let sizes = check(&arrived, bounds()).unwrap();
    assert_eq!(sizes, contents.iter().map(|(digest, (_, size))| (digest.clone(), *size)).collect());
    let there = tempfile::tempdir().unwrap();
    for (digest, (content, _)) in &contents {
        copy(content, &mut File::create(there.path().join(digest)).unwrap()).unwrap();
    }
    let manifest = Manifest::from_json(&arrived.manifest, &project.manifest.name).unwrap();
    let mut again = Plan::of_recipe(&arrived, &arrived.recipe, &manifest, there.path());
    assert_eq!(again.dockerfile, plan.dockerfile);
    assert_eq!(again.digests("sha256:1", "linux/amd64").unwrap(), plan.digests("sha256:1", "linux/amd64").unwrap());
    // For that the contents need not be there.
    let mut nowhere = Plan::of_recipe(&arrived, &arrived.recipe, &manifest, Path::new("/nowhere"));
    assert_eq!(nowhere.digests("sha256:1", "l").unwrap(), plan.digests("sha256:1", "l").unwrap());
    assert_eq!(again.workdir(), plan.workdir());
    let paths = |plan: &Plan| plan.code_entries().unwrap().into_iter().map(|entry| entry.path).collect::<Vec<_>>();
    assert_eq!(paths(&again), paths(&plan));
}

#[test]
fn a_pip_conf_keeps_its_agents_steps_to_itself_and_changes_no_inputs() {
    let (_folder, project) = project(MANIFEST, &[("agent.py", "x")]);
    let (mut request, contents) = request(&project);
    let there = tempfile::tempdir().unwrap();
    for (digest, (content, _)) in &contents {
        copy(content, &mut File::create(there.path().join(digest)).unwrap()).unwrap();
    }
    let mut of = |name: &str, pip: Option<&str>| {
        request.pip_config = pip.map(|text| crate::api::builds::PipConfig(text.into()));
        let manifest = Manifest { name: name.to_owned(), ..project.manifest.clone() };
        let mut plan = Plan::of_recipe(&request, &request.recipe, &manifest, there.path());
        plan.digests("sha256:1", "linux/amd64").unwrap()
    };
    assert_eq!(of("one", None).deps, of("two", None).deps);
    let with = of("one", Some("[global]\nindex-url = https://u:p@h/simple\n"));
    assert_ne!(with.deps, of("one", None).deps);
    assert_ne!(with.deps, of("two", Some("[global]\nindex-url = https://u:p@h/simple\n")).deps);
    assert_ne!(with.deps, of("one", Some("[global]\nindex-url = https://u:p@evil/simple\n")).deps);
    // The same as a build here has them: nothing changes where an agent is built once here, once there.
    request.pip_config = None;
    let mut plan = Plan::of_recipe(&request, &request.recipe, &project.manifest, there.path());
    let mut own = Plan::of(&project, "python:3.12-slim").unwrap();
    assert_eq!(plan.digests("sha256:1", "l").unwrap().inputs, own.digests("sha256:1", "l").unwrap().inputs);
}

#[test]
fn what_no_plan_makes_is_refused() {
    let (_folder, project) = project(MANIFEST, &[("agent.py", "x"), ("b.py", "y")]);
    let (good, _) = request(&project);
    let refused = |change: &dyn Fn(&mut Recipe)| {
        let mut bad = good.clone();
        change(&mut bad.recipe);
        check(&bad, bounds()).unwrap_err()
    };
    let last = good.recipe.files.len() - 1;
    for path in ["../x", "/etc/passwd", "a//b", "a/./b", "a/../../b", "", "a\0b", DOCKERFILE] {
        let error = refused(&|recipe| recipe.files[last].path = path.to_owned());
        assert_eq!(error, RecipeError::Path(path.to_owned()));
    }
    let first = good.recipe.files[0].path.clone();
    assert_eq!(refused(&|recipe| recipe.files[last].path.clone_from(&first)), RecipeError::Path(first.clone()));
    for target in ["/etc/passwd", "../../../../../x", "", "/deps/../etc", "/depsx", "a/../../../../../../x"] {
        let error = refused(&|recipe| recipe.files[last].kind = RecipeKind::Link(target.to_owned()));
        assert!(matches!(error, RecipeError::Link { .. }), "{target}: {error}");
    }
    for sha256 in ["", "../../etc/passwd", &"A".repeat(64), &"a".repeat(63)] {
        let kind = RecipeKind::File { sha256: sha256.to_owned(), size: 1 };
        let error = refused(&|recipe| recipe.files[last].kind = kind.clone());
        assert!(matches!(error, RecipeError::Digest(_)), "{sha256}: {error}");
    }
    let huge = |recipe: &mut Recipe| {
        recipe.files[last].kind = RecipeKind::File { sha256: "b".repeat(64), size: u64::MAX };
        recipe.files[last - 1].kind = RecipeKind::File { sha256: "c".repeat(64), size: u64::MAX };
    };
    assert!(matches!(refused(&huge), RecipeError::TooMany { what: "bytes", found: u64::MAX, .. }));
    assert!(matches!(refused(&|recipe| recipe.ready = 0), RecipeError::Shape(_)));
    assert!(matches!(refused(&|recipe| recipe.ready = 1_000), RecipeError::Shape(_)));
    assert!(matches!(refused(&|recipe| recipe.workdir = "/../x".into()), RecipeError::Path(_)));
    assert!(matches!(check(&good, Bounds { files: 3, ..bounds() }), Err(RecipeError::TooMany { what: "files", .. })));
    check(&good, bounds()).unwrap();
}
