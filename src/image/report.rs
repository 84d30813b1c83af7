//! How a build goes on, and what comes of it.

use crate::image::archive::Entry;
use std::sync::Arc;

/// Hears how a build goes on. It is called between two lines of output and should not block.
pub trait BuildReporter: Send + Sync {
    /// A step began. `title` is empty for those that are not worth a word.
    fn step_started(&self, number: usize, total: usize, title: &str);
    /// The step that began is the same as in an earlier build.
    fn step_cached(&self, number: usize, total: usize, title: &str);
    /// A line that the current step printed.
    fn output(&self, line: &str);
    /// The image is there.
    fn finished(&self, built: &Built);
}

/// What came of a build.
#[derive(Debug, Clone, PartialEq)]
pub struct Built {
    /// The engine's id of the image: `sha256:…`.
    pub image_id: String,
    /// Its tag: `rapidclaw/AGENT:`, whom it is for, and the first 12 digits of the inputs' digest.
    pub tag: String,
    /// The digest of the inputs: `sha256:…`.
    pub inputs_digest: String,
    /// Whether it was there already.
    pub cached: bool,
    /// Whether it is the `deployed` of its options, which this machine's engine may not have.
    pub deployed: bool,
    /// The Python in it, `3.13.5`; empty where it is not known.
    pub python: String,
    /// What should be said.
    pub notes: Vec<String>,
    /// How long it took.
    pub seconds: f64,
    /// The code, where it is a layer of its own: what a push can make again without the engine.
    pub code: Option<Arc<Vec<Entry>>>,
    /// The config's bytes, where they were made here.
    pub config: Option<Arc<Vec<u8>>>,
}
