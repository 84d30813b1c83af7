//! Logins of registries: Basic, and Docker's tokens (docs.docker.com/reference/api/registry/auth).

use super::challenge::Challenge;
use super::{ANSWER, RegistryClientError, RepositoryClient};
use crate::engine::credentials::Login;
use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use std::sync::PoisonError;

#[derive(Deserialize)]
struct Token {
    token: Option<SecretString>,
    access_token: Option<SecretString>,
}

impl RepositoryClient {
    /// Gets what the registry wants to see.
    pub(super) async fn log_in(&self, challenge: Challenge) -> Result<(), RegistryClientError> {
        let Challenge::Token { realm, service, scope } = challenge else {
            // It has seen the password already, if there is one.
            return if matches!(self.login, Login::Password { .. }) { Ok(()) } else { Err(self.not_allowed()) };
        };
        let url = Url::parse(&realm).map_err(|_| self.strange("it names no place to log in"))?;
        // A password goes over TLS, or nowhere but to this machine.
        if url.scheme() != "https" && !(self.base.scheme() == "http" && url.host_str().is_some_and(super::is_here)) {
            return Err(self.strange("its login is without TLS"));
        }
        // What is pushed is read as well; the scope of the first request may be less.
        let scope = scope.map_or_else(String::new, |_| format!("repository:{}:pull,push", self.name));
        let service = service.unwrap_or_default();
        let request = match &self.login {
            Login::Identity(token) => {
                let form = [
                    ("grant_type", "refresh_token"),
                    ("service", &service),
                    ("client_id", "rapidclaw"),
                    ("scope", &scope),
                    ("refresh_token", token.expose_secret()),
                ];
                let mut body = Url::parse("form:").map_err(|_| self.strange("form"))?;
                body.query_pairs_mut().extend_pairs(form);
                self.http
                    .post(url)
                    .header(reqwest::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                    .body(body.query().unwrap_or_default().to_owned())
            }
            login => {
                let mut url = url;
                for (name, value) in [("service", &service), ("scope", &scope)] {
                    if !value.is_empty() {
                        url.query_pairs_mut().append_pair(name, value);
                    }
                }
                match login {
                    Login::Password { user, password } => {
                        self.http.get(url).basic_auth(user, Some(password.expose_secret()))
                    }
                    _ => self.http.get(url),
                }
            }
        };
        let answer = request.timeout(ANSWER).send().await.map_err(|source| self.unreachable(source))?;
        if !answer.status().is_success() {
            return Err(self.not_allowed());
        }
        let token: Token =
            serde_json::from_slice(&self.body(answer).await?).map_err(|_| self.strange("its login gives no token"))?;
        let token = token.token.or(token.access_token).ok_or_else(|| self.strange("its login gives no token"))?;
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
        Ok(())
    }
}
