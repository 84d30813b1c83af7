//! Who may: the login as Docker does it, and without it.

use super::service::{Answer, Service, TOKEN};

#[tokio::test]
async fn nobody_gets_anything_without_a_token() {
    let service = Service::new().await;
    service.push_image("a/b", "v1", b"layer").await;
    for (path, scope) in [
        ("/v2/", ""),
        ("/v2/_catalog", ",scope=\"registry:catalog:*\""),
        ("/v2/a/b/manifests/v1", ",scope=\"repository:a/b:pull\""),
        ("/v2/a/b/tags/list", ",scope=\"repository:a/b:pull\""),
        ("/v2/nonsense", ""),
    ] {
        let url = format!("{}{path}", service.url);
        for request in [
            service.http.get(&url),
            service.http.get(&url).bearer_auth("wrong"),
            service.http.get(&url).basic_auth("any", Some("wrong")),
            service.http.get(&url).header("authorization", "Basic %%%"),
        ] {
            let refused = Answer::of(request).await.refuses(401, "UNAUTHORIZED");
            let want = format!("Bearer realm=\"{}/v2/token\",service=\"rapidclaw\"{scope}", service.url);
            assert_eq!(refused.header("www-authenticate"), want);
        }
    }
    let upload = service.http.post(format!("{}/v2/a/b/blobs/uploads/", service.url));
    let refused = Answer::of(upload).await.refuses(401, "UNAUTHORIZED");
    assert!(refused.header("www-authenticate").ends_with("scope=\"repository:a/b:pull,push\""));
}

#[tokio::test]
async fn a_password_gets_a_token_that_opens() {
    let service = Service::new().await;
    // given the realm, asked as Docker asks
    let realm = format!("{}/v2/token?account=ann&scope=repository%3Aa%3Apull&service=rapidclaw", service.url);
    let answer = Answer::of(service.http.get(&realm).basic_auth("ann", Some(TOKEN))).await.is(200);
    let token = answer.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(answer.json()["expires_in"], 300);
    assert!(!token.contains(TOKEN));
    // then the token opens, and so do the password in Basic form and the token itself
    let base = format!("{}/v2/", service.url);
    for request in [
        service.http.get(&base).bearer_auth(&token),
        service.http.get(&base).basic_auth("ann", Some(TOKEN)),
        service.http.get(&base).bearer_auth(TOKEN),
    ] {
        let answer = Answer::of(request).await.is(200);
        assert_eq!(answer.header("docker-distribution-api-version"), "registry/2.0");
    }
    // but none is given for a wrong password, or for none, and the token gets no other one
    for request in [
        service.http.get(&realm),
        service.http.get(&realm).basic_auth("ann", Some("wrong")),
        service.http.get(&realm).basic_auth("ann", Some(&token)),
    ] {
        Answer::of(request).await.refuses(401, "UNAUTHORIZED");
    }
    Answer::of(service.http.post(&realm).basic_auth("ann", Some(TOKEN))).await.refuses(405, "UNSUPPORTED");
}

#[tokio::test]
async fn behind_a_proxy_with_tls_the_login_is_there_and_not_in_clear() {
    let service = Service::new().await;
    let base = format!("{}/v2/", service.url);
    // given the public name, with its port or without, the realm is the public URL
    for host in ["registry.example", "registry.example:443", "Registry.Example"] {
        let refused = Answer::of(service.http.get(&base).header("host", host)).await.refuses(401, "UNAUTHORIZED");
        let want = "Bearer realm=\"https://registry.example/v2/token\",service=\"rapidclaw\"";
        assert_eq!(refused.header("www-authenticate"), want, "{host}");
    }
}

#[tokio::test]
async fn a_token_opens_what_it_was_asked_for() {
    let service = Service::new().await;
    service.push_image("a", "v1", b"layer").await;
    service.push_image("b", "v1", b"layer of b").await;
    let token = async |scopes: &str| {
        let url = format!("{}/v2/token?service=rapidclaw{scopes}", service.url);
        let answer = Answer::of(service.http.get(url).basic_auth("ann", Some(TOKEN))).await.is(200);
        answer.json()["token"].as_str().unwrap().to_owned()
    };
    let (none, pull, both) = (
        token("").await,
        token("&scope=repository%3Aa%3Apull").await,
        token("&scope=repository:a:pull,push&scope=repository:b:pull").await,
    );
    let every = token("&scope=registry:catalog:*%20repository:b:*").await;
    for (token, method, path, allowed) in [
        (&none, "GET", "/v2/", true),
        (&none, "GET", "/v2/a/manifests/v1", false),
        (&pull, "GET", "/v2/a/manifests/v1", true),
        (&pull, "GET", "/v2/b/manifests/v1", false),
        (&pull, "POST", "/v2/a/blobs/uploads/", false),
        (&pull, "DELETE", "/v2/a/manifests/v1", false),
        (&pull, "GET", "/v2/_catalog", false),
        (&both, "POST", "/v2/a/blobs/uploads/", true),
        (&both, "POST", "/v2/b/blobs/uploads/", false),
        (&both, "DELETE", "/v2/a/manifests/v1", false),
        (&every, "GET", "/v2/_catalog", true),
        (&every, "DELETE", "/v2/b/manifests/v1", true),
    ] {
        let request = service.http.request(method.parse().unwrap(), format!("{}{path}", service.url));
        let answer = Answer::of(request.bearer_auth(token)).await;
        if allowed {
            assert!(answer.status.is_success(), "{method} {path}: {}", answer.status);
        } else {
            let refused = answer.refuses(401, "UNAUTHORIZED");
            assert!(refused.header("www-authenticate").contains("error=\"insufficient_scope\""), "{method} {path}");
        }
    }
}
