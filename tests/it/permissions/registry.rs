//! The registry: rights by repository.

use super::world::{Caller, FOREIGN, OWN, Opens, World};
use rapidclaw::registry::names::Digest;
use reqwest::{Method, Response};
use serde_json::{Value, json};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// The permission, the method, and the path behind the repository.
const REQUESTS: [(&str, &str, &str); 8] = [
    ("view", "GET", "tags/list"),
    ("view", "GET", "manifests/v1"),
    ("view", "HEAD", "manifests/v1"),
    ("view", "GET", "blobs/DIGEST"),
    ("deploy", "POST", "blobs/uploads/"),
    ("deploy", "PUT", "manifests/v2"),
    ("admin", "DELETE", "manifests/nothing"),
    ("admin", "DELETE", "blobs/NOTHING"),
];

fn content(agent: &str) -> Vec<u8> {
    format!("a layer of {agent}").into_bytes()
}

fn digest(agent: &str) -> Digest {
    Digest::of(&content(agent))
}

async fn send(world: &World, secret: Option<&str>, method: &str, path: &str, body: Vec<u8>) -> Response {
    let method: Method = method.parse().unwrap();
    let mut request = world.http.request(method, format!("{}{path}", world.server.url));
    if !body.is_empty() {
        request = request.body(body);
    }
    if let Some(secret) = secret {
        request = request.basic_auth("ci", Some(secret));
    }
    request.header("content-type", MANIFEST).send().await.unwrap()
}

/// A manifest of one layer.
async fn push(world: &World, agent: &str) {
    let admin = world.secret("admin-2");
    let config = b"{}".to_vec();
    for blob in [content(agent), config.clone()] {
        let path = format!("/v2/rapidclaw/{agent}/blobs/uploads/?digest={}", Digest::of(&blob));
        assert_eq!(send(world, Some(admin), "POST", &path, blob).await.status().as_u16(), 201);
    }
    let blob = |kind: &str, content: &[u8]| json!({"mediaType": kind, "digest": Digest::of(content).to_string(), "size": content.len()});
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
        "config": blob("application/vnd.oci.image.config.v1+json", &config),
        "layers": [blob("application/vnd.oci.image.layer.v1.tar", &content(agent))]});
    let path = format!("/v2/rapidclaw/{agent}/manifests/v1");
    let answer = send(world, Some(admin), "PUT", &path, manifest.to_string().into_bytes()).await;
    assert_eq!(answer.status().as_u16(), 201, "{}", answer.text().await.unwrap());
}

fn check(caller: &Caller, permission: &str, agent: &str, status: u16, text: &str) -> Result<(), String> {
    let (wanted, right) = match caller.opens {
        Opens::Nothing(_) | Opens::Key(_) => ("401", status == 401),
        Opens::Token(permissions) if !permissions.contains(&permission) => ("403", status == 403),
        Opens::Token(_) if caller.scoped && agent == FOREIGN => {
            ("404", status == 404 && (text.is_empty() || text.contains("NAME_UNKNOWN")))
        }
        Opens::Token(_) => ("allowed", !matches!(status, 401 | 403 | 500..) && !text.contains("NAME_UNKNOWN")),
    };
    if right {
        Ok(())
    } else {
        Err(format!("{} needs {permission} of {agent}: wanted {wanted}, got {status} {text}", caller.name))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_the_repositories_of_its_agents_and_no_others() {
    // Given an image of each agent,
    let world = World::new().await;
    push(&world, OWN).await;
    push(&world, FOREIGN).await;

    // then each request is answered to those who may, and nobody else.
    let mut wrong = Vec::new();
    for (permission, method, path) in REQUESTS {
        let body = if method == "PUT" { b"{}".to_vec() } else { Vec::new() };
        for caller in &world.callers {
            for agent in [OWN, FOREIGN] {
                let path = format!(
                    "/v2/rapidclaw/{agent}/{}",
                    path.replace("DIGEST", &digest(agent).to_string())
                        .replace("NOTHING", &Digest::of(b"nothing").to_string())
                );
                let answer = send(&world, caller.secret.as_deref(), method, &path, body.clone()).await;
                let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
                wrong.extend(
                    check(caller, permission, agent, status, &text).err().map(|why| format!("{method} {path}: {why}")),
                );
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    lists_mounts_and_logins(&world).await;
    world.end().await;
}

async fn lists_mounts_and_logins(world: &World) {
    let json = async |secret: &str, path: &str| -> Value {
        send(world, Some(secret), "GET", path, Vec::new()).await.json().await.unwrap()
    };
    let repositories = async |name: &str| json(world.secret(name), "/v2/_catalog").await["repositories"].clone();
    assert_eq!(repositories("viewer").await, json!(["rapidclaw/foreign", "rapidclaw/own"]));
    assert_eq!(repositories("scoped-viewer").await, json!(["rapidclaw/own"]));

    // Content of another's repository is mounted by those alone who may pull it.
    let mount = format!("/v2/rapidclaw/own/blobs/uploads/?mount={}&from=rapidclaw/foreign", digest(FOREIGN));
    assert_eq!(send(world, Some(world.secret("scoped-deployer")), "POST", &mount, Vec::new()).await.status(), 202);
    assert_eq!(send(world, Some(world.secret("deployer")), "POST", &mount, Vec::new()).await.status(), 201);

    // Docker's login holds what the scope has, for as long as the token works.
    let secret = world.secret("scoped-deployer");
    let login = "/v2/token?scope=repository:rapidclaw/own:pull,push&scope=repository:rapidclaw/foreign:pull";
    let token = json(secret, login).await["token"].as_str().unwrap().to_owned();
    let get = async |path: &str| {
        let request = world.http.get(format!("{}{path}", world.server.url)).bearer_auth(&token);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(get("/v2/rapidclaw/own/manifests/v1").await, 200);
    assert_eq!(get("/v2/rapidclaw/foreign/manifests/v1").await, 404);
    sqlx::query("UPDATE rapidclaw.tokens SET revoked_at = now() WHERE name = 'scoped-deployer'")
        .execute(&world.pool)
        .await
        .unwrap();
    assert_eq!(get("/v2/rapidclaw/own/manifests/v1").await, 401);
    assert_eq!(send(world, Some(secret), "GET", login, Vec::new()).await.status(), 401);
}
