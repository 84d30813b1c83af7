//! What a request may say, and what belongs to its key.

use super::questions;
use crate::support::world::World;
use rapidclaw::api::chat::ChatRequest;
use rapidclaw::gateway::route::RunLimits;
use rapidclaw::gateway::turn::TurnError;
use serde_json::{Map, Value, json};

fn with(body: &Value, more: &Value) -> Value {
    let mut body: Map<String, Value> = body.as_object().unwrap().clone();
    body.extend(more.as_object().unwrap().clone());
    Value::Object(body)
}

#[tokio::test]
async fn a_key_belongs_to_one_thread_user_graph_and_request() {
    let world = World::new().await;
    let runner = questions(&world, &[]).await;
    world.serve(&[&runner], RunLimits::default());
    let body = json!({ "user_id": "ann", "thread_id": "t", "graph": "memory", "message": "hello" });
    let first = world.chat(body.clone(), Some("k")).await.unwrap();

    let again = world.chat(body.clone(), Some("k")).await.unwrap();
    assert_eq!((again.run_id, again.answer.result), (first.run_id, first.answer.result));

    let others = [
        json!({ "thread_id": "u" }),
        json!({ "user_id": "bob" }),
        json!({ "graph": "telling" }),
        json!({ "message": "bye" }),
        json!({ "full": true }),
        json!({ "config": { "tags": ["a"] } }),
        json!({ "context": { "tone": "warm" } }),
        json!({ "resume": null }),
    ];
    for other in others {
        let refused = world.chat(with(&body, &other), Some("k")).await.unwrap_err();
        assert!(matches!(refused, TurnError::KeyReused), "{other}: {refused:?}");
    }
    let mut nameless = body.as_object().unwrap().clone();
    nameless.remove("thread_id");
    let refused = world.chat(Value::Object(nameless.clone()), Some("k")).await.unwrap_err();
    assert!(matches!(refused, TurnError::KeyReused), "{refused:?}");

    // Without a thread's name, the thread that was made is the answer's.
    let first = world.chat(Value::Object(nameless.clone()), Some("l")).await.unwrap();
    let again = world.chat(Value::Object(nameless), Some("l")).await.unwrap();
    assert_eq!((again.run_id, again.thread_id), (first.run_id, first.thread_id));
    assert_eq!(world.gateway.waited_for(), 0, "nobody is waited for");
}

#[tokio::test]
async fn a_run_gets_context_config_and_input_and_no_more_than_the_agent_allows() {
    let world = World::new().await;
    let runner = questions(&world, &[]).await;
    world.serve(&[&runner], RunLimits { recursion_limit: Some(20), ..RunLimits::default() });

    let body = json!({ "user_id": "ann", "graph": "telling", "message": "hi", "context": { "tone": "warm" }, "config": {
        "configurable": { "flavour": "mint", "thread_id": "mine" }, "tags": ["urgent"],
        "metadata": { "ticket": 7, "user_id": "eve" }, "recursion_limit": 12 } });
    let told = world.chat(body.clone(), None).await.unwrap().answer.result.unwrap();
    let told: Value = serde_json::from_str(&told).unwrap();
    let wanted = json!({ "tone": "warm", "flavour": "mint", "ticket": 7, "user": "ann", "tags": true, "limit": 12 });
    assert_eq!(told, wanted);
    let more = with(&body, &json!({ "config": { "recursion_limit": 1000 } }));
    let told = world.chat(more, None).await.unwrap().answer.result.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&told).unwrap()["limit"], 20);

    // A graph without messages takes its own input; a message only where it asks.
    let letter = json!({ "user_id": "ann", "thread_id": "l", "graph": "letters", "full": true });
    let refused = world.chat(with(&letter, &json!({ "message": "hi" })), None).await.unwrap_err();
    assert!(format!("{refused:?}").contains("graph-not-chat"), "{refused:?}");
    let asked = world.chat(with(&letter, &json!({ "input": { "letter": { "from": "Ada" } } })), None).await.unwrap();
    assert!(asked.answer.interrupts.unwrap().get().contains("answer Ada?"));
    let answered = world.chat(with(&letter, &json!({ "message": "Dear" })), None).await.unwrap();
    assert!(answered.answer.values.unwrap().get().contains("Dear, Ada"));
}

#[tokio::test]
async fn what_is_no_request_is_said_before_a_run_is_made() {
    let world = World::new().await;
    let runner = questions(&world, &[]).await;
    world.serve(&[&runner], RunLimits::default());
    let body = json!({ "user_id": "ann", "graph": "memory", "message": "hello" });
    let deep = (0..100).fold(json!(1), |inner, _| json!([inner]));

    let wrong = [
        (json!({ "input": {} }), "send `message` or `input`, not both"),
        (json!({ "message": null, "input": {}, "resume": 1 }), "send `input` or `resume`, not both"),
        (json!({ "message": null }), "`message` is required (or `input`, or `resume`)"),
        (json!({ "resume": deep }), "the body holds a NUL character, or is nested deeper than 100 levels"),
        (json!({ "context": { "a": "\u{0}" } }), "the body holds a NUL character, or is nested deeper than 100 levels"),
        (json!({ "config": { "recursion_limit": 0 } }), "`config.recursion_limit` is at least 1"),
    ];
    for (more, why) in wrong {
        let refused = world.chat(with(&body, &more), None).await.unwrap_err();
        assert!(matches!(&refused, TurnError::Field(text) if text == why), "{refused:?}");
    }
    for (unknown, name) in [(json!({ "mesage": "hi" }), "mesage"), (json!({ "config": { "tag": [] } }), "tag")] {
        let refused = serde_json::from_value::<ChatRequest>(with(&body, &unknown)).unwrap_err().to_string();
        assert!(refused.contains(&format!("unknown field `{name}`, expected")), "{refused}");
    }
    let runs: i64 = sqlx::query_scalar("SELECT count(*) FROM runs").fetch_one(world.pool()).await.unwrap();
    assert_eq!(runs, 0);
}
