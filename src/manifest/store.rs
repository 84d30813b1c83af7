//! Code that asks LangGraph for a long-term store, which no server of this version gives.

use super::tokens::{Token, place, scan};

/// Whether a text may ask for one or bring one: one look, and right when it says no. Most texts name no store.
pub(super) fn may_matter(text: &str) -> bool {
    text.contains("tore") && (may_ask(text) || may_bring(text))
}

/// Whether a text may ask for one: cheap, and right when it says no.
pub(super) fn may_ask(text: &str) -> bool {
    ["runtime.store", "get_store", "InjectedStore", "BaseStore"].iter().any(|word| text.contains(word))
}

/// Whether a text may compile a graph with a store: cheap, and right when it says no.
pub(super) fn may_bring(text: &str) -> bool {
    text.contains("store=") || text.contains("store =")
}

/// Where a module asks for a store, in bytes, and how.
pub(super) fn asks(text: &str) -> Option<(usize, &'static str)> {
    let tokens = flat(text);
    (0..tokens.len()).find_map(|at| Some((place(text, &tokens[at]), way(&tokens[at..])?)))
}

fn flat(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    scan(text, true, &mut tokens);
    tokens.retain(|token| *token != Token::Line);
    tokens
}

fn way(tokens: &[Token<'_>]) -> Option<&'static str> {
    match tokens {
        [Token::Word("runtime"), Token::Sign('.'), Token::Word("store"), ..] => Some("runtime.store"),
        [Token::Word("get_store"), Token::Sign('('), ..] => Some("get_store()"),
        [Token::Word("InjectedStore"), Token::Sign('(' | ']'), ..] => Some("InjectedStore"),
        // `store: BaseStore`, `store: BaseStore | None`, `store: Optional[BaseStore]`
        [Token::Word("store"), Token::Sign(':'), declared @ ..] => {
            declared.iter().take(3).any(|token| *token == Token::Word("BaseStore")).then_some("store: BaseStore")
        }
        _ => None,
    }
}

/// Whether a module gives a graph a store of its own: an argument `store=…` that is not handed on.
pub(super) fn brings(text: &str) -> bool {
    flat(text).windows(4).any(|four| match four {
        [Token::Sign('(' | ','), Token::Word("store"), Token::Sign('='), value] => {
            !matches!(value, Token::Word("None" | "store") | Token::Sign('='))
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_ask_for_a_store_is_seen() {
        for (text, way) in [
            ("async def node(state, runtime):\n    await runtime.store.aput((\"a\",), \"k\", {})", "runtime.store"),
            ("from langgraph.config import get_store\nstore = get_store()", "get_store()"),
            ("def tool(x: Annotated[BaseStore, InjectedStore()]): ...", "InjectedStore"),
            ("def node(state, *, store: BaseStore): ...", "store: BaseStore"),
            ("def node(state, *, store: Optional[BaseStore] = None): ...", "store: BaseStore"),
        ] {
            assert!(may_ask(text));
            let (at, found) = asks(text).unwrap();
            assert_eq!(found, way, "{text}");
            assert!(text[at..].starts_with(way.split([':', '(']).next().unwrap()), "{text}");
        }
        for text in [
            "# runtime.store",
            "from langgraph.store.base import BaseStore",
            "\"\"\"store: BaseStore\"\"\"",
            "class A:\n    store: Shop\n",
            "from langgraph.prebuilt import InjectedStore",
        ] {
            assert_eq!(asks(text), None, "{text}");
        }
    }

    #[test]
    fn a_graph_that_is_compiled_with_a_store_has_one() {
        assert!(brings("graph = builder.compile(store=InMemoryStore())") && brings("g = f(a,\n  store=make())"));
        for text in ["builder.compile()", "f(store=None)", "def f(state, store=None): ...", "f(store=store)", "store=x"]
        {
            assert!(!brings(text), "{text}");
        }
    }
}
