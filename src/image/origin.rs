//! What an image is made from: a project on this machine, or a plan that was sent to it.

use crate::api::builds::BuildRequest;
use crate::image::base;
use crate::image::context::Project;
use crate::image::plan::{Plan, PlanError};
use crate::image::revision::find_revision;
use crate::manifest::Manifest;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where plans come from. Clones are cheap.
#[derive(Debug, Clone)]
pub enum Origin {
    /// A folder here, which is read.
    Project(Arc<Project>),
    /// What another machine has read.
    Sent(Arc<Sent>),
}

/// A request whose contents have come, or of which only the digests matter.
#[derive(Debug)]
pub struct Sent {
    /// What was sent, judged (`plan::recipe::check`).
    pub request: BuildRequest,
    /// Its manifest.
    pub manifest: Manifest,
    /// Where the contents lie, each under its SHA-256.
    pub folder: PathBuf,
}

impl Origin {
    /// A project here.
    pub fn project(project: &Project) -> Self {
        Self::Project(Arc::new(project.clone()))
    }

    /// Where its files are.
    pub fn folder(&self) -> &Path {
        match self {
            Self::Project(project) => &project.folder,
            Self::Sent(sent) => &sent.folder,
        }
    }

    /// What is built.
    pub fn manifest(&self) -> &Manifest {
        match self {
            Self::Project(project) => &project.manifest,
            Self::Sent(sent) => &sent.manifest,
        }
    }

    /// What is built on; `given` by a flag or the environment.
    pub fn base_name(&self, given: Option<&str>) -> String {
        match self {
            Self::Project(project) => base::name(&project.manifest, given),
            Self::Sent(sent) => sent.request.base_image.clone(),
        }
    }

    /// The plan. Blocks.
    pub fn plan(&self, base_image: &str) -> Result<Plan, PlanError> {
        match self {
            Self::Project(project) => Plan::of(project, base_image),
            Self::Sent(sent) => Ok(Plan::of_recipe(&sent.request, &sent.request.recipe, &sent.manifest, &sent.folder)),
        }
    }

    /// The plan where build backends get the packages' whole code. Blocks.
    pub fn plan_with_code(&self, base_image: &str) -> Result<Plan, PlanError> {
        match self {
            Self::Project(project) => Plan::with_code(project, base_image),
            Self::Sent(sent) => {
                let recipe = sent.request.with_code.as_ref().unwrap_or(&sent.request.recipe);
                Ok(Plan::of_recipe(&sent.request, recipe, &sent.manifest, &sent.folder))
            }
        }
    }

    /// Has a file that changed while it was read taken once, by the next plan.
    pub fn meets_unsteady(&self, path: &Path) {
        if let Self::Project(project) = self {
            project.unsteady.meet(path);
        }
    }

    /// The commit of the source.
    pub fn revision(&self) -> Option<String> {
        match self {
            Self::Project(project) => find_revision(&project.folder),
            Self::Sent(sent) => sent.request.revision.clone(),
        }
    }
}
