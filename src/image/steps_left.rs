//! What the steps of a build leave in the engine. Each makes an image without a name, and nobody would ever take
//! those away. After a build that went well the ones that it made go, but for the tools that the next build goes on
//! from; after one that failed, or in which the builder itself laid the code in, the last of each stage get names, so
//! that the next begins where this one ended.

use crate::engine::names::{BUILT_PREFIX, Scope, is_steps_tag};
use bollard::Docker;
use bollard::errors::Error as DockerError;
use bollard::models::ImageSummary;
use bollard::query_parameters::{
    ListImagesOptionsBuilder, RemoveImageOptions, RemoveImageOptionsBuilder, TagImageOptionsBuilder,
};
use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// On the images of all steps, so that those of a build that was killed are found.
pub const LABEL_STEP: &str = "rapidclaw.step";
/// Steps without a name that are older belong to no build that is under way.
const ABANDONED: Duration = Duration::from_secs(3_600);
/// How often a step is tried again whose container the engine is about to remove.
const TRIES: u32 = 10;
const AGAIN: Duration = Duration::from_millis(200);

/// The images of a build's steps, as the builder tells them.
#[derive(Debug, Default)]
pub struct Steps {
    list: Vec<Step>,
    instruction: String,
    is_cached: bool,
}

#[derive(Debug, Clone)]
struct Step {
    /// The first digits of the image's id.
    image: String,
    instruction: String,
    /// Whether this build has made it.
    is_own: bool,
}

impl Steps {
    /// A step begins.
    pub fn begins(&mut self, instruction: &str) {
        instruction.clone_into(&mut self.instruction);
        self.is_cached = false;
    }

    /// Its image is there already.
    pub fn is_cached(&mut self) {
        self.is_cached = true;
    }

    /// It has come to this image.
    pub fn made(&mut self, image: &str) {
        // What a stage begins with is somebody else's: the base image, or a stage before.
        let is_own = !self.is_cached && !self.instruction.starts_with("FROM ");
        self.list.push(Step { image: image.to_owned(), instruction: self.instruction.clone(), is_own });
    }

    /// Whether nothing was built.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The image of the last step before the first that begins with `instruction`.
    fn before(&self, instruction: &str) -> Option<&Step> {
        let at = self.list.iter().position(|step| step.instruction.starts_with(instruction))?;
        self.list.get(at.checked_sub(1)?)
    }
}

/// What there is to do about the steps.
#[derive(Debug, Default, PartialEq, Eq)]
struct Chores {
    /// Ids that get a name.
    named: Vec<String>,
    /// Ids that go, in this order.
    removed: Vec<String>,
}

/// `tools`: the instruction before which the next build may go on; `None`: it goes on from the last steps.
fn chores(images: &[ImageSummary], steps: &Steps, tools: Option<&str>) -> Chores {
    let find = |step: &Step| images.iter().find(|image| digits(&image.id).starts_with(&step.image));
    let nameless = |image: &&ImageSummary| image.repo_tags.iter().all(|tag| tag == "<none>:<none>");
    let mut children: HashMap<&str, HashSet<&str>> = HashMap::new();
    for image in images {
        children.entry(&image.parent_id).or_default().insert(&image.id);
    }
    let mut chores = Chores::default();
    // An engine that does not say what stands on what has nothing taken away.
    if steps.list.iter().filter_map(find).all(|image| image.parent_id.is_empty()) {
        return chores;
    }
    let mut add = |id: &String| {
        if !chores.named.contains(id) {
            chores.named.push(id.clone());
        }
    };
    let is_leaf = |image: &ImageSummary| children.get(image.id.as_str()).is_none_or(HashSet::is_empty);
    match tools {
        Some(tools) => steps.before(tools).and_then(find).iter().for_each(|image| add(&image.id)),
        None => {
            let made = steps.list.iter().filter(|step| !step.instruction.starts_with("FROM "));
            let last = made.filter_map(find).filter(nameless).filter(|image| is_leaf(image));
            last.for_each(|image| add(&image.id));
        }
    }
    let mut own: Vec<&ImageSummary> = steps.list.iter().filter(|step| step.is_own).filter_map(find).collect();
    own.retain(|image| nameless(image) && !chores.named.contains(&image.id));
    // Last steps first: an image goes when none stands on it.
    while let Some(at) = own.iter().rposition(|image| children.get(image.id.as_str()).is_none_or(HashSet::is_empty)) {
        let image = own.remove(at);
        own.retain(|other| other.id != image.id);
        if let Some(beside) = children.get_mut(image.parent_id.as_str()) {
            beside.remove(image.id.as_str());
        }
        chores.removed.push(image.id.clone());
    }
    chores
}

fn digits(id: &str) -> &str {
    id.trim_start_matches("sha256:")
}

/// Puts the engine in order behind a build.
pub async fn clear_up(
    docker: &Docker,
    agent: &str,
    scope: &Scope,
    steps: &Steps,
    tools: Option<&str>,
) -> Result<(), DockerError> {
    let images = docker.list_images(Some(ListImagesOptionsBuilder::new().all(true).build())).await?;
    let chores = chores(&images, steps, tools);
    let mut names = HashSet::new();
    for id in &chores.named {
        let step = scope.step(agent, id);
        name(docker, id, &step).await?;
        names.insert(step);
    }
    for id in &chores.removed {
        if !remove(docker, id, true).await? {
            break;
        }
    }
    let prefix = scope.prefix(agent);
    let old = images.iter().flat_map(|image| &image.repo_tags);
    let old = old.filter(|tag| tag.starts_with(&prefix) && is_steps_tag(tag) && !names.contains(*tag));
    for name in old {
        remove(docker, name, false).await?;
    }
    Ok(())
}

/// Gives the images of an agent the names of another scope, in place of those that they have.
pub async fn rename(docker: &Docker, agent: &str, from: &Scope, to: &Scope) -> Result<(), DockerError> {
    let filter = HashMap::from([("reference", vec![format!("{BUILT_PREFIX}{agent}")])]);
    let images = docker.list_images(Some(ListImagesOptionsBuilder::new().filters(&filter).build())).await?;
    let (from, to) = (from.prefix(agent), to.prefix(agent));
    for image in &images {
        for (old, rest) in image.repo_tags.iter().filter_map(|tag| Some((tag, tag.strip_prefix(&from)?))) {
            name(docker, &image.id, &format!("{to}{rest}")).await?;
            remove(docker, old, false).await?;
        }
    }
    Ok(())
}

async fn name(docker: &Docker, image: &str, name: &str) -> Result<(), DockerError> {
    let (repository, tag) = name.split_once(':').unwrap_or((name, "latest"));
    docker.tag_image(image, Some(TagImageOptionsBuilder::new().repo(repository).tag(tag).build())).await
}

/// Takes away steps of builds that were killed: they bear the label, no name, and nothing stands on them. How many.
pub async fn clear_abandoned(docker: &Docker) -> Result<usize, DockerError> {
    let filter = HashMap::from([("dangling", vec!["true".to_owned()]), ("label", vec![LABEL_STEP.to_owned()])]);
    let images = docker.list_images(Some(ListImagesOptionsBuilder::new().filters(&filter).build())).await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut removed = 0;
    for image in images {
        let created = Duration::from_secs(u64::try_from(image.created).unwrap_or_default());
        if now.saturating_sub(created) > ABANDONED {
            removed += usize::from(remove(docker, &image.id, false).await?);
        }
    }
    Ok(removed)
}

/// The image that a build which uses nothing of before takes the name from.
pub struct Replaced(Option<String>);

impl Replaced {
    /// Looks for it, before the build; where a build uses what is there it replaces nothing.
    pub async fn find(docker: &Docker, name: &str, no_cache: bool) -> Self {
        let found = if no_cache { docker.inspect_image(name).await.ok() } else { None };
        Self(found.and_then(|image| image.id))
    }

    /// Takes it away where that was its last name and nothing stands on it.
    pub async fn clear_up(self, docker: &Docker, by: &str) {
        let Some(old) = self.0.filter(|old| old != by) else { return };
        let is_nameless = match docker.inspect_image(&old).await {
            Ok(found) => found.repo_tags.as_ref().is_none_or(Vec::is_empty),
            Err(_) => false,
        };
        if is_nameless
            && let Err(error) = docker.remove_image(&old, None::<RemoveImageOptions>, None).await
            && !is_none_or_used(&error)
        {
            tracing::debug!(?error, "an image that was replaced stays");
        }
    }
}

/// Whether somebody else was first, or a container or an image stands on it.
pub fn is_none_or_used(error: &DockerError) -> bool {
    matches!(error, DockerError::DockerResponseServerError { status_code: 404 | 409, .. })
}

/// `alone`: without those that it stood on. Says whether it is gone: one that is in use for long stays.
async fn remove(docker: &Docker, image: &str, alone: bool) -> Result<bool, DockerError> {
    for _ in 0..TRIES {
        let options = RemoveImageOptionsBuilder::new().noprune(alone).build();
        match docker.remove_image(image, Some(options), None).await {
            Ok(_) | Err(DockerError::DockerResponseServerError { status_code: 404, .. }) => return Ok(true),
            // A container of the build may be on its way out.
            Err(DockerError::DockerResponseServerError { status_code: 409, .. }) => tokio::time::sleep(AGAIN).await,
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(id: &str, parent: &str, tags: &[&str]) -> ImageSummary {
        let repo_tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        ImageSummary { id: id.to_owned(), parent_id: parent.to_owned(), repo_tags, ..ImageSummary::default() }
    }

    fn steps(list: &[(&str, &str, bool)]) -> Steps {
        let mut steps = Steps::default();
        for (instruction, image, is_cached) in list {
            steps.begins(instruction);
            if *is_cached {
                steps.is_cached();
            }
            steps.made(image);
        }
        steps
    }

    /// A base, tools, packages that were installed on them, and what the packages were copied into.
    fn images() -> Vec<ImageSummary> {
        vec![
            image("sha256:base", "", &["base:1"]),
            image("sha256:tools", "sha256:base", &[]),
            image("sha256:copied", "sha256:tools", &[]),
            image("sha256:installed", "sha256:copied", &[]),
            image("sha256:half", "sha256:base", &[]),
            image("sha256:ready", "sha256:half", &["rapidclaw-deps:1"]),
        ]
    }

    const BUILD: [(&str, &str, bool); 6] = [
        ("FROM base:1 AS rapidclaw-base", "base", false),
        ("RUN tools", "tools", true),
        ("COPY deps /x", "copied", false),
        ("RUN install", "installed", false),
        ("COPY --from", "half", false),
        ("CMD", "ready", false),
    ];

    #[test]
    fn what_a_build_has_made_and_nobody_stands_on_goes_but_for_its_tools() {
        let done = chores(&images(), &steps(&BUILD), Some("COPY deps"));
        assert_eq!(done.named, ["sha256:tools"]);
        assert_eq!(done.removed, ["sha256:installed", "sha256:copied"]);
    }

    #[test]
    fn what_another_build_stands_on_or_has_made_stays() {
        let mut there = images();
        there.push(image("sha256:other", "sha256:copied", &[]));
        assert_eq!(chores(&there, &steps(&BUILD), Some("COPY deps")).removed, ["sha256:installed"]);
        // what it only found is whose made it
        let found = BUILD.map(|(instruction, image, _)| (instruction, image, true));
        assert_eq!(chores(&images(), &steps(&found), Some("COPY deps")).removed, Vec::<String>::new());
    }

    #[test]
    fn a_build_that_failed_leaves_its_last_steps_under_names() {
        let there = &images()[..4];
        let done = chores(there, &steps(&BUILD[..4]), None);
        assert_eq!(done, Chores { named: vec!["sha256:installed".into()], removed: vec![] });
        // one that made nothing names nothing, whatever the base image is called
        let nameless = [image("sha256:base", "", &["<none>:<none>"])];
        assert_eq!(chores(&nameless, &steps(&BUILD[..1]), None), Chores::default());
    }
}
