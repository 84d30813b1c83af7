//! Tokens of the control API: an administrator creates, lists and revokes them. Nobody creates, sees or revokes one
//! that may more than their own.

use super::{Control, ControlError};
use crate::api::access::Grant;
use crate::api::tokens::{TokenCreated, TokenRequest, TokenView};
use crate::base::ids;
use crate::base::secret::{SecretError, token_hash};
use crate::manifest::name::is_name;
use crate::store::tokens::{ADMIN, NewToken, TokenOwner};
use jiff::Timestamp;
use uuid::Uuid;

/// What tokens begin with.
const TOKEN_PREFIX: &str = "rct";
/// Most characters of a name.
const MAX_NAME: usize = 64;
/// Most agents of a scope.
const MAX_AGENTS: usize = 100;
/// The latest end: a century is for ever.
const MAX_SECONDS: u64 = 100 * 366 * 86_400;

/// Why no token is created or revoked.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// A token cannot have the name.
    #[error(
        "{0:?} cannot name a token: 1 to {MAX_NAME} of letters, digits, `.`, `_` and `-`, a letter or a digit first, \
         and not an id"
    )]
    Name(String),
    /// The name is the administrator's.
    #[error("{ADMIN:?} is the name of the administrator's token")]
    AdminName,
    /// Another token that works has the name.
    #[error("there is a token {0:?} that works")]
    NameTaken(String),
    /// The scope holds no agents, too many, or what cannot name one.
    #[error("a scope holds 1 to {MAX_AGENTS} names of agents: {0:?} is not one")]
    Scope(String),
    /// It would end at once, or later than ever.
    #[error("a token expires after 1 second to 100 years")]
    Expiry,
    /// It would have more rights than the token that makes it.
    #[error("the token {0:?} has fewer rights than the new one would have")]
    MoreThanOwn(String),
    /// There is no such token, or none that works or that the caller's reaches.
    #[error("there is no token {0} that could be revoked")]
    NotFound(Uuid),
    /// The administrator's token is in the data folder.
    #[error("the administrator's token is in the server's data folder, and would work again with the next start")]
    Administrator,
}

/// What a request asks for.
fn grant_of(request: &TokenRequest, now: Timestamp) -> Result<Grant, TokenError> {
    if let Some(scope) = &request.scope {
        let wrong = scope.agents.iter().find(|name| !is_name(name)).cloned();
        let wrong = wrong.or_else(|| (!(1..=MAX_AGENTS).contains(&scope.agents.len())).then(String::new));
        if let Some(wrong) = wrong {
            return Err(TokenError::Scope(wrong));
        }
    }
    let ends = |seconds: u64| {
        let seconds = Some(seconds).filter(|seconds| (1..=MAX_SECONDS).contains(seconds));
        let ends = seconds.and_then(|seconds| now.as_second().checked_add_unsigned(seconds));
        ends.ok_or(TokenError::Expiry)
    };
    let expires_at = request.expires_in.map(ends).transpose()?;
    Ok(Grant { role: request.role, scope: request.scope.clone(), expires_at })
}

fn check_name(name: &str) -> Result<(), TokenError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let fits = (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(plain)
        && name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
        && Uuid::try_parse(name).is_err();
    match fits {
        true if name == ADMIN => Err(TokenError::AdminName),
        true => Ok(()),
        false => Err(TokenError::Name(name.to_owned())),
    }
}

impl Control {
    /// Creates a token; its value is shown this once.
    pub async fn create_token(&self, owner: &TokenOwner, request: TokenRequest) -> Result<TokenCreated, ControlError> {
        check_name(&request.name)?;
        let grant = grant_of(&request, Timestamp::now())?;
        if !owner.grant.as_ref().is_some_and(|own| own.covers(&grant)) {
            return Err(TokenError::MoreThanOwn(owner.name.clone()).into());
        }
        let token = ids::random_token(TOKEN_PREFIX).map_err(|_| SecretError::Random)?;
        let new = NewToken { name: &request.name, grant: &grant, hash: &token_hash(&token) };
        let made = self.store().add_token(&new).await?.ok_or_else(|| TokenError::NameTaken(request.name.clone()))?;
        tracing::info!(token = made.name, role = made.role, by = owner.name, "a token was created");
        let TokenOwner { id, name, expires_at, .. } = made;
        Ok(TokenCreated { id, name, role: grant.role, scope: grant.scope, expires_at, token })
    }

    /// The tokens that may no more than the owner's, oldest first.
    pub async fn list_tokens(&self, owner: &TokenOwner) -> Result<Vec<TokenView>, ControlError> {
        let all = self.store().list_tokens().await?;
        let seen = all.into_iter().filter(|(_, grant)| sees(owner, grant.as_ref()));
        Ok(seen.map(|(view, _)| view).collect())
    }

    /// Revokes a token: it opens nothing from now on.
    pub async fn revoke_token(&self, owner: &TokenOwner, id: Uuid) -> Result<(), ControlError> {
        let found = self.store().find_token_by_id(id).await?.filter(|found| sees(owner, found.grant.as_ref()));
        let found = found.ok_or(TokenError::NotFound(id))?;
        if found.name == ADMIN {
            return Err(TokenError::Administrator.into());
        }
        if !self.store().revoke_token(id).await? {
            return Err(TokenError::NotFound(id).into());
        }
        tracing::info!(token = found.name, by = owner.name, "a token was revoked");
        Ok(())
    }
}

/// Whether the owner may see and revoke a token: when it ends does not matter.
fn sees(owner: &TokenOwner, other: Option<&Grant>) -> bool {
    match (&owner.grant, other) {
        (Some(own), Some(other)) => {
            Grant { expires_at: None, ..own.clone() }.covers(&Grant { expires_at: None, ..other.clone() })
        }
        (Some(own), None) => own.scope.is_none(),
        (None, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::access::{Role, Scope};

    #[test]
    fn names_scopes_and_ends_are_checked() {
        for name in ["ci", "CI-2.b_c", &"x".repeat(64)] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", "-a", ".a", "a b", "é", &"x".repeat(65), "018f3c1e-0000-7000-8000-000000000000"] {
            assert!(matches!(check_name(name), Err(TokenError::Name(_))), "{name}");
        }
        assert!(matches!(check_name(ADMIN), Err(TokenError::AdminName)));
        let now = Timestamp::UNIX_EPOCH;
        let ask = |agents: Option<&[&str]>, expires_in| {
            let scope = agents.map(|agents| Scope { agents: agents.iter().map(|one| (*one).to_owned()).collect() });
            grant_of(&TokenRequest { name: "ci".into(), role: Role::Viewer, scope, expires_in }, now)
        };
        assert_eq!(ask(Some(&["a"]), Some(90)).unwrap().expires_at, Some(90));
        assert_eq!(ask(None, None).unwrap().expires_at, None);
        assert!(matches!(ask(Some(&[]), None), Err(TokenError::Scope(_))));
        assert!(matches!(ask(Some(&["a", "B!"]), None), Err(TokenError::Scope(wrong)) if wrong == "B!"));
        assert!(matches!(ask(None, Some(0)), Err(TokenError::Expiry)));
        assert!(matches!(ask(None, Some(u64::MAX)), Err(TokenError::Expiry)));
    }
}
