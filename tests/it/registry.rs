//! The registry as its clients see it: each row of the distribution specification over HTTP, on a real
//! Postgres and a real disk; and Docker Engine, skopeo and Debian's docker-registry against a real server.

mod base_images;
mod collecting;
mod login;
mod manifests;
mod push;
mod service;
mod tools;
mod unsteady;
mod uploads;
