//! The runner's real connection and saver against the real gateway, committer and Postgres: LangGraph's
//! own conformance suite of checkpointers, and its `PostgresSaver` on the tables that came of it.

use crate::support::PATIENCE;
use crate::support::process::Process;
use crate::support::world::World;
use rapidclaw::base::ids;
use rapidclaw::gateway::committer::Ended;
use rapidclaw::gateway::outcome::Outcome;
use rapidclaw::gateway::replica::{Finish, Grant};
use rapidclaw::runner::protocol::Start;
use rapidclaw::store::runs::{Acceptance, Accepted, NewRun, Place, RunRequest};
use serde_json::{Value, json};

/// Of langgraph-checkpoint-conformance 0.0.2.
const CAPABILITIES: usize = 8;

#[tokio::test]
async fn the_saver_has_all_capabilities_and_postgres_saver_reads_the_same_state() {
    // Given a replica that runs the suite as a run with a row and a live attempt, which may touch any thread.
    let world = World::new().await;
    let run = ids::new_id();
    let thread = ids::thread_id("conformance");
    let process = Process::script(
        "conformance_replica.py",
        &[
            ("RAPIDCLAW_CONFORMANCE_RUN", run.to_string().as_str()),
            ("RAPIDCLAW_CONFORMANCE_DATABASE", &world.database.url()),
            ("RAPIDCLAW_CONFORMANCE_SCHEMA", world.schema.name()),
        ],
    );
    let runner = world.attach(process, 1).await;
    let new = NewRun {
        id: run,
        agent: world.agent.id,
        release: world.release.id,
        thread,
        given: "conformance",
        graph: "none",
        request: &RunRequest::Chat { message: "conform".into(), full: false, more: None },
        metadata: &json!({}),
        idempotency_key: None,
        queue_limit: None,
    };
    let place = Place { gateway: world.gateway.id(), replica: runner.replica.id };
    let accepted = world.store().accept_run(&new, Some(place)).await.unwrap();
    assert!(matches!(accepted, Acceptance::Accepted(Accepted { running: true, .. })), "{accepted:?}");

    // When the gateway starts it
    let start = Start {
        run: run.to_string(),
        attempt: 1,
        thread_id: Some(thread.to_string()),
        durability: Some("sync".into()),
        ..Start::default()
    };
    let end = runner.replica.start(run, Grant::AnyThread, start).await.unwrap();
    let (good, stdout, log) = runner.process.output().await;

    // Then every capability is there and passes,
    let report: Value = serde_json::from_str(stdout.get(stdout.find("{\n").unwrap_or(0)..).unwrap())
        .unwrap_or_else(|error| panic!("{error}:\n{stdout}\n{log}"));
    let results = report["results"].as_object().unwrap();
    assert_eq!(results.len(), CAPABILITIES);
    for (capability, result) in results {
        assert!(result["detected"] == true && result["passed"] == true, "{capability}: {result:#}\n{log}");
    }
    // PostgresSaver reads what the runner reads,
    let same = &report["same_state"];
    assert_eq!(same["differences"], json!([]));
    assert!(same["tuples"].as_u64().unwrap() > 40 && same["namespaces"].as_u64().unwrap() > 10, "{same:#}");
    assert!(good, "{log}");
    // and the run's end is committed.
    let finish = tokio::time::timeout(PATIENCE, end).await.unwrap().unwrap();
    let Finish::Ended(outcome, committed) = finish else { panic!("the run was put back") };
    assert!(matches!(outcome, Outcome::Answer(_)), "{outcome:?}");
    assert_eq!(committed.await, Ok(Ended::Committed));
    assert_eq!(world.run_row(run).await.status, "success");
}
