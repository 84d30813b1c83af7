//! The images of ours that an engine holds: their labels, which there are, and which of them nothing needs any more.

use super::names::{BUILT_PREFIX, DEPS_REPOSITORY, Scope, is_of_old};
use bollard::Docker;
use bollard::errors::Error as DockerError;
use bollard::models::{ImageInspect, ImageSummary};
use bollard::query_parameters::ListImagesOptionsBuilder;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The agent that an image is of.
pub const LABEL_AGENT: &str = "rapidclaw.agent";
/// The digest of all that an image was built from.
pub const LABEL_INPUTS: &str = "rapidclaw.inputs";
/// The commit of its source.
pub const LABEL_REVISION: &str = "org.opencontainers.image.revision";
/// On an image of everything but the code: the digest of that.
pub const LABEL_DEPS: &str = "rapidclaw.deps";
/// On an image with code: the digest of everything else.
pub const LABEL_STANDS_ON: &str = "rapidclaw.stands-on";
/// On an image with code: the base image, as it was named.
pub const LABEL_BASE: &str = "rapidclaw.base";

/// How long dependencies stay that nothing has stood on yet: another build may be about to.
const GRACE: Duration = Duration::from_secs(3_600);

/// All images with a name of a build or a server, and all of dependencies.
pub async fn list(docker: &Docker) -> Result<Vec<ImageSummary>, DockerError> {
    let filter = HashMap::from([("reference", vec![format!("{BUILT_PREFIX}*"), DEPS_REPOSITORY.to_owned()])]);
    docker.list_images(Some(ListImagesOptionsBuilder::new().filters(&filter).build())).await
}

/// Since 1970.
pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The names of all images of an agent in a scope, and what versions before have named of it.
pub fn of_scope(images: &[ImageSummary], agent: &str, scope: &Scope) -> Vec<String> {
    let own = scope.prefix(agent);
    let tags = images.iter().flat_map(|image| &image.repo_tags).filter(|tag| tag.starts_with(&own)).cloned();
    tags.chain(of_old(images, agent)).collect()
}

/// The names that versions before have given an agent's images.
pub fn of_old(images: &[ImageSummary], agent: &str) -> impl Iterator<Item = String> {
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

/// Whether the engine that describes an image so can be given a part of one. With containerd's image
/// store an image has a descriptor (API 1.48), and its layers no data of a graph driver.
pub fn can_append(image: &ImageInspect) -> bool {
    let layers = image.root_fs.as_ref().and_then(|root| root.layers.as_ref());
    let driver = image.graph_driver.as_ref();
    image.descriptor.is_none()
        && layers.is_some_and(|layers| !layers.is_empty())
        && driver.is_some_and(|driver| driver.name != "overlayfs" && driver.name != "io.containerd.snapshotter.v1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::{DriverData, ImageInspectRootFs, OciDescriptor};

    fn image(name: &str, created: i64) -> ImageSummary {
        ImageSummary {
            repo_tags: vec![format!("{DEPS_REPOSITORY}:{name}")],
            created,
            labels: HashMap::from([(LABEL_DEPS.to_owned(), name.to_owned())]),
            ..ImageSummary::default()
        }
    }

    #[test]
    fn dependencies_that_nothing_has_stood_on_wait_for_somebody() {
        let hour = i64::try_from(GRACE.as_secs()).unwrap();
        let young = image("young", hour + 1);
        let old = image("old", hour - 1);
        assert_eq!(with_idle_dependencies(&[young, old], vec![], GRACE * 2), ["rapidclaw-deps:old"]);
    }

    #[test]
    fn an_engine_with_containerds_store_is_not_asked() {
        let with = |change: fn(&mut ImageInspect)| {
            let mut image = ImageInspect {
                graph_driver: Some(DriverData { name: "overlay2".into(), data: HashMap::new() }),
                root_fs: Some(ImageInspectRootFs { typ: "layers".into(), layers: Some(vec!["sha256:11".into()]) }),
                ..ImageInspect::default()
            };
            change(&mut image);
            can_append(&image)
        };
        assert!(with(|_| ()));
        assert!(!with(|image| image.descriptor = Some(OciDescriptor::default())));
        assert!(!with(|image| image.graph_driver.as_mut().unwrap().name = "overlayfs".into()));
        assert!(!with(|image| image.root_fs = None));
    }
}
