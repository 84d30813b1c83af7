//! The table of routes: what a request and its answer hold, which permission the request needs, and what it is
//! about. The server's routers, the client's requests, `/openapi.json` and the test of permissions come from it.
//!
//! A route is a type that implements [`Route`], and the server mounts nothing else (`server/routes.rs`): one without
//! a permission does not compile.

use super::access::Permission;
use super::builds::{BuildCheck, BuildEvent, BuildRequest};
use super::chat::{ChatRequest, ChatResponse};
use super::control::{
    AgentStatus, DeployPlan, DeployRequest, DeployResponse, Health, KeyCreated, KeyRequest, KeyView, RollbackRequest,
    RollbackResponse, RolloutView, ScaleRequest, ScaleResponse, SecretView, SecretsRequest, SecretsResponse,
    ServerHealth, Whoami,
};
use super::history::{
    ListQuery, ReleaseView, RolloutSummary, RunDetail, RunView, RunsQuery, ThreadDetail, ThreadView, WatchQuery,
};
use super::images::{LayersAnswer, LayersRequest};
use super::logs::{LogLine, LogQuery};
use super::payload::{Archive, Content, Described, Empty, Json, Lines, NoQuery, PathValues, Reply};
use super::tokens::{TokenCreated, TokenRequest, TokenView};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

/// A method of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "their names say it")]
pub enum Method {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

impl Method {
    /// As requests have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// What a route is about: the first value of its path names it. A token that is limited to some agents reaches no
/// other's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// The server, or what the token sees of it: the handler leaves out the rest.
    Server,
    /// The agent of that name.
    Agent,
    /// The agent of the rollout with that id.
    Rollout,
    /// The agent of the run with that id.
    Run,
}

/// A row of the table.
pub trait Route: Send + Sync + 'static {
    /// Its method.
    const METHOD: Method;
    /// Its path, with the names of its values in braces.
    const PATH: &'static str;
    /// What it needs of who calls.
    const PERMISSION: Permission;
    /// What it is about.
    const SUBJECT: Subject;
    /// What it does, in a line.
    const SUMMARY: &'static str;
    /// The values of the path.
    type Path: PathValues;
    /// The query.
    type Query: Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static;
    /// The body of the request.
    type Request: Described;
    /// The body of the answer.
    type Response: Described;
}

/// A row of the table, without its types.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The name of its type.
    pub name: &'static str,
    /// [`Route::METHOD`].
    pub method: Method,
    /// [`Route::PATH`].
    pub path: &'static str,
    /// [`Route::PERMISSION`].
    pub permission: Permission,
    /// [`Route::SUBJECT`].
    pub subject: Subject,
    /// [`Route::SUMMARY`].
    pub summary: &'static str,
    /// The schema of its query.
    pub query: fn(&mut SchemaGenerator) -> Schema,
    /// The body of its request.
    pub request: fn(&mut SchemaGenerator) -> Option<Content>,
    /// The body of its answer.
    pub response: fn(&mut SchemaGenerator) -> Option<Content>,
}

impl Entry {
    fn of<R: Route>(name: &'static str) -> Self {
        Self {
            name,
            method: R::METHOD,
            path: R::PATH,
            permission: R::PERMISSION,
            subject: R::SUBJECT,
            summary: R::SUMMARY,
            query: R::Query::json_schema,
            request: R::Request::content,
            response: R::Response::content,
        }
    }
}

macro_rules! routes {
    ($($name:ident: $method:ident $path:literal ($values:ty, $query:ty, $request:ty) -> $response:ty;
       $permission:ident on $subject:ident; $summary:literal.)+) => {
        $(
            #[doc = $summary]
            #[derive(Debug, Clone, Copy)]
            pub struct $name;

            impl Route for $name {
                const METHOD: Method = Method::$method;
                const PATH: &'static str = $path;
                const PERMISSION: Permission = Permission::$permission;
                const SUBJECT: Subject = Subject::$subject;
                const SUMMARY: &'static str = $summary;
                type Path = $values;
                type Query = $query;
                type Request = $request;
                type Response = $response;
            }
        )+

        /// All rows, in the order in which they are written.
        pub fn table() -> Vec<Entry> {
            vec![$(Entry::of::<$name>(stringify!($name))),+]
        }
    };
}

// NAME: METHOD PATH (values of the path, query, body) -> answer; permission on subject; what it does.
routes! {
    GetHealth: Get "/healthz" ((), NoQuery, Empty) -> Json<Health>;
        Public on Server; "Say that the server answers".
    GetOpenApi: Get "/openapi.json" ((), NoQuery, Empty) -> Json<Value>;
        Token on Server; "Describe all routes (this document)".
    GetWhoami: Get "/v1/whoami" ((), NoQuery, Empty) -> Json<Whoami>;
        Token on Server; "Show the token's role and scope, and the server".
    GetServerHealth: Get "/v1/server/health" ((), NoQuery, Empty) -> Json<ServerHealth>;
        Token on Server; "Show what fails in the server itself".

    ListAgents: Get "/v1/agents" ((), NoQuery, Empty) -> Json<Vec<AgentStatus>>;
        View on Server; "List agents".
    GetAgent: Get "/v1/agents/{name}" (String, NoQuery, Empty) -> Json<Vec<AgentStatus>>;
        View on Agent; "Show an agent, as a list of one".
    DestroyAgent: Delete "/v1/agents/{name}" (String, NoQuery, Empty) -> Empty;
        Admin on Agent; "Remove an agent with its releases, keys, secrets and threads".
    DeployAgent: Post "/v1/agents/{name}/deploys" (String, NoQuery, Json<DeployRequest>) -> Json<DeployResponse>;
        Deploy on Agent; "Begin a rollout of a new release".
    PlanDeploy: Post "/v1/agents/{name}/deploys/plan" (String, NoQuery, Json<DeployRequest>) -> Json<DeployPlan>;
        Deploy on Agent; "Show what a deploy would change".
    RollBack: Post "/v1/agents/{name}/rollbacks" (String, NoQuery, Json<RollbackRequest>) -> Json<RollbackResponse>;
        Deploy on Agent; "Begin a rollout of a release of before".
    Scale: Put "/v1/agents/{name}/scale" (String, NoQuery, Json<ScaleRequest>) -> Json<ScaleResponse>;
        Admin on Agent; "Set the number of replicas".
    GetLogs: Get "/v1/agents/{name}/logs" (String, LogQuery, Empty) -> Lines<LogLine>;
        View on Agent; "Stream what replicas wrote".
    InvokeAgent: Post "/v1/agents/{name}/api/v1/chat" (String, NoQuery, Json<ChatRequest>) -> Reply<ChatResponse>;
        Invoke on Agent; "Take a turn of a conversation, with a token in place of the agent's key".

    ListKeys: Get "/v1/agents/{name}/keys" (String, NoQuery, Empty) -> Json<Vec<KeyView>>;
        View on Agent; "List an agent's keys, without their values".
    CreateKey: Post "/v1/agents/{name}/keys" (String, NoQuery, Json<KeyRequest>) -> Json<KeyCreated>;
        Admin on Agent; "Create a key".
    RevokeKey: Delete "/v1/agents/{name}/keys/{id}" ((String, Uuid), NoQuery, Empty) -> Empty;
        Admin on Agent; "Revoke a key".
    ListSecrets: Get "/v1/agents/{name}/secrets" (String, NoQuery, Empty) -> Json<Vec<SecretView>>;
        View on Agent; "List an agent's secrets, without their values".
    ChangeSecrets: Patch "/v1/agents/{name}/secrets" (String, NoQuery, Json<SecretsRequest>) -> Json<SecretsResponse>;
        Admin on Agent; "Set and remove secrets".

    FindLayers: Post "/v1/agents/{name}/image" (String, NoQuery, Json<LayersRequest>) -> Json<LayersAnswer>;
        Deploy on Agent; "Show which layers of an image the registry has".
    CheckBuild: Post "/v1/agents/{name}/build/check" (String, NoQuery, Json<BuildRequest>) -> Json<BuildCheck>;
        Deploy on Agent; "Show whether the server has the image of a build".
    BuildImage: Post "/v1/agents/{name}/build" (String, NoQuery, Archive) -> Lines<BuildEvent>;
        Deploy on Agent; "Build an image, and stream what happens".

    ListReleases: Get "/v1/agents/{name}/releases" (String, ListQuery, Empty) -> Json<Vec<ReleaseView>>;
        View on Agent; "List releases".
    ListRollouts: Get "/v1/agents/{name}/rollouts" (String, ListQuery, Empty) -> Json<Vec<RolloutSummary>>;
        View on Agent; "List rollouts".
    GetRollout: Get "/v1/rollouts/{id}" (Uuid, WatchQuery, Empty) -> Json<RolloutView>;
        View on Rollout; "Show a rollout, or wait for its news".
    CancelRollout: Post "/v1/rollouts/{id}/cancel" (Uuid, NoQuery, Empty) -> Empty;
        Deploy on Rollout; "Cancel a rollout".
    ListRuns: Get "/v1/agents/{name}/runs" (String, RunsQuery, Empty) -> Json<Vec<RunView>>;
        View on Agent; "List runs".
    GetRun: Get "/v1/runs/{id}" (Uuid, NoQuery, Empty) -> Json<RunDetail>;
        View on Run; "Show a run".
    ListThreads: Get "/v1/agents/{name}/threads" (String, ListQuery, Empty) -> Json<Vec<ThreadView>>;
        View on Agent; "List threads".
    GetThread: Get "/v1/agents/{name}/threads/{thread}" ((String, String), NoQuery, Empty) -> Json<ThreadDetail>;
        View on Agent; "Show a thread".

    ListTokens: Get "/v1/tokens" ((), NoQuery, Empty) -> Json<Vec<TokenView>>;
        Admin on Server; "List tokens, without their values".
    CreateToken: Post "/v1/tokens" ((), NoQuery, Json<TokenRequest>) -> Json<TokenCreated>;
        Admin on Server; "Create a token".
    RevokeToken: Delete "/v1/tokens/{id}" (Uuid, NoQuery, Empty) -> Empty;
        Admin on Server; "Revoke a token".

    GetAgentHealth: Get "/agents/{name}/healthz" (String, NoQuery, Empty) -> Reply<Health>;
        Public on Agent; "Say whether an agent takes runs (503: it does not)".
    Chat: Post "/agents/{name}/v1/chat" (String, NoQuery, Json<ChatRequest>) -> Reply<ChatResponse>;
        AgentKey on Agent; "Take a turn of a conversation".
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_row_is_one_of_a_kind_and_names_its_subject_in_its_path() {
        let mut seen = HashSet::new();
        for entry in table() {
            let (path, name) = (entry.path, entry.name);
            assert!(seen.insert((entry.method.as_str(), path)), "{name} is twice");
            let named = match entry.subject {
                Subject::Agent => path.starts_with("/v1/agents/{name}") || path.starts_with("/agents/{name}"),
                Subject::Rollout => path.starts_with("/v1/rollouts/{id}"),
                Subject::Run => path.starts_with("/v1/runs/{id}"),
                // Nothing of one agent is reached past its name.
                Subject::Server => !path.contains("{name}") && !path.contains("/rollouts") && !path.contains("/runs"),
            };
            assert!(named, "{name}: {path} is not about {:?}", entry.subject);
            // Who may only look changes nothing.
            let looks = matches!(entry.permission, Permission::Public | Permission::Token | Permission::View);
            assert!(!looks || entry.method == Method::Get, "{name} changes something by {:?}", entry.permission);
            // What needs no token says nothing but that something lives.
            assert_eq!(entry.permission == Permission::Public, path.ends_with("/healthz"), "{name}");
            assert_eq!(entry.permission == Permission::AgentKey, path.starts_with("/agents/") && !path.ends_with('z'));
        }
    }
}
