//! What the steps of a build may take.

use crate::image::way::Way;
use bollard::query_parameters::BuildImageOptionsBuilder;
use std::path::PathBuf;

/// What the steps of a build may take of the engine's machine; nothing: whatever they want.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StepBounds {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Their weight beside other containers, which have 1024 each.
    pub cpu_shares: Option<u32>,
    /// The folder of an egress proxy's socket: then that is their only way out.
    pub way: Option<PathBuf>,
}

impl StepBounds {
    /// The options of a build that keeps within them.
    pub(super) fn of(&self, options: BuildImageOptionsBuilder, way: Option<&Way>) -> BuildImageOptionsBuilder {
        let number = |number: u64| i32::try_from(number).unwrap_or(i32::MAX);
        let options = match self.memory {
            Some(memory) => options.memory(number(memory)).memswap(number(memory)),
            None => options,
        };
        let options = match self.cpu_shares {
            Some(shares) => options.cpushares(number(shares.into())),
            None => options,
        };
        match way {
            Some(way) => options.networkmode(&way.network()),
            None => options,
        }
    }
}
