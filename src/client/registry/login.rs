//! Logins of registries: Basic, and Docker's tokens (docs.docker.com/reference/api/registry/auth).

use super::{ANSWER, RegistryClientError, RepositoryClient};
use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use std::sync::PoisonError;

/// What a registry is shown.
#[derive(Clone)]
pub enum Login {
    /// Nothing.
    None,
    /// A user and a password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: SecretString,
    },
    /// A refresh token, as credential helpers give one for the user `<token>`.
    Identity(SecretString),
}

/// What a registry asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Challenge {
    /// What this is a client of does not say, or says what is not known.
    #[default]
    Basic,
    /// A token from elsewhere.
    Token { realm: String, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    pub(super) fn parse(text: &str) -> Self {
        let Some((scheme, rest)) = text.trim().split_once(' ') else { return Self::Basic };
        let mut found: [Option<String>; 3] = [None, None, None];
        let mut rest = rest.trim_start();
        while let Some((name, after)) = rest.split_once("=\"") {
            let Some((value, after)) = after.split_once('"') else { break };
            let place = match name.trim_matches([',', ' ']) {
                "realm" => Some(0),
                "service" => Some(1),
                "scope" => Some(2),
                _ => None,
            };
            if let Some(place) = place {
                found[place] = Some(value.to_owned());
            }
            rest = after;
        }
        match (scheme.eq_ignore_ascii_case("bearer"), found) {
            (true, [Some(realm), service, scope]) => Self::Token { realm, service, scope },
            _ => Self::Basic,
        }
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let text =
            r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push""#;
        let want = Challenge::Token {
            realm: "https://auth.example/token".into(),
            service: Some("registry.example".into()),
            scope: Some("repository:a/b:pull,push".into()),
        };
        assert_eq!(Challenge::parse(text), want);
        let bare = Challenge::Token { realm: "r".into(), service: None, scope: None };
        assert_eq!(Challenge::parse(r#"bearer realm="r", error="x""#), bare);
        for text in ["", "Basic realm=\"x\"", "Basic", "Bearer service=\"x\""] {
            assert_eq!(Challenge::parse(text), Challenge::Basic, "{text}");
        }
    }
}
