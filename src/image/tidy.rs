//! Takes away images that nobody needs: builds of an agent but for the newest, those of an agent that is gone, and
//! dependencies that no image stands on any more. What a server runs or may go back to bears a name of the server's
//! own, and stays; and each scope's builds are its own.

use super::error::BuildError;
use super::steps_left::{clear_abandoned, is_none_or_used};
use crate::engine::images::{LABEL_AGENT, LABEL_BASE, list, now, of_old, of_scope, with_idle_dependencies};
use crate::engine::names::{BUILT_PREFIX, DEPS_REPOSITORY, Scope, is_builders_tag, is_steps_tag};
use bollard::Docker;
use bollard::errors::Error as DockerError;
use bollard::models::ImageSummary;
use bollard::query_parameters::RemoveImageOptions;
use std::collections::{BTreeMap, BTreeSet};

/// How many builds of an agent stay: whoever goes back and forth between two branches builds neither again.
const KEEP: usize = 5;

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
    use crate::engine::images::{LABEL_DEPS, LABEL_STANDS_ON};
    use std::collections::HashMap;
    use std::time::Duration;
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
