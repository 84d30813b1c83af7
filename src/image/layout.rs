//! What images of ours agree on, whoever writes them.

/// Who runs in a replica.
pub const UID: u32 = 10001;
