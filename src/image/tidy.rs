//! Takes away images that nobody needs: builds of an agent but for the newest, those of an agent that is gone, and
//! dependencies that no image stands on any more. What a server runs or may go back to bears a name of the server's
//! own, and stays; and each scope's builds are its own.

use super::build::{LABEL_AGENT, LABEL_BASE, LABEL_DEPS, LABEL_STANDS_ON};
use super::error::BuildError;
use super::names::{BUILT_PREFIX, DEPS_REPOSITORY, Scope, is_builders_tag, is_of_old, is_steps_tag};
use super::steps_left::{clear_abandoned, is_none_or_used};
use bollard::Docker;
use bollard::errors::Error as DockerError;
use bollard::models::ImageSummary;
use bollard::query_parameters::{ListImagesOptionsBuilder, RemoveImageOptions};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How many builds of an agent stay: whoever goes back and forth between two branches builds neither again.
const KEEP: usize = 5;
/// How long dependencies stay that nothing has stood on yet: another build may be about to.
const GRACE: Duration = Duration::from_secs(3_600);

/// Takes away what builds of the agent before have left, on this engine; how many names.
pub async fn tidy(docker: &Docker, agent: &str, scope: &Scope) -> Result<usize, BuildError> {
    let failed = |error| BuildError::engine("removing images of earlier builds", error);
    let images = list(docker).await.map_err(failed)?;
    let names = with_idle_dependencies(&images, old_builds(&images, agent, scope), now());
    let removed = remove(docker, &names).await.map_err(failed)?;
    Ok(removed + clear_abandoned(docker).await.map_err(failed)?)
}

/// Takes away all images of builds of an agent that is gone, with what only they stood on; how many names.
pub async fn forget(docker: &Docker, agent: &str, scope: &Scope) -> Result<usize, BuildError> {
    let failed = |error| BuildError::engine("removing the agent's images", error);
    let images = list(docker).await.map_err(failed)?;
    remove(docker, &with_idle_dependencies(&images, of_scope(&images, agent, scope), now())).await.map_err(failed)
}

/// All images with a name of a build or a server, and all of dependencies.
pub async fn list(docker: &Docker) -> Result<Vec<ImageSummary>, DockerError> {
    let filter = HashMap::from([("reference", vec![format!("{BUILT_PREFIX}*"), DEPS_REPOSITORY.to_owned()])]);
    docker.list_images(Some(ListImagesOptionsBuilder::new().filters(&filter).build())).await
}

async fn remove(docker: &Docker, names: &[String]) -> Result<usize, DockerError> {
    let mut removed = 0;
    for name in names {
        match docker.remove_image(name, None::<RemoveImageOptions>, None).await {
            Ok(_) => removed += 1,
            // Somebody else was first, or a container is made from it.
            Err(error) if is_none_or_used(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(removed)
}

/// Since 1970.
pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The names of an agent's builds that are too many.
fn old_builds(images: &[ImageSummary], agent: &str, scope: &Scope) -> Vec<String> {
    let own = scope.prefix(agent);
    let is_build = |tag: &&String| tag.starts_with(&own) && is_builders_tag(tag);
    let mut builds: Vec<&ImageSummary> =
        images.iter().filter(|image| image.repo_tags.iter().any(|tag| is_build(&tag))).collect();
    builds.sort_by_key(|image| std::cmp::Reverse(image.created));
    let old = builds.split_off(builds.len().min(KEEP));
    let old = old.iter().flat_map(|image| image.repo_tags.iter().filter(is_build)).cloned();
    old.chain(of_old(images, agent)).collect()
}

/// The names of all images of an agent in a scope, and what versions before have named of it.
pub fn of_scope(images: &[ImageSummary], agent: &str, scope: &Scope) -> Vec<String> {
    let own = scope.prefix(agent);
    let tags = images.iter().flat_map(|image| &image.repo_tags).filter(|tag| tag.starts_with(&own)).cloned();
    tags.chain(of_old(images, agent)).collect()
}

fn of_old(images: &[ImageSummary], agent: &str) -> impl Iterator<Item = String> {
    let own = format!("{BUILT_PREFIX}{agent}:");
    let tags = images.iter().flat_map(|image| &image.repo_tags);
    tags.filter(move |tag| tag.starts_with(&own) && is_of_old(tag)).cloned()
}

/// These names, and those of dependencies that nothing stands on when they are gone: at once where something did,
/// else when no build can be about to any more.
pub fn with_idle_dependencies(images: &[ImageSummary], gone: Vec<String>, now: Duration) -> Vec<String> {
    let is_gone: HashSet<&String> = gone.iter().collect();
    let stands_on = |image: &ImageSummary| image.labels.get(LABEL_STANDS_ON).cloned();
    let (stay, go): (Vec<&ImageSummary>, Vec<&ImageSummary>) =
        images.iter().partition(|image| image.repo_tags.iter().any(|tag| !is_gone.contains(tag)));
    let stood_on: HashSet<String> = stay.into_iter().filter_map(stands_on).collect();
    let left: HashSet<String> = go.into_iter().filter_map(stands_on).collect();
    let is_young = |image: &ImageSummary| {
        let created = Duration::from_secs(u64::try_from(image.created).unwrap_or_default());
        now.saturating_sub(created) < GRACE
    };
    let is_idle = |image: &&ImageSummary| {
        let digest = image.labels.get(LABEL_DEPS);
        digest.is_some_and(|digest| !stood_on.contains(digest) && (left.contains(digest) || !is_young(image)))
    };
    let dependencies = images.iter().filter(is_idle).flat_map(|image| &image.repo_tags);
    let dependencies: Vec<String> = dependencies.filter(|tag| tag.starts_with(DEPS_REPOSITORY)).cloned().collect();
    gone.into_iter().chain(dependencies).collect()
}

/// What of rapidclaw's is on an engine, and why it is kept: a line each.
pub async fn kept(docker: &Docker) -> Result<Vec<String>, BuildError> {
    let failed = |error| BuildError::engine("listing the images that are kept", error);
    let images = list(docker).await.map_err(failed)?;
    let mut lines = Vec::new();
    for (base, agents) in bases(&images) {
        let size = match docker.inspect_image(&base).await {
            Ok(found) => found.size.unwrap_or_default(),
            Err(error) if is_none_or_used(&error) => continue,
            Err(error) => return Err(failed(error)),
        };
        lines.push(format!("{base} {}, the base image of {}", megabytes(size), counted(agents.len(), "agent")));
    }
    lines.extend(reasons(&images));
    Ok(lines)
}

/// The base images of the agents' images.
pub fn bases(images: &[ImageSummary]) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for image in images {
        if let (Some(base), Some(agent)) = (image.labels.get(LABEL_BASE), image.labels.get(LABEL_AGENT)) {
            found.entry(base.clone()).or_default().insert(agent.clone());
        }
    }
    found
}

fn reasons(images: &[ImageSummary]) -> Vec<String> {
    let agents = |list: &[&ImageSummary]| {
        let names: BTreeSet<&String> = list.iter().filter_map(|image| image.labels.get(LABEL_AGENT)).collect();
        counted(names.len(), "agent")
    };
    let has = |image: &ImageSummary, which: &dyn Fn(&str) -> bool| image.repo_tags.iter().any(|tag| which(tag));
    let dependencies = images.iter().filter(|image| has(image, &|tag| tag.starts_with(DEPS_REPOSITORY))).count();
    let built: Vec<&ImageSummary> = images.iter().filter(|image| has(image, &is_builders_tag)).collect();
    let is_server = |tag: &str| tag.starts_with(BUILT_PREFIX) && !is_builders_tag(tag) && !is_steps_tag(tag);
    let served: Vec<&ImageSummary> = images.iter().filter(|image| has(image, &is_server)).collect();
    let steps = images.iter().filter(|image| has(image, &is_steps_tag)).count();
    let mut lines = Vec::new();
    if dependencies > 0 {
        lines.push(format!("{}, on which agents' images stand", counted(dependencies, "image of installed packages")));
    }
    if !served.is_empty() {
        let what = counted(served.len(), "image");
        lines.push(format!("{what} of releases that serve or can be gone back to, of {}", agents(&served)));
    }
    if !built.is_empty() {
        lines.push(format!("{} of {}: the last {KEEP} of each", counted(built.len(), "build"), agents(&built)));
    }
    if steps > 0 {
        lines.push(format!("{}, from which the next build goes on", counted(steps, "image of a build's steps")));
    }
    lines
}

fn counted(count: usize, what: &str) -> String {
    let many = match what.split_once(" of ") {
        Some((first, rest)) => format!("{first}s of {rest}"),
        None => format!("{what}s"),
    };
    if count == 1 { format!("1 {what}") } else { format!("{count} {many}") }
}

fn megabytes(bytes: i64) -> String {
    format!("{} MB", (bytes + 500_000) / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn image(tags: &[&str], created: i64, label: (&str, &str)) -> ImageSummary {
        ImageSummary {
            repo_tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            created,
            labels: HashMap::from([(label.0.to_owned(), label.1.to_owned())]),
            ..ImageSummary::default()
        }
    }

    fn scope() -> Scope {
        Scope::of_server(Uuid::from_u128(0x1234_5678))
    }

    #[test]
    fn the_newest_builds_stay_with_what_they_stand_on() {
        let names: Vec<String> = (1..8).map(|number| format!("rapidclaw/a:12345678.00000000000{number}")).collect();
        let mut images: Vec<ImageSummary> = names
            .iter()
            .zip(1..)
            .map(|(name, at)| image(&[name], at, (LABEL_STANDS_ON, if at < 3 { "old" } else { "new" })))
            .collect();
        images.push(image(&["rapidclaw-deps:old"], 0, (LABEL_DEPS, "old")));
        images.push(image(&["rapidclaw-deps:new"], 0, (LABEL_DEPS, "new")));
        // another agent's, another server's of the same name, and one that a server has named
        images.push(image(&["rapidclaw/b:12345678.000000000001"], 0, (LABEL_STANDS_ON, "other")));
        images.push(image(&["rapidclaw/a:87654321.000000000001"], 0, (LABEL_STANDS_ON, "other")));
        images.push(image(&["rapidclaw/a:12345678-000000000000"], 0, (LABEL_STANDS_ON, "served")));
        images.push(image(&["rapidclaw-deps:served"], 0, (LABEL_DEPS, "served")));
        let gone = with_idle_dependencies(&images, old_builds(&images, "a", &scope()), Duration::ZERO);
        assert_eq!(gone, [names[1].as_str(), names[0].as_str(), "rapidclaw-deps:old"]);
        // and with the agent all of them, but nothing of others
        let mut gone = with_idle_dependencies(&images, of_scope(&images, "a", &scope()), Duration::ZERO);
        let mut wanted: Vec<&str> = names.iter().map(String::as_str).collect();
        wanted.extend(["rapidclaw-deps:old", "rapidclaw-deps:new"]);
        gone.sort();
        wanted.sort_unstable();
        assert_eq!(gone, wanted);
    }

    #[test]
    fn dependencies_that_nothing_has_stood_on_wait_for_somebody() {
        let hour = i64::try_from(GRACE.as_secs()).unwrap();
        let young = image(&["rapidclaw-deps:young"], hour + 1, (LABEL_DEPS, "young"));
        let old = image(&["rapidclaw-deps:old"], hour - 1, (LABEL_DEPS, "old"));
        assert_eq!(with_idle_dependencies(&[young, old], vec![], GRACE * 2), ["rapidclaw-deps:old"]);
    }

    #[test]
    fn what_is_kept_is_said_with_why() {
        let mut served = image(&["rapidclaw/a:12345678-1", "rapidclaw/a:12345678.000000000001"], 0, (LABEL_AGENT, "a"));
        served.labels.insert(LABEL_BASE.into(), "base:1".into());
        let mut other = image(&["rapidclaw/b:12345678-2"], 0, (LABEL_AGENT, "b"));
        other.labels.insert(LABEL_BASE.into(), "base:1".into());
        let images = [served, other, image(&["rapidclaw-deps:1"], 0, (LABEL_DEPS, "1"))];
        assert_eq!(bases(&images).into_values().map(|agents| agents.len()).collect::<Vec<_>>(), [2]);
        assert_eq!(
            reasons(&images),
            [
                "1 image of installed packages, on which agents' images stand",
                "2 images of releases that serve or can be gone back to, of 2 agents",
                "1 build of 1 agent: the last 5 of each",
            ]
        );
    }
}
