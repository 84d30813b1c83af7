//! What a turn means, as its caller hears it.

use crate::machine::{Answer, Server};
use crate::supervision::agent::project;
use serde_json::{Value, json};

/// Sees that an answer is refused so, and that the thread is as it was.
fn is_refused(server: &Server, key: &str, thread: &str, resume: &Value, code: &str) {
    // All that there is of the agent's threads, but for the runs that were refused.
    let state = "SELECT hashtext(concat(
          (SELECT string_agg(c::text, '|' ORDER BY c::text) FROM agent_e2e_asks.checkpoints c),
          (SELECT string_agg(w::text, '|' ORDER BY w::text) FROM agent_e2e_asks.checkpoint_writes w),
          (SELECT string_agg(concat(t.id, t.status), '|' ORDER BY t.id) FROM rapidclaw.threads t)))::bigint";
    let before = server.query(state);
    let refused = answer(server, key, thread, resume).problem(409, code);
    assert_eq!(refused.body["type"], format!("urn:rapidclaw:problem:{code}"), "{refused:?}");
    assert!(refused.body["run_id"].is_string(), "{refused:?}");
    assert_eq!(server.query(state), before, "{code} changed the thread");
}

fn answer(server: &Server, key: &str, thread: &str, resume: &Value) -> Answer {
    server.chat("e2e-asks", key, &json!({ "thread_id": thread, "user_id": "ann", "resume": resume }))
}

#[test]
fn an_answer_to_no_question_is_refused_and_the_thread_stays_as_it_was() {
    let server = Server::start();
    let key = server.deploy(&project("e2e-asks", 1)).ok().key();
    let ask = |thread: &str, what: &str| {
        let body = json!({ "thread_id": thread, "user_id": "ann", "message": format!("ask {what}") });
        let asked = server.chat("e2e-asks", &key, &body).ok().body["interrupts"].clone();
        assert_eq!(asked[0]["value"], what);
        asked[0]["id"].as_str().unwrap().to_owned()
    };

    // A thread that is not there, and one that asks nothing.
    assert_eq!(server.turn("e2e-asks", &key, "calm", "hello"), "well 1");
    is_refused(&server, &key, "calm", &json!(true), "nothing-to-resume");
    answer(&server, &key, "none", &json!(true)).problem(409, "nothing-to-resume");
    // An answer by the id of a question that was answered before, while another one is open; and by one of another
    // thread.
    let first = ask("one", "first?");
    assert_eq!(answer(&server, &key, "one", &json!({ &first: "yes" })).ok().body["result"], "first? yes 1");
    is_refused(&server, &key, "one", &json!({ &first: "yes" }), "nothing-to-resume");
    is_refused(&server, &key, "one", &json!("yes"), "nothing-to-resume");
    let second = ask("one", "second?");
    assert_ne!(first, second);
    let other = ask("two", "other?");
    is_refused(&server, &key, "one", &json!({ &first: "yes" }), "no-such-interrupt");
    is_refused(&server, &key, "one", &json!({ &other: "yes" }), "no-such-interrupt");
    is_refused(&server, &key, "one", &json!({ &second: "yes", &first: "yes" }), "no-such-interrupt");
    // The open questions are as open as they were.
    assert_eq!(answer(&server, &key, "one", &json!({ &second: "no" })).ok().body["result"], "second? no 2");
    assert_eq!(answer(&server, &key, "two", &json!("well")).ok().body["result"], "other? well 1");
    assert_eq!(server.turn("e2e-asks", &key, "calm", "hello"), "well 2");
}
