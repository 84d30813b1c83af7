//! The names under which a server keeps its agents' images in the engine: its own, so that it removes none that a
//! builder or another server on the same engine still wants.

use super::calls::{bounded, status_of};
use crate::engine::images;
use crate::engine::names::{BUILT_PREFIX, Scope, server_digits};
use crate::runtime::RuntimeError;
use bollard::Docker;
use bollard::models::ImageSummary;
use bollard::query_parameters::{RemoveImageOptions, TagImageOptionsBuilder};
use std::collections::HashSet;
use uuid::Uuid;

/// How many digits of an image's id its name holds.
const DIGITS: usize = 12;

/// What all names that a server gives begin with.
fn prefix(server: Uuid, agent: &str) -> String {
    format!("{BUILT_PREFIX}{agent}:{}-", server_digits(server))
}

/// The server's name for an image.
pub fn name(server: Uuid, agent: &str, image: &str) -> String {
    let digits: String = image.trim_start_matches("sha256:").chars().take(DIGITS).collect();
    prefix(server, agent) + &digits
}

/// Gives an image the server's name.
pub async fn keep(docker: &Docker, server: Uuid, agent: &str, image: &str) -> Result<(), RuntimeError> {
    let name = name(server, agent, image);
    let (repository, tag) = name.split_once(':').unwrap_or((&name, "latest"));
    let options = TagImageOptionsBuilder::new().repo(repository).tag(tag).build();
    match bounded("naming an agent's image", docker.tag_image(image, Some(options))).await {
        Err(RuntimeError::Refused { source, .. }) if status_of(source.as_ref()) == Some(404) => {
            Err(RuntimeError::NoImage(image.to_owned()))
        }
        other => other,
    }
}

/// Takes the server's names from the agent's images, but for those of `kept`; how many names have gone, with those
/// of dependencies on which nothing stands any more.
pub async fn release(
    docker: &Docker,
    server: Uuid,
    agent: &str,
    kept: &HashSet<String>,
) -> Result<usize, RuntimeError> {
    let images = list(docker).await?;
    let gone = superfluous(&images, &prefix(server, agent), kept);
    remove(docker, images::with_idle_dependencies(&images, gone, images::now())).await
}

/// Takes all names from the agent's images that this server, or a build for it, has given them, with what only they
/// stood on.
pub async fn release_all(docker: &Docker, server: Uuid, agent: &str) -> Result<usize, RuntimeError> {
    let images = list(docker).await?;
    let mut gone = superfluous(&images, &prefix(server, agent), &HashSet::new());
    gone.extend(images::of_scope(&images, agent, &Scope::of_server(server)));
    remove(docker, images::with_idle_dependencies(&images, gone, images::now())).await
}

async fn list(docker: &Docker) -> Result<Vec<ImageSummary>, RuntimeError> {
    bounded("listing agents' images", images::list(docker)).await
}

/// An image goes with its last name, unless a container is made from it: then it keeps the name, too.
async fn remove(docker: &Docker, names: Vec<String>) -> Result<usize, RuntimeError> {
    let mut removed = 0;
    for name in names {
        match bounded("removing an agent's image", docker.remove_image(&name, None::<RemoveImageOptions>, None)).await {
            Ok(_) => removed += 1,
            Err(RuntimeError::Refused { source, .. }) if matches!(status_of(source.as_ref()), Some(404 | 409)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(removed)
}

fn superfluous(images: &[ImageSummary], own: &str, kept: &HashSet<String>) -> Vec<String> {
    let others = images.iter().filter(|image| !kept.contains(&image.id));
    others.flat_map(|image| &image.repo_tags).filter(|tag| tag.starts_with(own)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(id: &str, tags: &[&str]) -> ImageSummary {
        let repo_tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        ImageSummary { id: id.to_owned(), repo_tags, ..ImageSummary::default() }
    }

    #[test]
    fn only_the_servers_own_names_go_and_only_those_of_images_that_are_not_kept() {
        let server = Uuid::from_u128(0x1234_5678);
        assert_eq!(name(server, "a", "sha256:0123456789abcdef"), "rapidclaw/a:12345678-0123456789ab");
        let images = [
            image("sha256:1", &["rapidclaw/a:12345678-1", "rapidclaw/a:12345678.111111111111"]),
            image("sha256:2", &["rapidclaw/a:12345678-2", "rapidclaw/a:9abcdef0-2", "rapidclaw/a:222222222222"]),
            image("sha256:3", &["other/a:12345678-3"]),
        ];
        let kept = HashSet::from(["sha256:1".to_owned()]);
        assert_eq!(superfluous(&images, &prefix(server, "a"), &kept), ["rapidclaw/a:12345678-2"]);
    }
}
