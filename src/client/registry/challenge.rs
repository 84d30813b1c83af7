//! What a registry asks for (RFC 9110 11.6.1; docs.docker.com/reference/api/registry/auth).

use http_auth::parser::ChallengeParser;

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
    /// Of several the one for a token.
    pub(super) fn parse(text: &str) -> Self {
        let known = ChallengeParser::new(text).map_while(Result::ok);
        let mut tokens = known.filter(|challenge| challenge.scheme.eq_ignore_ascii_case("bearer"));
        let token = tokens.find_map(|challenge| {
            let of = |wanted: &str| {
                let found = challenge.params.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
                found.map(|(_, value)| value.to_unescaped())
            };
            Some(Self::Token { realm: of("realm")?, service: of("service"), scope: of("scope") })
        });
        token.unwrap_or_default()
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
        let several = r#"Basic realm="x", Bearer realm="a \"b\"",scope=s"#;
        let want = Challenge::Token { realm: "a \"b\"".into(), service: None, scope: Some("s".into()) };
        assert_eq!(Challenge::parse(several), want);
        for text in ["", "Basic realm=\"x\"", "Basic", "Bearer service=\"x\""] {
            assert_eq!(Challenge::parse(text), Challenge::Basic, "{text}");
        }
    }
}
