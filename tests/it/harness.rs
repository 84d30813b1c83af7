//! What the tests stand on. `support` is a gateway with a real runner and a real Postgres, without Docker: the
//! quickest, so preferred. `machine` is a real server with Docker Engine and Postgres, `building` the builder alone,
//! `index` a package index with a login.

pub mod building;
pub mod index;
pub mod machine;
pub mod support;
