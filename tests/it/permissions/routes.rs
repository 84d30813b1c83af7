//! The two APIs, by the table of their routes.

use super::world::{Agent, Caller, OWN, Opens, World};
use rapidclaw::api::routes::{Entry, Subject, table};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What a caller gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// Not one of the others.
    Allowed,
    /// 401, with this code.
    Unauthorized(&'static str),
    /// 403, with this code.
    Forbidden(&'static str),
    /// 404, as if it were not there.
    Missing,
}

/// By the table's permission and subject, and what the caller opens; not by the server's own rules.
fn expected(entry: &Entry, caller: &Caller, agent: &Agent) -> Expected {
    match (entry.permission.as_str(), caller.opens) {
        ("public", _) => Expected::Allowed,
        ("agent-key", Opens::Key(name)) if name == agent.name => Expected::Allowed,
        ("agent-key", Opens::Key(_)) => Expected::Forbidden("wrong-agent"),
        // A token is no key, and a key is no token.
        ("agent-key", _) | (_, Opens::Key(_)) => Expected::Unauthorized("not-authenticated"),
        (_, Opens::Nothing(code)) => Expected::Unauthorized(code),
        (permission, Opens::Token(permissions)) if !permissions.contains(&permission) => {
            Expected::Forbidden("not-allowed")
        }
        _ if caller.scoped && agent.name != OWN && entry.subject != Subject::Server => Expected::Missing,
        _ => Expected::Allowed,
    }
}

/// The path of a route for a caller and an agent. What is destroyed is one of the caller's own.
fn path(entry: &Entry, caller: &Caller, agent: &Agent) -> String {
    let name = match (entry.name, agent.name) {
        ("DestroyAgent", OWN) => format!("doomed-{}", caller.name),
        ("DestroyAgent", _) => "doomed-foreign".to_owned(),
        (_, name) => name.to_owned(),
    };
    let id = match entry.subject {
        Subject::Rollout => agent.rollout,
        Subject::Run => agent.run,
        Subject::Agent | Subject::Server => uuid::Uuid::now_v7(),
    };
    entry.path.replace("{name}", &name).replace("{id}", &id.to_string()).replace("{thread}", "t")
}

async fn ask(world: &World, entry: &Entry, caller: &Caller, agent: &Agent) -> (u16, Value) {
    let base = if entry.path.starts_with("/agents/") { &world.server.agents_url } else { &world.server.url };
    let url = format!("{base}{}", path(entry, caller, agent));
    let mut request = world.http.request(entry.method.as_str().parse().unwrap(), url);
    if let Some(secret) = &caller.secret {
        request = request.bearer_auth(secret);
    }
    if entry.method.as_str() != "GET" {
        request = request.body("{}");
    }
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

fn check(entry: &Entry, caller: &Caller, agent: &Agent, (status, body): (u16, &Value)) -> Result<(), String> {
    let code = body["code"].as_str().unwrap_or_default();
    let missing = match entry.subject {
        Subject::Rollout => "no-such-rollout",
        Subject::Run => "no-such-run",
        Subject::Agent | Subject::Server => "no-such-agent",
    };
    let expected = expected(entry, caller, agent);
    let right = match expected {
        Expected::Unauthorized(wanted) => status == 401 && code == wanted,
        Expected::Forbidden(wanted) => status == 403 && code == wanted,
        Expected::Missing => status == 404 && code == missing,
        // The handler answered: what is asked for is there, the body is not always one that it takes.
        Expected::Allowed => {
            let unavailable = entry.path.ends_with("healthz") && status == 503;
            !matches!(status, 401 | 403 | 405)
                && (status < 500 || unavailable)
                && !["no-such-route", missing].contains(&code)
        }
    };
    let (name, who, whose) = (entry.name, caller.name, agent.name);
    if right { Ok(()) } else { Err(format!("{name} by {who} of {whose}: wanted {expected:?}, got {status} {body}")) }
}

/// Sees that an answer is what `/openapi.json` says of it.
fn check_schema(document: &Value, entry: &Entry, status: u16, body: &Value) -> Result<(), String> {
    let operation = &document["paths"][entry.path][entry.method.as_str().to_ascii_lowercase()];
    let schema = match status {
        200 => &operation["responses"]["200"]["content"]["application/json"]["schema"],
        400.. if body["code"].is_string() => {
            &document["components"]["responses"]["Problem"]["content"]["application/problem+json"]["schema"]
        }
        _ => return Ok(()),
    };
    let Some(schema) = schema.as_object() else { return Ok(()) };
    let mut schema = schema.clone();
    schema.insert("components".to_owned(), document["components"].clone());
    let validator = jsonschema::validator_for(&Value::Object(schema)).map_err(|error| error.to_string())?;
    validator.validate(body).map_err(|error| format!("{}: {error}: {body}", entry.name))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_route_answers_those_who_may_and_nobody_else() {
    let world = World::new().await;
    let url = format!("{}/openapi.json", world.server.url);
    let document = world.http.get(url).bearer_auth(world.secret("scoped-invoke")).send().await.unwrap();
    let document: Value = document.json().await.unwrap();
    let (mut wrong, mut asked) = (Vec::new(), 0);
    for entry in &table() {
        let described = &document["paths"][entry.path][entry.method.as_str().to_ascii_lowercase()];
        assert_eq!(described["x-permission"], entry.permission.as_str(), "{}", entry.name);
        let agents: &[&Agent] =
            if entry.subject == Subject::Server { &[&world.own] } else { &[&world.own, &world.foreign] };
        for caller in &world.callers {
            for agent in agents {
                let (status, body) = ask(&world, entry, caller, agent).await;
                asked += 1;
                wrong.extend(check(entry, caller, agent, (status, &body)).err());
                wrong.extend(check_schema(&document, entry, status, &body).err());
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {asked}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(asked > 1_000, "{asked}");
    lists_hold_what_the_token_sees(&world).await;
    tokens_are_made_used_and_revoked(&world);
    world.end().await;
}

async fn lists_hold_what_the_token_sees(world: &World) {
    let names = async |secret: &str| -> Vec<String> {
        let request = world.http.get(format!("{}/v1/agents", world.server.url)).bearer_auth(secret);
        let agents: Vec<Value> = request.send().await.unwrap().json().await.unwrap();
        agents.iter().map(|agent| agent["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(world.secret("viewer")).await, ["foreign", "own"]);
    assert_eq!(names(world.secret("scoped-viewer")).await, ["own"]);

    // An administrator of one agent sees and makes no token that reaches another.
    let tokens = format!("{}/v1/tokens", world.server.url);
    let admin = world.secret("scoped-admin");
    let listed: Vec<Value> = world.http.get(&tokens).bearer_auth(admin).send().await.unwrap().json().await.unwrap();
    let listed: BTreeSet<&str> = listed.iter().map(|token| token["name"].as_str().unwrap()).collect();
    assert_eq!(listed, ["scoped-admin", "scoped-deployer", "scoped-viewer", "scoped-invoke"].into());
    for (body, status) in [
        (json!({"name": "mine", "role": "viewer", "scope": {"agents": [OWN]}}), 200),
        (json!({"name": "other", "role": "viewer", "scope": {"agents": ["foreign"]}}), 403),
        (json!({"name": "all", "role": "viewer"}), 403),
        (json!({"name": "mine", "role": "viewer", "scope": {"agents": [OWN]}}), 409),
        (json!({"name": "later", "role": "viewer", "scope": {"agents": [OWN], "environments": ["e"]}}), 422),
        (json!({"name": "admin", "role": "viewer", "scope": {"agents": [OWN]}}), 422),
    ] {
        let answer = world.http.post(&tokens).bearer_auth(admin).json(&body).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{body}: {}", answer.text().await.unwrap());
    }
    for name in ["viewer", "admin"] {
        let id: uuid::Uuid =
            sqlx::query_scalar("SELECT id FROM rapidclaw.tokens WHERE name = $1 AND revoked_at IS NULL")
                .bind(name)
                .fetch_one(&world.pool)
                .await
                .unwrap();
        let answer = world.http.delete(format!("{tokens}/{id}")).bearer_auth(admin).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 404, "{name}: {}", answer.text().await.unwrap());
    }
}

/// The same at the command line.
fn tokens_are_made_used_and_revoked(world: &World) {
    let run = |arguments: &[&str]| tokio::task::block_in_place(|| world.server.rapidclaw(arguments));
    let with = |token: &str, arguments: &[&str]| {
        let mut command = world.server.machine.command();
        command.args(arguments).env("RAPIDCLAW_TOKEN", token);
        tokio::task::block_in_place(|| crate::machine::said(&mut command))
    };
    // Given a token for CI, limited to an agent and to a time: its value alone on stdout,
    let made = run(&["tokens", "create", "ci", "--role", "deployer", "--agent", OWN, "--expires", "90d"]).ok();
    let token = made.out.trim().to_owned();
    assert!(token.starts_with("rct_") && made.err.contains("shown this once") && !made.err.contains(&token), "{made}");
    run(&["tokens", "create", "ci", "--role", "viewer"]).fails(1).says("there is a token of this name");

    // then it does what it may, and no more,
    with(&token, &["whoami"]).ok().prints("ci (deployer, only own, until ");
    with(&token, &["status", "foreign"]).fails(1).says("there is no agent \"foreign\"");
    with(&token, &["tokens", "list"]).fails(4).says("the token does not allow this");
    with(&token, &["keys", "create", OWN]).fails(4);
    let listed = run(&["tokens", "list"]).ok();
    let row = listed.out.lines().find(|line| line.starts_with("ci ")).unwrap();
    assert!(row.starts_with("ci deployer own ") && row.ends_with(" active"), "{listed}");
    // and when it was last used is known soon after.
    crate::machine::until("a last use", || {
        let listed = run(&["tokens", "list", "--json"]).ok().json();
        let ci = listed["tokens"].as_array().unwrap().iter().find(|token| token["name"] == "ci").unwrap().clone();
        if ci["last_used_at"].is_string() { Ok(()) } else { Err(ci.to_string()) }
    });

    // The administrator's is not revoked at all.
    run(&["tokens", "revoke", "admin"]).fails(1).says("in the server's data folder");
    run(&["tokens", "revoke", "admin", "--yes"]).fails(1).says("in the server's data folder");
    run(&["tokens", "revoke", "ci"]).ok().prints("revoked token ci");
    with(&token, &["status"]).fails(4).says("the token was revoked");
    run(&["tokens", "revoke", "ci"]).fails(1).says("there is no token \"ci\"");
    with("rct_garbage", &["status"]).fails(4).hides("revoked");
}
