//! Tokens of the control API: stored as hashes.

use super::{Store, StoreError};
use crate::api::access::{Grant, Permission, Role, Scope};
pub use crate::api::tokens::ADMIN;
use crate::api::tokens::{TokenState, TokenView};
use crate::base::ids;
use serde_json::Value;
use sqlx::AssertSqlSafe;
use sqlx::FromRow;
use uuid::Uuid;

/// The stored role of an administrator's token that has a scope or an end: the version before did not know either.
const ADMIN_LIMITED: &str = "admin-limited";

/// Whose token was presented.
#[derive(Debug, Clone)]
pub struct TokenOwner {
    /// The token's id.
    pub id: Uuid,
    /// The token's name.
    pub name: String,
    /// The name of its role.
    pub role: String,
    /// What it may do; `None`: its role or scope is of another version, and it may nothing.
    pub grant: Option<Grant>,
    /// When it ends (RFC 3339).
    pub expires_at: Option<String>,
    /// Whether it works.
    pub state: TokenState,
}

impl TokenOwner {
    /// Whether it has the permission.
    pub fn allows(&self, permission: Permission) -> bool {
        match &self.grant {
            Some(grant) => grant.role.allows(permission),
            None => matches!(permission, Permission::Public | Permission::Token),
        }
    }

    /// Whether it reaches the agent.
    pub fn reaches(&self, agent: &str) -> bool {
        self.grant.as_ref().is_some_and(|grant| grant.reaches(agent))
    }

    /// Which agents it is limited to; `None`: it is not.
    pub fn scope(&self) -> Option<&Scope> {
        self.grant.as_ref()?.scope.as_ref()
    }
}

/// A token to be.
#[derive(Debug, Clone)]
pub struct NewToken<'a> {
    /// What it is called.
    pub name: &'a str,
    /// What it may do.
    pub grant: &'a Grant,
    /// The hash of its value.
    pub hash: &'a [u8; 32],
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    name: String,
    role: String,
    scope: Option<Value>,
    expires_at: Option<String>,
    expires_seconds: Option<i64>,
    state: String,
    created_at: String,
    last_used_at: Option<String>,
}

const COLUMNS: &str = r#"id, name, role, scope,
  to_char(expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS expires_at,
  extract(epoch FROM expires_at)::bigint AS expires_seconds,
  CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN expires_at <= now() THEN 'expired' ELSE 'active' END AS state,
  to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS created_at,
  to_char(last_used_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS last_used_at"#;

impl Row {
    fn state(&self) -> TokenState {
        match self.state.as_str() {
            "active" => TokenState::Active,
            "expired" => TokenState::Expired,
            _ => TokenState::Revoked,
        }
    }

    fn role(&self) -> Option<Role> {
        if self.role == ADMIN_LIMITED { Some(Role::Admin) } else { self.role.parse().ok() }
    }

    fn role_name(&self) -> String {
        self.role().map_or_else(|| self.role.clone(), |role| role.to_string())
    }

    /// A scope that this version cannot read opens nothing.
    fn grant(&self) -> Option<Grant> {
        let scope = match &self.scope {
            Some(stored) => Some(serde_json::from_value(stored.clone()).ok()?),
            None => None,
        };
        Some(Grant { role: self.role()?, scope, expires_at: self.expires_seconds })
    }

    fn owner(self) -> TokenOwner {
        let (role, grant, state) = (self.role_name(), self.grant(), self.state());
        TokenOwner { id: self.id, name: self.name, role, grant, expires_at: self.expires_at, state }
    }
}

impl Store {
    /// Makes `hash` the administrator's token; whatever was it before is revoked.
    pub async fn set_admin_token(&self, hash: &[u8; 32]) -> Result<(), StoreError> {
        let mut transaction = self.pool().begin().await?;
        sqlx::query("UPDATE tokens SET revoked_at = now() WHERE name = $1 AND revoked_at IS NULL AND hash <> $2")
            .bind(ADMIN)
            .bind(hash.as_slice())
            .execute(&mut *transaction)
            .await?;
        sqlx::query(
            "INSERT INTO tokens (id, name, role, hash) VALUES ($1, $2, 'admin', $3)
             ON CONFLICT (hash) DO UPDATE SET revoked_at = NULL",
        )
        .bind(ids::new_id())
        .bind(ADMIN)
        .bind(hash.as_slice())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Whose token has that hash, also where it works no more.
    pub async fn find_token(&self, hash: &[u8; 32]) -> Result<Option<TokenOwner>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM tokens WHERE hash = $1");
        let row: Option<Row> =
            sqlx::query_as(AssertSqlSafe(sql)).bind(hash.as_slice()).fetch_optional(self.pool()).await?;
        Ok(row.map(Row::owner))
    }

    /// Whose token has that id, also where it works no more.
    pub async fn find_token_by_id(&self, id: Uuid) -> Result<Option<TokenOwner>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM tokens WHERE id = $1");
        let row: Option<Row> = sqlx::query_as(AssertSqlSafe(sql)).bind(id).fetch_optional(self.pool()).await?;
        Ok(row.map(Row::owner))
    }

    /// Adds a token: its owner. `None`: another token that works has the name.
    pub async fn add_token(&self, new: &NewToken<'_>) -> Result<Option<TokenOwner>, StoreError> {
        let Grant { role, scope, expires_at } = new.grant;
        let limited = scope.is_some() || expires_at.is_some();
        let role = if *role == Role::Admin && limited { ADMIN_LIMITED } else { role.as_str() };
        let mut transaction = self.pool().begin().await?;
        // Names of tokens of before may be the same: no index would hold them.
        sqlx::query("SELECT pg_advisory_xact_lock(hashtext('rapidclaw.tokens'))").execute(&mut *transaction).await?;
        let sql = format!(
            "INSERT INTO tokens (id, name, role, scope, expires_at, hash)
             SELECT $1, $2, $3, $4, to_timestamp($5::bigint), $6 WHERE NOT EXISTS (
               SELECT 1 FROM tokens WHERE name = $2 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
             ) RETURNING {COLUMNS}"
        );
        let row: Option<Row> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(ids::new_id())
            .bind(new.name)
            .bind(role)
            .bind(scope.as_ref().map(sqlx::types::Json))
            .bind(*expires_at)
            .bind(new.hash.as_slice())
            .fetch_optional(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(row.map(Row::owner))
    }

    /// All tokens, oldest first, with what they may do.
    pub async fn list_tokens(&self) -> Result<Vec<(TokenView, Option<Grant>)>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM tokens ORDER BY id");
        let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(sql)).fetch_all(self.pool()).await?;
        Ok(rows.into_iter().map(listed).collect())
    }

    /// Revokes a token. `false`: there is none of that id that could be.
    pub async fn revoke_token(&self, id: Uuid) -> Result<bool, StoreError> {
        let done = sqlx::query("UPDATE tokens SET revoked_at = now() WHERE id = $1 AND revoked_at IS NULL")
            .bind(id)
            .execute(self.pool())
            .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Notes that a token was used, unless that was noted within the last minute.
    pub async fn touch_token(&self, id: Uuid) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE tokens SET last_used_at = now()
             WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')",
        )
        .bind(id)
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// The name of the agent whose rollout it is.
    pub async fn agent_of_rollout(&self, rollout: Uuid) -> Result<Option<String>, StoreError> {
        let sql = "SELECT a.name FROM rollouts o JOIN agents a ON a.id = o.agent_id WHERE o.id = $1";
        Ok(sqlx::query_scalar(sql).bind(rollout).fetch_optional(self.pool()).await?)
    }

    /// The name of the agent whose run it is.
    pub async fn agent_of_run(&self, run: Uuid) -> Result<Option<String>, StoreError> {
        let sql = "SELECT a.name FROM runs r JOIN agents a ON a.id = r.agent_id WHERE r.id = $1";
        Ok(sqlx::query_scalar(sql).bind(run).fetch_optional(self.pool()).await?)
    }
}

fn listed(row: Row) -> (TokenView, Option<Grant>) {
    let (grant, role, state) = (row.grant(), row.role_name(), row.state());
    let view = TokenView {
        id: row.id,
        name: row.name,
        role,
        scope: grant.as_ref().and_then(|grant| grant.scope.clone()),
        created_at: row.created_at,
        expires_at: row.expires_at,
        last_used_at: row.last_used_at,
        state,
    };
    (view, grant)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::test_database::TestDatabase;

    fn grant(role: Role, agents: Option<&[&str]>, expires_at: Option<i64>) -> Grant {
        let scope = agents.map(|agents| Scope { agents: agents.iter().map(|one| (*one).to_owned()).collect() });
        Grant { role, scope, expires_at }
    }

    #[tokio::test]
    async fn tokens_keep_their_grant_and_say_why_they_work_no_more() {
        let database = TestDatabase::new().await;
        let store = Store::open(database.options()).await.unwrap();
        let future = jiff::Timestamp::now().as_second() + 3_600;
        for (number, (name, grant, stored)) in [
            ("ci", grant(Role::Deployer, Some(&["a"]), Some(future)), "deployer"),
            ("all", grant(Role::Admin, None, None), "admin"),
            // What the version before would take for all rights has another name.
            ("some", grant(Role::Admin, Some(&["a", "b"]), None), ADMIN_LIMITED),
            ("short", grant(Role::Admin, None, Some(future)), ADMIN_LIMITED),
        ]
        .into_iter()
        .enumerate()
        {
            let hash = [u8::try_from(number).unwrap(); 32];
            let new = NewToken { name, grant: &grant, hash: &hash };
            let made = store.add_token(&new).await.unwrap().unwrap();
            assert_eq!(made.grant.as_ref(), Some(&grant), "{name}");
            assert_eq!((made.role.as_str(), made.state), (grant.role.as_str(), TokenState::Active));
            let role: String = sqlx::query_scalar("SELECT role FROM tokens WHERE id = $1")
                .bind(made.id)
                .fetch_one(store.pool())
                .await
                .unwrap();
            assert_eq!(role, stored);
            // Nobody else gets the name while it works.
            assert!(store.add_token(&NewToken { hash: &[99; 32], ..new.clone() }).await.unwrap().is_none());
        }
        let ci = store.find_token(&[0; 32]).await.unwrap().unwrap();
        assert!(ci.reaches("a") && !ci.reaches("b") && ci.allows(Permission::Deploy) && !ci.allows(Permission::Admin));
        store.touch_token(ci.id).await.unwrap();
        assert!(store.list_tokens().await.unwrap().iter().any(|(view, _)| view.last_used_at.is_some()));
        sqlx::query("UPDATE tokens SET expires_at = now() WHERE id = $1")
            .bind(ci.id)
            .execute(store.pool())
            .await
            .unwrap();
        assert_eq!(store.find_token_by_id(ci.id).await.unwrap().unwrap().state, TokenState::Expired);
        let again = grant(Role::Viewer, None, None);
        let new = NewToken { name: "ci", grant: &again, hash: &[98; 32] };
        let second = store.add_token(&new).await.unwrap().unwrap();
        assert!(store.revoke_token(second.id).await.unwrap() && !store.revoke_token(second.id).await.unwrap());
        assert_eq!(store.find_token(&[98; 32]).await.unwrap().unwrap().state, TokenState::Revoked);
    }

    #[tokio::test]
    async fn a_token_of_a_later_version_may_nothing() {
        let database = TestDatabase::new().await;
        let store = Store::open(database.options()).await.unwrap();
        for (number, role, scope) in
            [(1_u8, "deployer", Some(r#"{"agents":["a"],"environments":["e"]}"#)), (2, "owner", None)]
        {
            sqlx::query("INSERT INTO tokens (id, name, role, scope, hash) VALUES ($1, 'later', $2, $3::jsonb, $4)")
                .bind(ids::new_id())
                .bind(role)
                .bind(scope)
                .bind([number; 32].as_slice())
                .execute(store.pool())
                .await
                .unwrap();
            let owner = store.find_token(&[number; 32]).await.unwrap().unwrap();
            assert!(owner.grant.is_none() && !owner.allows(Permission::View) && !owner.reaches("a"), "{owner:?}");
        }
    }
}
