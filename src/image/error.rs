//! Why an image could not be built, and what to do about it.

use crate::api::builds::BuildFault;
use crate::base::disk;
use crate::image::plan::PlanError;
use crate::manifest::lower_bound;
use bollard::Docker;
use bollard::errors::Error as DockerError;
use std::error::Error as _;
use std::path::Path;
use std::time::Duration;

/// How long the engine may take to say where its disk is.
const ASK: Duration = Duration::from_secs(5);

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The base image is neither here nor to be had.
    #[error("the base image {image} cannot be pulled: {message}")]
    BaseImageUnavailable {
        /// Its name.
        image: String,
        /// Where it is pulled from.
        host: String,
        /// What the engine says.
        message: String,
    },
    /// The base image is for another processor.
    #[error("the base image {image} is for {found}, and the image shall be for {wanted}")]
    Platform {
        /// Its name.
        image: String,
        /// What it is for.
        found: String,
        /// What it should be for.
        wanted: String,
    },
    /// The project cannot be made an image of.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The dependencies do not resolve.
    #[error("the dependencies do not resolve:\n{0}")]
    Dependencies(String),
    /// A step failed.
    #[error("the step `{step}` failed: {message}")]
    Step {
        /// What the step does, or its instruction.
        step: String,
        /// What the engine says.
        message: String,
        /// The last lines of its output.
        last_lines: Vec<String>,
    },
    /// The engine failed.
    #[error("{doing}")]
    Engine {
        /// What it was doing.
        doing: &'static str,
        /// What it says.
        source: Box<DockerError>,
    },
    /// The engine's disk is full.
    #[error("Docker Engine's disk has too little room{}", place(root.as_ref(), *free))]
    DiskFull {
        /// Where it keeps images, where it says so.
        root: Option<String>,
        /// Bytes that are free there, where that is on this machine.
        free: Option<u64>,
        /// The failure that it was noticed by.
        source: Box<BuildError>,
    },
    /// It was cancelled.
    #[error("the build was interrupted")]
    Interrupted,
}

impl BuildError {
    pub(crate) fn engine(doing: &'static str, source: DockerError) -> Self {
        Self::Engine { doing, source: Box::new(source) }
    }

    /// The same, or that the engine's disk is full, where that is what it comes from.
    pub(super) async fn on_disk(self, docker: &Docker) -> Self {
        let full = match &self {
            Self::Step { message, last_lines, .. } => {
                disk::says_full(message) || last_lines.iter().any(|line| disk::says_full(line))
            }
            Self::Engine { source, .. } => disk::says_full(&source.to_string()),
            Self::BaseImageUnavailable { message, .. } | Self::Dependencies(message) => disk::says_full(message),
            _ => false,
        };
        if !full {
            return self;
        }
        let info = tokio::time::timeout(ASK, docker.info()).await;
        let root = info.ok().and_then(Result::ok).and_then(|info| info.docker_root_dir);
        let free = root.as_deref().map(Path::new).filter(|root| root.exists()).and_then(disk::free_bytes);
        Self::DiskFull { root, free, source: Box::new(self) }
    }

    /// Whether the engine does not answer any more, rather than with an error.
    pub fn is_engine_gone(&self) -> bool {
        let Self::Engine { source, .. } = self else { return false };
        !matches!(**source, DockerError::DockerResponseServerError { .. } | DockerError::DockerStreamError { .. })
    }

    /// Its name, for programs and other machines.
    fn code(&self) -> &'static str {
        match self {
            Self::Plan(PlanError::JavaScript(_)) => "javascript",
            Self::Plan(_) => "plan",
            Self::Dependencies(_) => "dependencies",
            Self::Interrupted => "interrupted",
            Self::DiskFull { .. } => "disk-full",
            Self::Platform { .. } => "platform",
            Self::BaseImageUnavailable { .. } => "base-image-unavailable",
            Self::Step { .. } => "step",
            Self::Engine { .. } if self.is_engine_gone() => "engine-away",
            Self::Engine { .. } => "engine",
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Engine { .. } if self.is_engine_gone() => {
                Some("see whether Docker Engine runs (`docker version`), then try again: nothing was changed".into())
            }
            Self::BaseImageUnavailable { host, message, .. } => Some(unavailable(host, message)),
            Self::Plan(PlanError::Python { .. }) => {
                Some("give a base image with such a Python: `python_version`, `base_image` or --base-image".into())
            }
            Self::Platform { image, wanted, .. } => Some(format!(
                "get the one that is: `docker pull --platform {wanted} {image}`, or name another with --base-image"
            )),
            Self::Dependencies(conflict) => {
                let ours = format!(" (`{}` is what rapidclaw itself asks for)", lower_bound::requirement());
                let ours = Some(ours).filter(|_| names_our_bound(conflict)).unwrap_or_default();
                Some(format!(
                    "change the versions that the project asks for until they agree{ours}; where a uv.lock is older \
                     than its pyproject.toml, run `uv lock`"
                ))
            }
            Self::Step { message, .. } if message.contains("requires BuildKit") => {
                Some("`dockerfile_lines` may not use what only BuildKit knows (RUN --mount, heredocs)".into())
            }
            Self::Step { last_lines, message, .. } if is_of_another_processor(last_lines, message) => Some(
                "this machine cannot run programs of that processor: build on one that is such, or give the engine \
                 QEMU's handlers (Debian: qemu-user-static and binfmt-support)"
                    .into(),
            ),
            Self::DiskFull { .. } => Some(
                "`docker system df` shows what takes the room; `docker builder prune` and `docker image prune` take away \
                 what nothing uses"
                    .into(),
            ),
            Self::Step { last_lines, .. } if says(last_lines, &["CERTIFICATE_VERIFY_FAILED", "UnknownIssuer"]) => Some(
                "if a proxy that looks into TLS has put a certificate of its own in place: build on a base image whose \
                 /etc/ssl/certs/ca-certificates.crt holds the proxy's authority, and name it with --base-image"
                    .into(),
            ),
            Self::Step { last_lines, .. } if says(last_lines, &["name resolution", "dns error", "Could not resolve"]) => {
                Some(
                    "builds on this engine reach no network; where a proxy is the way out, HTTPS_PROXY and NO_PROXY say so \
                     (one on this machine's loopback is out of a build's reach)"
                        .into(),
                )
            }
            Self::Step { .. } => {
                Some("mend what the step says, then try again; -v shows all that the build prints".into())
            }
            _ => None,
        }
    }
}

/// Whether the lower bound of LangGraph that is ours is part of a conflict.
fn names_our_bound(conflict: &str) -> bool {
    let bound = lower_bound::requirement();
    // Not a longer version that begins with it.
    let is_whole = |rest: &str| !rest.starts_with(|next: char| next == '.' || next.is_ascii_alphanumeric());
    conflict.match_indices(&bound).any(|(at, _)| is_whole(&conflict[at + bound.len()..]))
}

/// What to do where a registry does not give an image.
fn unavailable(host: &str, message: &str) -> String {
    let message = message.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|words| message.contains(words));
    let login = if host == "docker.io" { "docker login".to_owned() } else { format!("docker login {host}") };
    if says(&["toomanyrequests", "rate limit", "429"]) {
        return format!(
            "the registry's limit of pulls is reached: `{login}` raises it, and --base-image or RAPIDCLAW_BASE_IMAGE \
             names an image of another registry"
        );
    }
    if says(&["unauthorized", "denied", "authentication required", "no basic auth", "401", "403"]) {
        return format!(
            "where the name is right the registry wants a login: `{login}`; rapidclaw uses Docker's logins"
        );
    }
    "see whether the name is right; without a registry make one with scripts/base-image.sh and give it with \
     --base-image or RAPIDCLAW_BASE_IMAGE (and without --pull)"
        .to_owned()
}

impl From<&BuildError> for BuildFault {
    fn from(error: &BuildError) -> Self {
        let cause = match error {
            BuildError::DiskFull { source, .. } => source,
            other => other,
        };
        let last_lines = match cause {
            BuildError::Step { last_lines, .. } => last_lines.clone(),
            _ => Vec::new(),
        };
        let mut causes = Vec::new();
        let mut source = error.source();
        while let Some(cause) = source {
            causes.push(cause.to_string());
            source = cause.source();
        }
        let hints = error.hint().into_iter().collect();
        Self { code: error.code().to_owned(), message: error.to_string(), causes, hints, last_lines }
    }
}

fn says(lines: &[String], words: &[&str]) -> bool {
    lines.iter().any(|line| words.iter().any(|words| line.contains(words)))
}

fn place(root: Option<&String>, free: Option<u64>) -> String {
    match (root, free) {
        (Some(root), Some(free)) => format!(": {} free in {root}", disk::size(free)),
        (Some(root), None) => format!(" ({root})"),
        _ => String::new(),
    }
}

/// The kernel's words for a program of another processor (`ENOEXEC`).
fn is_of_another_processor(last_lines: &[String], message: &str) -> bool {
    let words = "exec format error";
    message.contains(words) || last_lines.iter().any(|line| line.to_ascii_lowercase().contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rapidclaw_itself_asks_for_is_named_where_it_is_part_of_a_conflict() {
        let hint = |conflict: &str| BuildError::Dependencies(conflict.to_owned()).hint().unwrap();
        for ours in ["you require a<1 and langgraph>=0.6, we can", "because langgraph>=0.6", "langgraph>=0.6\nare not"]
        {
            assert!(hint(ours).contains("`langgraph>=0.6` is what rapidclaw itself asks for"), "{ours}");
        }
        for other in ["langgraph>=0.6.0,<1", "langgraph>=0.61", "langgraph>=0.6rc1", "langgraph==0.6"] {
            assert!(!hint(other).contains("rapidclaw"), "{other}");
        }
    }
}
