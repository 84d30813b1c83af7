//! Layer 1: a Docker Engine's client, below whatever builds images or runs replicas: where the engine is (`place`: contexts,
//! `DOCKER_HOST`, TLS), the connection to it (`connect`), Docker's own logins (`credentials`), images from their
//! registries (`pull`), and which images of ours it holds (`names`, `images`).

mod connect;
pub mod credentials;
pub mod images;
pub mod names;
pub mod place;
mod pull;

/// A connection to an engine, for those who only hand it on.
pub use bollard::Docker as Engine;
pub use connect::{EngineError, MIN_API, connect, connect_to, has_image, sees};
pub use pull::{PullError, pull, registry_of};
