//! How large a thread's state is: the encoded channel values of its newest root checkpoint. What is too large to be
//! read back is refused when it is written (`limits.state_bytes`).

use crate::runner::protocol::{Checkpoint, Tuple};
use std::collections::HashMap;

/// The state of a run's thread, as far as the run has sent it.
#[derive(Debug, Default)]
pub struct StateSize {
    limit: Option<usize>,
    channels: HashMap<String, usize>,
}

/// A state that is too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the thread's state has {bytes} bytes, and `limits.state_bytes` allows {limit}")]
pub struct TooLarge {
    /// So many it has.
    pub bytes: usize,
    /// So many it may have.
    pub limit: usize,
}

impl StateSize {
    /// The type of the fault of a run whose state is too large.
    pub const FAULT: &str = "StateTooLarge";

    /// As a run begins.
    pub fn new(state: Option<&Tuple>, limit: Option<u64>) -> Self {
        let blobs = state.into_iter().flat_map(|tuple| &tuple.blobs);
        let channels = blobs.map(|(channel, _, blob)| (channel.clone(), blob.as_ref().map_or(0, |blob| blob.len())));
        let limit = limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
        Self { limit, channels: channels.collect() }
    }

    /// Whether a document may be the state.
    pub fn admits(&self, document: &[u8]) -> Result<(), TooLarge> {
        match self.limit {
            Some(limit) if document.len() > limit => Err(TooLarge { bytes: document.len(), limit }),
            _ => Ok(()),
        }
    }

    /// What it is with this checkpoint. Small values stand in the checkpoint itself; an emptied channel has an empty
    /// blob. Those of subgraphs do not count.
    pub fn take(&mut self, checkpoint: &Checkpoint) -> Result<(), TooLarge> {
        let Some(limit) = self.limit.filter(|_| checkpoint.ns.is_empty()) else { return Ok(()) };
        for (channel, _, _, blob) in &checkpoint.blobs {
            let bytes = blob.as_ref().map_or(0, |blob| blob.len());
            match self.channels.get_mut(channel) {
                Some(known) => *known = bytes,
                None => drop(self.channels.insert(channel.clone(), bytes)),
            }
        }
        let bytes = self.channels.values().sum::<usize>() + checkpoint.checkpoint.len();
        if bytes > limit { Err(TooLarge { bytes, limit }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(ns: &str, blobs: &[(&str, Option<usize>)]) -> Checkpoint {
        let blob = |(channel, bytes): &(&str, Option<usize>)| {
            ((*channel).into(), "v".into(), "msgpack".into(), bytes.map(|bytes| vec![0; bytes].into()))
        };
        Checkpoint {
            run: String::new(),
            attempt: 1,
            id: 0,
            thread_id: "t".into(),
            ns: ns.into(),
            checkpoint_id: "1".into(),
            parent_id: None,
            checkpoint: vec![b' '; 10].into(),
            metadata: vec![].into(),
            blobs: blobs.iter().map(blob).collect(),
            usage: vec![],
        }
    }

    fn stored(blobs: &[(&str, usize)]) -> Tuple {
        Tuple {
            thread_id: "t".into(),
            ns: String::new(),
            checkpoint_id: "0".into(),
            parent_id: None,
            checkpoint: vec![].into(),
            metadata: vec![].into(),
            blobs: blobs
                .iter()
                .map(|(name, bytes)| ((*name).into(), "msgpack".into(), Some(vec![0; *bytes].into())))
                .collect(),
            writes: vec![],
        }
    }

    #[test]
    fn all_channels_count_those_that_did_not_change_too() {
        let mut state = StateSize::new(Some(&stored(&[("old", 60)])), Some(100));
        assert_eq!(state.take(&checkpoint("", &[("new", Some(30))])), Ok(()));
        assert_eq!(state.take(&checkpoint("", &[("new", Some(31))])), Err(TooLarge { bytes: 101, limit: 100 }));
        assert_eq!(state.take(&checkpoint("", &[("old", None)])), Ok(()), "an emptied channel is empty");
        assert_eq!(state.take(&checkpoint("", &[("third", Some(60))])), Err(TooLarge { bytes: 101, limit: 100 }));
    }

    #[test]
    fn subgraphs_and_agents_without_a_limit_may_be_any_size() {
        let mut state = StateSize::new(None, Some(100));
        assert_eq!(state.take(&checkpoint("child:1", &[("big", Some(1000))])), Ok(()));
        assert_eq!(state.take(&checkpoint("", &[])), Ok(()));
        assert_eq!(StateSize::new(None, None).take(&checkpoint("", &[("big", Some(1000))])), Ok(()));
    }
}
