//! Exit codes (DESIGN.md 4), and which failure has which.

use crate::api::version;
use crate::base::env;
use crate::base::secret::SecretError;
use crate::client::contexts::ContextsError;
use crate::client::{ClientError, Lost, is_away};
use crate::engine::EngineError;
use crate::manifest::Diagnostic;
use crate::runtime::RuntimeError;
use crate::server::ServerError;
use crate::store::StoreError;
use crate::store::postgres::PostgresError;
use serde_json::{Map, Value, json};
use std::process::ExitCode;

/// Every exit code there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: the operation failed.
    Failed,
    /// 2: wrong usage.
    Usage,
    /// 3: the manifest or the project is invalid, dependencies that do not resolve included.
    Invalid,
    /// 4: not logged in, or not allowed.
    NotAllowed,
    /// 5: the control plane, Docker or Postgres cannot be reached.
    Unreachable,
    /// 6: the rollout failed; what served before still serves.
    RolloutFailed,
    /// 7: timed out; the rollout goes on.
    TimedOut,
    /// 8: `--exit-code`: something would change.
    Changes,
    /// 130: interrupted.
    Interrupted,
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Invalid => 3,
            Self::NotAllowed => 4,
            Self::Unreachable => 5,
            Self::RolloutFailed => 6,
            Self::TimedOut => 7,
            Self::Changes => 8,
            Self::Interrupted => 130,
        }
    }

    /// The kind of failure, for programs.
    pub fn class(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Invalid => "invalid",
            Self::NotAllowed => "not-allowed",
            Self::Unreachable => "unreachable",
            Self::RolloutFailed => "rollout-failed",
            Self::TimedOut => "timed-out",
            Self::Changes => "changes",
            Self::Interrupted => "interrupted",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command failed: what, why, what next.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What, with its causes.
    pub error: anyhow::Error,
    /// What next, a line each.
    pub hints: Vec<String>,
    /// Text to show before the error (diagnostics, a replica's last lines).
    pub evidence: Option<String>,
    /// For programs.
    pub more: Box<More>,
}

/// What programs are told of a failure beside what people are.
#[derive(Debug, Default)]
pub struct More {
    /// Faults of a manifest with their places; the evidence shows them to people.
    pub faults: Vec<Diagnostic>,
    /// Stable, for programs to match on; the class of its exit code where nothing says more.
    pub code: Option<String>,
    /// What programs should know all the same (agent, version, key).
    pub facts: Map<String, Value>,
}

impl Failure {
    /// A failure with its causes.
    pub fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into(), hints: Vec::new(), evidence: None, more: Box::default() }
    }

    /// A failure that is one sentence.
    pub fn said(exit: Exit, text: impl Into<String>) -> Self {
        Self::new(exit, anyhow::Error::msg(text.into()))
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Adds text to show before.
    #[must_use]
    pub fn evidence(mut self, text: impl Into<String>) -> Self {
        self.evidence = Some(text.into());
        self
    }

    /// Names it, for programs.
    #[must_use]
    pub fn code(mut self, code: impl Into<String>) -> Self {
        self.more.code = Some(code.into());
        self
    }

    /// Adds what programs should know all the same.
    #[must_use]
    pub fn fact(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.facts.insert(name.to_owned(), value.into());
        self
    }

    /// As programs read it.
    pub fn to_json(&self) -> Value {
        let mut causes: Vec<String> = self.error.chain().skip(1).map(ToString::to_string).collect();
        causes.dedup();
        let mut fields = json!({
            "exit": self.exit.code(), "class": self.exit.class(),
            "code": self.more.code.as_deref().unwrap_or(self.exit.class()),
            "message": self.error.to_string(), "causes": causes, "hints": self.hints,
        });
        if self.more.faults.is_empty() {
            fields["evidence"] = json!(self.evidence);
        } else {
            fields["faults"] = json!(self.more.faults);
        }
        if let Value::Object(fields) = &mut fields {
            fields.extend(self.more.facts.clone());
        }
        fields
    }

    /// Ctrl-C.
    pub fn interrupted() -> Self {
        Self::said(Exit::Interrupted, "interrupted")
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let (exit, hints) = match &error {
            ClientError::Address(_) => (Exit::Usage, vec!["name it as https://HOST[:PORT]".to_owned()]),
            ClientError::PlainHttp(_) => (Exit::Usage, vec!["use https://".to_owned()]),
            ClientError::Silent { .. } | ClientError::BrokenOff(_) | ClientError::LongLine(_) => {
                (Exit::Unreachable, Vec::new())
            }
            ClientError::Unreachable { server, source } => (Exit::Unreachable, unreachable(server, source)),
            ClientError::CaFile { .. } => {
                (Exit::Usage, vec!["--ca-file wants certificates of authorities in PEM form".to_owned()])
            }
            ClientError::Version { theirs, .. } => {
                let newer = theirs.is_newer_than(version::OURS);
                let where_to = if newer { "here" } else { "on the server's machine, and restart it there" };
                (Exit::Failed, vec![format!("install the newer rapidclaw {where_to}")])
            }
            ClientError::Refused(problem) => {
                let problem = problem.as_ref();
                let mut hints = problem.hints.clone();
                if let Some(id) = problem.request_id.as_ref() {
                    hints.push(format!("request_id {id}"));
                }
                if problem.code == "no-such-route" {
                    hints.push("is the server older than this command line? `rapidclaw whoami` says so".to_owned());
                }
                let exit = match problem.status {
                    _ if is_away(problem) => Exit::Unreachable,
                    401 => {
                        hints.insert(0, "log in again: `rapidclaw login`".to_owned());
                        Exit::NotAllowed
                    }
                    403 => Exit::NotAllowed,
                    _ if matches!(problem.code.as_str(), "manifest-invalid" | "secrets-and-egress") => Exit::Invalid,
                    _ => Exit::Failed,
                };
                (exit, hints)
            }
            ClientError::Request(_) => (Exit::Failed, Vec::new()),
            ClientError::Answer { .. } => {
                (Exit::Failed, vec!["is the server of the same version? `rapidclaw whoami`".to_owned()])
            }
        };
        let code = match &error {
            ClientError::Refused(problem) => Some(problem.code.clone()),
            _ => None,
        };
        let mut failure = Self { hints, ..Self::new(exit, error) };
        failure.more.code = code;
        failure
    }
}

/// Whether the environment names a proxy for TLS.
fn is_behind_proxy() -> bool {
    ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"].iter().any(|name| env::var(name).is_some())
}

/// What to do when no server answers.
fn unreachable(server: &str, error: &Lost) -> Vec<String> {
    use rustls::{CertificateError, Error};
    let authority = "if its certificate is of an authority of your own, or a proxy that looks into TLS has put its \
                     own in place: name that authority's certificate with --ca-file or RAPIDCLAW_CA_FILE";
    let hint = match error.tls_fault() {
        Some(Error::InvalidCertificate(fault)) => match fault {
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "call the server by a name that its certificate holds"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "renew the server's certificate: it reads the new one by itself"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "look at the clocks of both machines"
            }
            _ => authority,
        },
        Some(Error::InvalidMessage(_)) => "it does not speak TLS there: is it the right port, and https?",
        Some(_) => authority,
        None if server.contains("://127.") || server.contains("://localhost") || server.contains("://[::1]") => {
            "`rapidclaw server status` says whether it runs here; `rapidclaw server start` starts it"
        }
        None if is_behind_proxy() => {
            "the way to it goes through the proxy of HTTPS_PROXY or ALL_PROXY: look whether that one answers and lets this \
             through, and whether the server runs; NO_PROXY names hosts that are reached without it"
        }
        None => {
            "look whether it runs there and whether this machine has a way to it; \
                 HTTPS_PROXY and NO_PROXY say whether a proxy is on it"
        }
    };
    vec![hint.to_owned()]
}

impl From<ContextsError> for Failure {
    fn from(error: ContextsError) -> Self {
        let (exit, hint) = match &error {
            ContextsError::Keyring { context, .. } => (
                Exit::NotAllowed,
                format!("unlock the keyring, or log in again: `rapidclaw login --context {context} --store file`"),
            ),
            ContextsError::Unknown(_) => (Exit::Usage, "`rapidclaw context list` lists them".to_owned()),
            ContextsError::File { .. } => (Exit::Failed, "name another folder with RAPIDCLAW_CONFIG_DIR".to_owned()),
            ContextsError::Damaged { .. } => {
                (Exit::Failed, "remove the file and log in again: `rapidclaw login`".to_owned())
            }
        };
        Self::new(exit, error).hint(hint)
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let hint = error.hint();
        Self::new(Exit::Unreachable, error).hint(hint)
    }
}

/// What to do about an engine that runs without root.
pub const ROOTLESS: &str = "a server needs an engine that runs as root: name it with DOCKER_HOST=unix:///var/run/docker.sock, or \
     `docker context use default`; what is built and deployed from here may be built on this one";

/// What to do about a key file that cannot be used.
pub fn key_hint(error: &SecretError) -> Option<&'static str> {
    match error {
        SecretError::KeyLost(_) | SecretError::KeyChanged(_) => Some(
            "restore the key file from your copy of it: without it nobody can open the secrets again; to begin anew, name another --data-dir, or another database",
        ),
        SecretError::KeyFile { .. } => Some(
            "the key file has to be a file of this user that nobody else may read, and no link: `chown` and `chmod 600` make it so",
        ),
        SecretError::KeyFormat(_) => Some("restore the key file from your copy of it"),
        SecretError::Open | SecretError::Random => None,
    }
}

impl From<ServerError> for Failure {
    fn from(error: ServerError) -> Self {
        let (exit, hint) = match &error {
            ServerError::Interrupted => (Exit::Interrupted, None),
            ServerError::Engine(error) => (Exit::Unreachable, Some(error.hint())),
            ServerError::Rootless => (Exit::Unreachable, Some(ROOTLESS.to_owned())),
            ServerError::Postgres(error) => (Exit::Unreachable, error.hint()),
            ServerError::Store(error @ StoreError::Migrate(_)) => (Exit::Failed, error.hint().map(str::to_owned)),
            ServerError::Store(error) => (Exit::Unreachable, error.hint().map(str::to_owned)),
            ServerError::Listen { address, .. } => (
                Exit::Failed,
                Some(format!(
                    "another program has the port; find it with `ss -ltnp`, or choose another than {address}"
                )),
            ),
            ServerError::Locked(_) => (
                Exit::Failed,
                Some("`rapidclaw server status` says which; `rapidclaw server stop` stops it".to_owned()),
            ),
            ServerError::Insecure(_) => (
                Exit::Usage,
                Some("give it a certificate (--tls-cert, --tls-key), put a proxy with TLS before it, or say --insecure where nobody listens in".to_owned()),
            ),
            ServerError::InsecureUrl(_) => {
                (Exit::Usage, Some("use https://, or say --insecure where nobody listens in".to_owned()))
            }
            ServerError::Tls(_) => (
                Exit::Usage,
                Some("--tls-cert wants the certificate and those above it, --tls-key its key without a passphrase, both in PEM form".to_owned()),
            ),
            ServerError::DataDir { .. } => (Exit::Failed, Some("name another with --data-dir".to_owned())),
            ServerError::Secret(error) => (Exit::Failed, key_hint(error).map(str::to_owned)),
            ServerError::Runtime(RuntimeError::Folder { .. }) => {
                (Exit::Failed, Some(format!("name a folder that is this user's alone with {}", env::RUN_DIR)))
            }
            _ => (Exit::Failed, None),
        };
        let failure = Self::new(exit, error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl From<PostgresError> for Failure {
    fn from(error: PostgresError) -> Self {
        Self::from(ServerError::Postgres(error))
    }
}
