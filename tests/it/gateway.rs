//! The way of a run: accept, execute, commit, answer. A real Postgres and real runner processes on their
//! Unix sockets; no Docker, nothing pretended.

mod absence;
mod fences;
mod limits;
mod losses;
mod queue;
mod turns;

use crate::support::world::{Runner, World};

/// `NAME` of `tests/python/projects/stories.py`.
const STORIES: [&str; 13] = [
    "asking",
    "deleting",
    "deleting_elsewhere",
    "gated",
    "looping",
    "memory",
    "priced",
    "reading_elsewhere",
    "sleeping",
    "slow",
    "sync_blocking",
    "unstorable",
    "writing_elsewhere",
];

/// Starts a runner with the graphs of the stories.
async fn stories(world: &World, capacity: u32, env: &[(&str, &str)]) -> Runner {
    let specs: Vec<String> = STORIES.iter().map(|name| format!("stories.py:{name}")).collect();
    let graphs: Vec<(&str, &str)> = STORIES.iter().copied().zip(specs.iter().map(String::as_str)).collect();
    world.start(&graphs, capacity, env).await
}
