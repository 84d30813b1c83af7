//! What callers named is printed as text.

use super::foreground::{Foreground, RUN};
use crate::machine::Machine;
use rapidclaw::store::postgres::{Managed, Options};
use std::process::Stdio;
use uuid::Uuid;

#[tokio::test(flavor = "multi_thread")]
async fn what_callers_named_forges_no_row_and_moves_no_cursor() {
    // Given threads of before, when any name was taken, and a run that failed with such words.
    let (server, pool) = server().await;
    let names = ["a thread\nforged v9 running", "\u{1b}[2J\u{1b}[1;1Hgone\r", "c1 \u{9b}31m \u{202e}txt", ""];
    for sql in [
        "INSERT INTO rapidclaw.agents (id, name, schema_name) VALUES (gen_random_uuid(), 'a', 'agent_a')",
        "INSERT INTO rapidclaw.threads (agent_id, id, given)
         SELECT a.id, gen_random_uuid(), one FROM rapidclaw.agents a, unnest($1::text[]) one",
        "INSERT INTO rapidclaw.runs (id, agent_id, thread_id, graph, turn, status, request, fault, ended_at)
         SELECT gen_random_uuid(), agent_id, id, 'g', true, 'error', json_build_object('kind', 'chat', 'message', given, 'full', false),
           json_build_object('type', given), now() FROM rapidclaw.threads",
    ] {
        let query = sqlx::query(sql);
        let query = if sql.contains("$1") { query.bind(names.map(str::to_owned).to_vec()) } else { query };
        query.execute(&pool).await.unwrap();
    }
    let run: Uuid = sqlx::query_scalar("SELECT id FROM rapidclaw.runs ORDER BY request->>'message' DESC LIMIT 1")
        .fetch_one(&pool)
        .await
        .unwrap();
    pool.close().await;

    // Then each is one row of as many words as columns, and none holds what a terminal obeys.
    for (command, columns) in [("threads", 6), ("runs", 9)] {
        let said = server.rapidclaw(&[command, "a"]).ok();
        let rows: Vec<usize> = said.out.lines().map(|line| line.split_whitespace().count()).collect();
        assert_eq!(rows, [columns; 4], "{said}");
    }
    let run = run.to_string();
    for arguments in [&["threads", "a"][..], &["runs", "a"], &["runs", "a", "--json"], &["runs", "show", &run]] {
        let said = server.rapidclaw(arguments).ok();
        let obeyed = |one: char| rapidclaw::base::text::is_control(one) && one != '\n';
        assert!(!said.out.contains(obeyed) && !said.out.lines().any(|line| line.starts_with("forged")), "{said:?}");
    }
    tokio::task::block_in_place(|| drop(server));
}

/// A server, and its database.
async fn server() -> (Foreground, sqlx::PgPool) {
    let machine = Machine::new();
    let mut command = machine.command();
    command.args(RUN).stdout(Stdio::null()).stderr(Stdio::null());
    let server = tokio::task::block_in_place(|| Foreground::start(machine, &mut command));
    let managed = Managed::ensure(&Options::new(server.machine.data_dir())).await.unwrap();
    let pool = sqlx::PgPool::connect_with(managed.connect_options()).await.unwrap();
    (server, pool)
}
