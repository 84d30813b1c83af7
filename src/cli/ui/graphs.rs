//! How each graph of an agent is called over `/v1/chat`, in words.

use crate::api::control::GraphView;

/// A line each, in the manifest's order; none where there is one and it takes a message, as everybody expects.
pub fn ways(graphs: &[GraphView]) -> Vec<String> {
    if graphs.len() == 1 && graphs[0].chat {
        return Vec::new();
    }
    graphs.iter().map(way).collect()
}

fn way(graph: &GraphView) -> String {
    let GraphView { id, chat, input, default } = graph;
    let named = if *default { String::new() } else { format!(" and \"graph\": \"{id}\"") };
    if *chat {
        return format!("graph {id}: /v1/chat with `message`{named}");
    }
    let keys: Vec<String> = input.iter().map(|key| format!("\"{key}\": …")).collect();
    format!("graph {id}: takes no `message`; /v1/chat with \"input\": {{{}}}{named}", keys.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_graph_says_what_to_write() {
        let graph = |id: &str, input: &[&str], default| GraphView {
            id: id.to_owned(),
            chat: input.is_empty(),
            input: input.iter().map(|key| (*key).to_owned()).collect(),
            default,
        };
        assert_eq!(ways(&[graph("a", &[], true)]), [""; 0]);
        let said =
            ways(&[graph("talk", &[], true), graph("other", &[], false), graph("mail", &["subject", "body"], false)]);
        assert_eq!(
            said,
            [
                "graph talk: /v1/chat with `message`",
                "graph other: /v1/chat with `message` and \"graph\": \"other\"",
                "graph mail: takes no `message`; /v1/chat with \"input\": {\"subject\": …, \"body\": …} and \"graph\": \"mail\"",
            ]
        );
        assert_eq!(
            ways(&[graph("mail", &["x"], true)]),
            ["graph mail: takes no `message`; /v1/chat with \"input\": {\"x\": …}"]
        );
    }
}
