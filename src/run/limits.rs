//! Ceilings of a run: a manifest's limit is a ceiling, a request may ask for less.

/// LangGraph's own default where neither manifest nor request nor graph says anything is left to the graph: `None`.
pub fn ceiling<T: Ord + Copy>(manifest: Option<T>, request: Option<T>) -> Option<T> {
    match (manifest, request) {
        (Some(ceiling), Some(asked)) => Some(ceiling.min(asked)),
        (ceiling, asked) => ceiling.or(asked),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_may_ask_for_less_and_not_for_more() {
        assert_eq!(ceiling(Some(25), Some(10)), Some(10));
        assert_eq!(ceiling(Some(25), Some(100)), Some(25));
        assert_eq!(ceiling(None, Some(100)), Some(100));
        assert_eq!(ceiling(Some(25), None), Some(25));
        assert_eq!(ceiling::<u32>(None, None), None);
    }
}
