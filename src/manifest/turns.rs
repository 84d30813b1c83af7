//! Which targets are plain turns, told from the project's text: `async def turn(thread, message, emit)`.
//!
//! The runner decides by what the name is bound to once the module is imported (`frameworks/plain.py`); here the
//! same is told where the text leaves no doubt: an `async def` of the module's own, without decorators, that
//! nothing else in the module rebinds. What is said here to be a turn is one; what is not may still be.

use crate::manifest::folders::local_dependencies;
use crate::manifest::ignore::normalize;
use crate::manifest::python::{self, Token};
use crate::manifest::{Graph, GraphTarget, Manifest, code};
use std::path::{Path, PathBuf};

/// What a turn is called with.
const PARAMETERS: usize = 3;

/// Whether the target is certainly a plain turn. Reads its file; `folder` is the manifest's, absolute.
pub fn is_turn(manifest: &Manifest, folder: &Path, graph: &Graph) -> bool {
    let (file, attribute) = match &graph.target {
        GraphTarget::File { path, attribute } => (Some(folder.join(path)), attribute),
        GraphTarget::Module { module, attribute } => {
            let local = local_dependencies(manifest, folder).into_iter().map(|(_, root)| root);
            let uv = manifest.source.as_ref().map(|source| normalize(&folder.join(&source.root)));
            let roots: Vec<PathBuf> = local.chain(uv).collect();
            (code::find_module(&roots, module).ok().flatten(), attribute)
        }
    };
    let Some(file) = file.filter(|_| !graph.is_javascript()) else { return false };
    let is_small = std::fs::metadata(&file).is_ok_and(|meta| meta.is_file() && meta.len() <= python::MAX_BYTES);
    is_small && std::fs::read(&file).is_ok_and(|bytes| binds_turn(&String::from_utf8_lossy(&bytes), attribute))
}

fn binds_turn(text: &str, name: &str) -> bool {
    let (mut found, mut bound, mut is_decorated, mut is_seen_whole) = (false, 0, false, true);
    let broken = python::each_statement(text, |tokens, indent, is_inside| {
        if is_inside {
            // A function may rebind it as a global.
            is_seen_whole &= !tokens.contains(&Token::Word("global")) || !tokens.contains(&Token::Word(name));
            return;
        }
        let names = python::bound_by(tokens);
        is_seen_whole &= !names.open;
        if names.names.contains(name) || tokens.first() == Some(&Token::Word("del")) {
            bound += 1;
            found = indent == 0 && !is_decorated && is_turns_head(tokens, name);
        }
        is_decorated = tokens.first() == Some(&Token::Sign("@"));
    });
    broken.is_none() && is_seen_whole && found && bound == 1
}

/// `async def NAME(a, b, c)`, whatever more has a default.
fn is_turns_head(tokens: &[Token<'_>], name: &str) -> bool {
    let [Token::Word("async"), Token::Word("def"), Token::Word(found), Token::Sign("("), rest @ ..] = tokens else {
        return false;
    };
    let mut depth = 1_usize;
    let end = rest.iter().position(|token| {
        match token {
            Token::Sign("(" | "[" | "{") => depth += 1,
            Token::Sign(")" | "]" | "}") => depth -= 1,
            _ => {}
        }
        depth == 0
    });
    let Some(end) = end.filter(|_| *found == name) else { return false };
    let parameters = python::split(&rest[..end], ",");
    let required = parameters.into_iter().filter(|one| !one.is_empty() && !python::has_sign(one, "="));
    let required: Vec<&[Token<'_>]> = required.collect();
    required.len() == PARAMETERS && required.iter().all(|one| is_a_turns_parameter(one))
}

/// A name, annotated or not. A factory of a graph takes a config or a runtime; annotations in quotes are not read.
fn is_a_turns_parameter(tokens: &[Token<'_>]) -> bool {
    let [Token::Word(name), annotation @ ..] = tokens else { return false };
    let is_factorys = annotation.iter().any(|token| match token {
        Token::Word(word) => word.contains("RunnableConfig") || word.contains("Runtime"),
        Token::Text => true,
        Token::Sign(_) => false,
    });
    !matches!(*name, "config" | "runtime") && !is_factorys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_an_async_function_of_three_parameters() {
        for turn in [
            "async def turn(thread, message, emit):\n    return 'x'\n",
            "import x\nasync def turn(a: Thread, b: str, c: Callable[[str], None], d=1, ) -> str: ...\n",
            "async def other(config): ...\n@app\ndef f(): ...\nasync def turn(t, m, e):\n    def turn(): ...\n",
        ] {
            assert!(binds_turn(turn, "turn"), "{turn}");
        }
    }

    #[test]
    fn what_may_be_something_else_is_no_turn() {
        for other in [
            "def turn(thread, message, emit): ...",
            "async def turn(config): ...",
            "async def turn(config, runtime, emit): ...",
            "async def turn(a: RunnableConfig, b, c): ...",
            "async def turn(a, b, c: 'Runtime'): ...",
            "async def turn(thread, message): ...",
            "async def turn(thread, message, *, emit): ...",
            "async def turn(*args): ...",
            "@wrap\nasync def turn(thread, message, emit): ...",
            "async def turn(thread, message, emit): ...\nturn = build(turn)",
            "async def turn(thread, message, emit): ...\nfrom x import *",
            "async def turn(thread, message, emit): ...\ndef f():\n    global turn\n    turn = 1",
            "async def turn(thread, message, emit): ...\ndel turn",
            "if x:\n    async def turn(thread, message, emit): ...",
            "turn = graph",
            "",
        ] {
            assert!(!binds_turn(other, "turn"), "{other}");
        }
    }
}
