//! What a token allows is what its role does: on every route of the control API, and in the registry. And what
//! callers named is printed as text.

use super::foreground::{Foreground, RUN};
use crate::machine::Machine;
use rapidclaw::base::secret::token_hash;
use rapidclaw::store::postgres::{Managed, Options};
use std::process::Stdio;
use std::time::Duration;
use uuid::Uuid;

/// What a role has to allow at least.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Needs {
    Token,
    Read,
    Deploy,
    Admin,
}

const ROUTES: [(Needs, &str, &str); 30] = [
    (Needs::Token, "GET", "/v1/whoami"),
    (Needs::Token, "GET", "/v1/server/health"),
    (Needs::Read, "GET", "/v1/agents"),
    (Needs::Read, "GET", "/v1/agents/a"),
    (Needs::Read, "GET", "/v1/agents/a/keys"),
    (Needs::Read, "GET", "/v1/agents/a/secrets"),
    (Needs::Read, "GET", "/v1/agents/a/logs"),
    (Needs::Read, "GET", "/v1/agents/a/releases"),
    (Needs::Read, "GET", "/v1/agents/a/rollouts"),
    (Needs::Read, "GET", "/v1/agents/a/runs"),
    (Needs::Read, "GET", "/v1/agents/a/threads"),
    (Needs::Read, "GET", "/v1/agents/a/threads/t"),
    (Needs::Read, "GET", "/v1/runs/018f3c1e-0000-7000-8000-000000000000"),
    (Needs::Read, "GET", "/v1/rollouts/018f3c1e-0000-7000-8000-000000000000"),
    (Needs::Deploy, "POST", "/v1/rollouts/018f3c1e-0000-7000-8000-000000000000/cancel"),
    (Needs::Deploy, "POST", "/v1/agents/a/deploys"),
    (Needs::Deploy, "POST", "/v1/agents/a/deploys/plan"),
    (Needs::Deploy, "POST", "/v1/agents/a/rollbacks"),
    (Needs::Deploy, "POST", "/v1/agents/a/image"),
    (Needs::Admin, "PATCH", "/v1/agents/a/secrets"),
    (Needs::Admin, "PUT", "/v1/agents/a/scale"),
    (Needs::Admin, "POST", "/v1/agents/a/keys"),
    (Needs::Admin, "DELETE", "/v1/agents/a/keys/018f3c1e-0000-7000-8000-000000000000"),
    (Needs::Admin, "DELETE", "/v1/agents/a"),
    (Needs::Token, "GET", "/v2/"),
    (Needs::Read, "GET", "/v2/a/tags/list"),
    (Needs::Read, "GET", "/v2/_catalog"),
    (Needs::Deploy, "POST", "/v2/a/blobs/uploads/"),
    (Needs::Deploy, "PUT", "/v2/a/manifests/v1"),
    (Needs::Admin, "DELETE", "/v2/a/manifests/v1"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_role_allows_what_it_says_and_no_more() {
    // Given a server and a token of each role,
    let (server, pool) = server().await;
    let roles = [("admin", Needs::Admin), ("deploy", Needs::Deploy), ("read", Needs::Read), ("strange", Needs::Token)];
    for (role, _) in roles {
        sqlx::query("INSERT INTO rapidclaw.tokens (id, name, role, hash) VALUES ($1, $2, $3, $4)")
            .bind(Uuid::now_v7())
            .bind(format!("the-{role}"))
            .bind(role)
            .bind(token_hash(&format!("token-{role}")).as_slice())
            .execute(&pool)
            .await
            .unwrap();
    }
    pool.close().await;

    // then each route answers those that may, and nobody else.
    let http = rapidclaw::base::http::client(Duration::from_secs(5), Some(Duration::from_secs(60))).unwrap();
    for (needs, method, path) in ROUTES {
        let ask = async |token: &str| {
            let method = method.parse::<reqwest::Method>().unwrap();
            let mut request = http.request(method.clone(), format!("{}{path}", server.url)).bearer_auth(token);
            if method != reqwest::Method::GET {
                request = request.body("{}");
            }
            let answer = request.send().await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        };
        assert_eq!(ask("wrong").await.0, 401, "{method} {path}");
        for (role, allows) in roles {
            let (status, text) = ask(&format!("token-{role}")).await;
            let refused = status == 403 && (text.contains("not-allowed") || text.contains("DENIED"));
            assert_eq!(refused, allows < needs, "{role}: {method} {path}: {status} {text}");
            assert!(status != 401 && status < 500, "{role}: {method} {path}: {status} {text}");
        }
    }
    tokio::task::block_in_place(|| drop(server));
}

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
