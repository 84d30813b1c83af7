//! Calls to an engine: bounded in time, their failures in the runtime's words.

use crate::runtime::RuntimeError;
use bollard::errors::Error as DockerError;
use std::time::Duration;

/// How long one call to the engine may take.
pub(super) const CALL: Duration = Duration::from_secs(60);

pub(super) async fn bounded<T>(
    what: &'static str,
    call: impl Future<Output = Result<T, DockerError>>,
) -> Result<T, RuntimeError> {
    match tokio::time::timeout(CALL, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(refused(what, error)),
        Err(elapsed) => Err(RuntimeError::Unreachable(Box::new(elapsed))),
    }
}

pub(super) fn refused(what: &'static str, error: DockerError) -> RuntimeError {
    match error {
        DockerError::DockerResponseServerError { .. } | DockerError::DockerStreamError { .. } => {
            RuntimeError::Refused { what, source: Box::new(error) }
        }
        other => RuntimeError::Unreachable(Box::new(other)),
    }
}

pub(super) fn status_of(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Option<u16> {
    match error.downcast_ref::<DockerError>() {
        Some(DockerError::DockerResponseServerError { status_code, .. }) => Some(*status_code),
        _ => None,
    }
}
