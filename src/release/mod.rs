//! The release room.
