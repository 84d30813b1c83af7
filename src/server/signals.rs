//! What ends a server from outside.

use crate::base::shutdown::CancellationToken;
use crate::base::telemetry;
use std::io;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long the process waits for its log before it ends at once.
const LOG_PATIENCE: Duration = Duration::from_millis(200);

/// Cancelled by the first SIGTERM or SIGINT from now on. A second one ends the process at once. A closed terminal
/// ends no server.
pub fn stop() -> io::Result<CancellationToken> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut hangup = signal(SignalKind::hangup())?;
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        next(&mut terminate, &mut interrupt, &mut hangup).await;
        told.cancel();
        next(&mut terminate, &mut interrupt, &mut hangup).await;
        telemetry::flush(LOG_PATIENCE);
        std::process::exit(130);
    });
    Ok(stop)
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal, hangup: &mut Signal) {
    loop {
        tokio::select! {
            _ = terminate.recv() => return,
            _ = interrupt.recv() => return,
            _ = hangup.recv() => {}
        }
    }
}
