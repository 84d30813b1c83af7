//! What a turn means: what it may say, whose answer it gets, what of it outlives its replica.

mod answers;
mod elsewhere;
mod http;
mod requests;
mod usage;

use crate::support::world::{Runner, World};

/// `NAME` of `tests/python/projects/questions.py`.
const QUESTIONS: [&str; 7] = ["approval", "below_together", "leaky", "letters", "nested", "side_by_side", "telling"];

/// Starts a runner with the graphs that ask.
async fn questions(world: &World, env: &[(&str, &str)]) -> Runner {
    let specs: Vec<String> = QUESTIONS.iter().map(|name| format!("questions.py:{name}")).collect();
    let mut graphs: Vec<(&str, &str)> = QUESTIONS.iter().copied().zip(specs.iter().map(String::as_str)).collect();
    graphs.extend([("memory", "stories.py:memory"), ("gated", "stories.py:gated")]);
    world.start(&graphs, 4, env).await
}
