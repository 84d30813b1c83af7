//! Who may do what: roles of tokens, the permissions that routes need, and the agents that a token is limited to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything.
    Admin,
    /// View, deploy, roll back, push images, and call agents: what CI does.
    Deployer,
    /// View agents, their runs and logs; pull images.
    Viewer,
    /// Call agents over the control API, and nothing else.
    Invoke,
}

impl Role {
    /// All roles, the strongest first.
    pub const ALL: [Self; 4] = [Self::Admin, Self::Deployer, Self::Viewer, Self::Invoke];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Deployer => "deployer",
            Self::Viewer => "viewer",
            Self::Invoke => "invoke",
        }
    }

    /// Whether it allows what needs this permission. A key of an agent is no token: no role has [`Permission::AgentKey`].
    pub fn allows(self, permission: Permission) -> bool {
        match permission {
            Permission::Public | Permission::Token => true,
            Permission::View => matches!(self, Self::Admin | Self::Deployer | Self::Viewer),
            Permission::Invoke => matches!(self, Self::Admin | Self::Deployer | Self::Invoke),
            Permission::Deploy => matches!(self, Self::Admin | Self::Deployer),
            Permission::Admin => self == Self::Admin,
            Permission::AgentKey => false,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Role {
    type Err = UnknownRole;

    /// Also reads the names of before (`deploy`, `read`).
    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        match text {
            "admin" => Ok(Self::Admin),
            "deployer" | "deploy" => Ok(Self::Deployer),
            "viewer" | "read" => Ok(Self::Viewer),
            "invoke" => Ok(Self::Invoke),
            _ => Err(UnknownRole),
        }
    }
}

/// Not the name of a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a role")]
pub struct UnknownRole;

/// What a route needs of who calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// Nothing.
    Public,
    /// Any token of the control API.
    Token,
    /// To look at agents, their runs and logs.
    View,
    /// To call an agent over the control API.
    Invoke,
    /// To deploy, roll back and push images.
    Deploy,
    /// To do everything else.
    Admin,
    /// A key of the agent that is called.
    AgentKey,
}

impl Permission {
    /// Its name, as `/openapi.json` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Token => "token",
            Self::View => "view",
            Self::Invoke => "invoke",
            Self::Deploy => "deploy",
            Self::Admin => "admin",
            Self::AgentKey => "agent-key",
        }
    }
}

/// What a token is limited to. A field that this version does not know is an error: passing over it would widen the
/// token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// Names of the agents, of those that are not deployed yet as well.
    pub agents: Vec<String>,
}

impl Scope {
    /// Whether the agent is in it.
    pub fn has(&self, agent: &str) -> bool {
        self.agents.iter().any(|name| name == agent)
    }
}

/// What a token may do, on which agents, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// What it may do.
    pub role: Role,
    /// Which agents it reaches; `None`: all, and the server.
    pub scope: Option<Scope>,
    /// When it ends, in seconds since 1970; `None`: when it is revoked.
    pub expires_at: Option<i64>,
}

impl Grant {
    /// Whether it reaches the agent.
    pub fn reaches(&self, agent: &str) -> bool {
        self.scope.as_ref().is_none_or(|scope| scope.has(agent))
    }

    /// Whether `other` may nothing that this one may not: whoever has this one may make the other.
    pub fn covers(&self, other: &Self) -> bool {
        let allows = |permission| self.role.allows(permission) || !other.role.allows(permission);
        let permissions = [Permission::View, Permission::Invoke, Permission::Deploy, Permission::Admin];
        let reaches = match (&self.scope, &other.scope) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(other)) => other.agents.iter().all(|agent| own.has(agent)),
        };
        let ends = match (self.expires_at, other.expires_at) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(other)) => other <= own,
        };
        permissions.into_iter().all(allows) && reaches && ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_allow_what_they_say_and_read_the_names_of_before() {
        use Permission::{Admin, AgentKey, Deploy, Invoke, Public, Token, View};
        let permissions = [Public, Token, View, Invoke, Deploy, Admin, AgentKey];
        for (name, allowed) in [
            ("admin", [true, true, true, true, true, true, false]),
            ("deployer", [true, true, true, true, true, false, false]),
            ("deploy", [true, true, true, true, true, false, false]),
            ("viewer", [true, true, true, false, false, false, false]),
            ("read", [true, true, true, false, false, false, false]),
            ("invoke", [true, true, false, true, false, false, false]),
        ] {
            let role: Role = name.parse().unwrap();
            assert_eq!(permissions.map(|permission| role.allows(permission)), allowed, "{name}");
        }
        assert_eq!("Admin".parse::<Role>(), Err(UnknownRole));
    }

    #[test]
    fn a_scope_with_a_field_of_a_later_version_is_no_scope() {
        assert!(serde_json::from_str::<Scope>(r#"{"agents": ["a"]}"#).unwrap().has("a"));
        assert!(serde_json::from_str::<Scope>(r#"{"agents": ["a"], "environments": ["pr-1"]}"#).is_err());
    }

    #[test]
    fn a_grant_covers_what_is_no_more_than_itself() {
        let grant = |role, agents: &[&str], expires_at| Grant {
            role,
            scope: (!agents.is_empty()).then(|| Scope { agents: agents.iter().map(|one| (*one).to_owned()).collect() }),
            expires_at,
        };
        let all = grant(Role::Admin, &[], None);
        for other in [all.clone(), grant(Role::Admin, &["a"], None), grant(Role::Invoke, &[], Some(9))] {
            assert!(all.covers(&other), "{other:?}");
        }
        let some = grant(Role::Deployer, &["a", "b"], Some(9));
        for (other, covered) in [
            (some.clone(), true),
            (grant(Role::Viewer, &["b"], Some(8)), true),
            (grant(Role::Invoke, &["a"], Some(9)), true),
            (grant(Role::Admin, &["a"], Some(9)), false),
            (grant(Role::Viewer, &["a", "c"], Some(9)), false),
            (grant(Role::Viewer, &[], Some(9)), false),
            (grant(Role::Viewer, &["a"], Some(10)), false),
            (grant(Role::Viewer, &["a"], None), false),
        ] {
            assert_eq!(some.covers(&other), covered, "{other:?}");
        }
        assert!(!grant(Role::Viewer, &[], None).covers(&grant(Role::Invoke, &[], None)));
    }
}
