//! HTTP and Docker as the tests speak them.

use super::BASE;
use rapidclaw::base::http;
use serde_json::Value;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// What an HTTP server answered.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub replica: Option<String>,
    pub content_type: String,
    pub body: Value,
    pub text: String,
}

impl Answer {
    /// Sees that it is a success.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.status, 200, "{self:?}");
        self
    }

    /// Sees that it is this problem.
    #[track_caller]
    pub fn problem(self, status: u16, code: &str) -> Self {
        assert_eq!((self.status, self.body["code"].as_str()), (status, Some(code)), "{self:?}");
        assert_eq!(self.content_type, "application/problem+json", "{self:?}");
        assert_eq!(self.body["status"], status, "{self:?}");
        self
    }
}

#[track_caller]
pub fn get(url: &str, headers: &[(&str, &str)]) -> Answer {
    call(reqwest::Method::GET, url, headers, None).unwrap_or_else(|error| panic!("{url}: {error:?}"))
}

#[track_caller]
pub fn post(url: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    try_post(url, headers, body).unwrap_or_else(|error| panic!("{url}: {error:?}"))
}

/// A request that may get no answer.
pub fn try_post(url: &str, headers: &[(&str, &str)], body: &Value) -> reqwest::Result<Answer> {
    call(reqwest::Method::POST, url, headers, Some(body))
}

fn call(method: reqwest::Method, url: &str, headers: &[(&str, &str)], body: Option<&Value>) -> reqwest::Result<Answer> {
    runtime().block_on(async {
        let client = http::client(Duration::from_secs(5), Some(Duration::from_secs(240))).unwrap();
        let mut request = client.request(method, url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await?;
        let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let (status, replica) = (response.status().as_u16(), header("rapidclaw-replica"));
        let content_type = header("content-type").unwrap_or_default();
        let text = response.text().await?;
        let body = serde_json::from_str(&text).unwrap_or_default();
        Ok(Answer { status, replica, content_type, body, text })
    })
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Fails with the command that helps where there is no engine or no base image.
pub fn need_docker() {
    assert!(
        docker(&["version"]).status.success(),
        "this test needs Docker Engine, which does not answer: `sudo systemctl start docker`, or \
         `setsid dockerd >/tmp/dockerd.log 2>&1 &`"
    );
    assert!(
        docker(&["image", "inspect", BASE]).status.success(),
        "this test needs the base image {BASE}: scripts/base-image.sh makes it"
    );
}

pub fn docker(arguments: &[&str]) -> Output {
    docker_at(None, arguments)
}

/// At another engine than the test's, where one is named.
pub fn docker_at(host: Option<&str>, arguments: &[&str]) -> Output {
    let mut command = Command::new("docker");
    command.args(arguments).stdin(Stdio::null());
    let output = command.envs(host.map(|host| ("DOCKER_HOST", host))).output();
    output.unwrap_or_else(|error| panic!("this test needs the docker command (apt-get install docker.io): {error}"))
}

/// What a docker command printed; it must succeed.
#[track_caller]
pub fn docker_said(arguments: &[&str]) -> String {
    let output = docker(arguments);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "docker {arguments:?}: {err}");
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// All files below a folder: path and bytes. What goes away meanwhile is left out.
pub fn walk(folder: &std::path::Path) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.metadata() {
            Ok(meta) if meta.is_dir() => found.extend(walk(&entry.path())),
            Ok(meta) => found.push((entry.path().display().to_string(), meta.len())),
            Err(_) => {}
        }
    }
    found
}
