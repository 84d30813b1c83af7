//! The tutorial's own project, byte for byte.
