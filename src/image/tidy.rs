//! Takes away images of builds before: those of an agent but for the newest, and dependencies that no image
//! stands on any more. What a server runs or may go back to bears a name of the server's own, and stays.

use super::build::{BUILT_PREFIX, DEPS_REPOSITORY, LABEL_DEPS, LABEL_STANDS_ON, is_builders_tag};
use super::error::BuildError;
use bollard::Docker;
use bollard::errors::Error as DockerError;
use bollard::models::ImageSummary;
use bollard::query_parameters::{ListImagesOptionsBuilder, RemoveImageOptions};
use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How many builds of an agent stay: whoever goes back and forth between two branches builds neither again.
const KEEP: usize = 5;
/// How long dependencies stay that nothing stands on: another build may be about to.
const GRACE: Duration = Duration::from_secs(24 * 3_600);

/// Takes away what builds of the agent before have left, on this engine; how many names.
pub async fn tidy(docker: &Docker, agent: &str) -> Result<usize, BuildError> {
    let filter = HashMap::from([("reference", vec![format!("{BUILT_PREFIX}*"), DEPS_REPOSITORY.to_owned()])]);
    let options = ListImagesOptionsBuilder::new().filters(&filter).build();
    let failed = |error| BuildError::engine("listing the images of earlier builds", error);
    let images = docker.list_images(Some(options)).await.map_err(failed)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut removed = 0;
    for name in superfluous(&images, agent, now) {
        match docker.remove_image(&name, None::<RemoveImageOptions>, None).await {
            Ok(_) => removed += 1,
            // Somebody else was first, or a container is made from it.
            Err(DockerError::DockerResponseServerError { status_code: 404 | 409, .. }) => {}
            Err(error) => return Err(BuildError::engine("removing an image of an earlier build", error)),
        }
    }
    Ok(removed)
}

/// `now`: since 1970.
fn superfluous(images: &[ImageSummary], agent: &str, now: Duration) -> Vec<String> {
    let own = format!("{BUILT_PREFIX}{agent}:");
    let built =
        |image: &&ImageSummary| tags(image, |tag| tag.starts_with(&own) && is_builders_tag(tag)).next().is_some();
    let mut builds: Vec<&ImageSummary> = images.iter().filter(built).collect();
    builds.sort_by_key(|image| std::cmp::Reverse(image.created));
    let old = builds.split_off(builds.len().min(KEEP));
    let mut names: Vec<String> = old
        .iter()
        .flat_map(|image| tags(image, |tag| tag.starts_with(&own) && is_builders_tag(tag)))
        .cloned()
        .collect();
    let gone: HashSet<&String> = names.iter().collect();
    let stays = |image: &&ImageSummary| image.repo_tags.iter().any(|tag| !gone.contains(tag));
    let stood_on: HashSet<&String> =
        images.iter().filter(stays).filter_map(|image| image.labels.get(LABEL_STANDS_ON)).collect();
    let young = |image: &ImageSummary| {
        let created = Duration::from_secs(u64::try_from(image.created).unwrap_or_default());
        now.saturating_sub(created) < GRACE
    };
    let idle = |image: &&ImageSummary| {
        image.labels.get(LABEL_DEPS).is_some_and(|digest| !stood_on.contains(digest)) && !young(image)
    };
    let deps = images.iter().filter(idle).flat_map(|image| tags(image, |tag| tag.starts_with(DEPS_REPOSITORY)));
    let deps: Vec<String> = deps.cloned().collect();
    names.extend(deps);
    names
}

fn tags(image: &ImageSummary, which: impl Fn(&str) -> bool) -> impl Iterator<Item = &String> {
    image.repo_tags.iter().filter(move |tag| which(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(tags: &[&str], created: i64, label: (&str, &str)) -> ImageSummary {
        ImageSummary {
            repo_tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            created,
            labels: HashMap::from([(label.0.to_owned(), label.1.to_owned())]),
            ..ImageSummary::default()
        }
    }

    fn gone(images: &[ImageSummary]) -> Vec<String> {
        superfluous(images, "a", GRACE * 2)
    }

    #[test]
    fn the_newest_builds_stay_with_what_they_stand_on() {
        let names: Vec<String> = (1..8).map(|number| format!("rapidclaw/a:00000000000{number}")).collect();
        let mut images: Vec<ImageSummary> = names
            .iter()
            .zip(1..)
            .map(|(name, at)| image(&[name], at, (LABEL_STANDS_ON, if at < 3 { "old" } else { "new" })))
            .collect();
        images.push(image(&["rapidclaw-deps:old"], 0, (LABEL_DEPS, "old")));
        images.push(image(&["rapidclaw-deps:new"], 0, (LABEL_DEPS, "new")));
        // another agent's, and one that a server has named
        images.push(image(&["rapidclaw/b:000000000001"], 0, (LABEL_STANDS_ON, "other")));
        images.push(image(&["rapidclaw/a:12345678-000000000000"], 0, (LABEL_STANDS_ON, "served")));
        images.push(image(&["rapidclaw-deps:served"], 0, (LABEL_DEPS, "served")));
        assert_eq!(gone(&images), [names[1].as_str(), names[0].as_str(), "rapidclaw-deps:old"]);
    }

    #[test]
    fn dependencies_that_nothing_stands_on_wait_a_day_for_somebody() {
        let day = i64::try_from(GRACE.as_secs()).unwrap();
        let young = image(&["rapidclaw-deps:young"], day + 1, (LABEL_DEPS, "young"));
        let old = image(&["rapidclaw-deps:old"], day - 1, (LABEL_DEPS, "old"));
        assert_eq!(gone(&[young, old]), ["rapidclaw-deps:old"]);
    }
}
