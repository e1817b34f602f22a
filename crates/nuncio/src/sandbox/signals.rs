//! SIGINT and SIGTERM, which end the sandbox.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Failure;

/// Waits for a signal to stop. From its making on, the signals no longer end the process at once.
pub(super) struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    /// # Errors
    /// When the handlers cannot be installed.
    pub(super) fn new() -> Result<Stop, Failure> {
        let install = |kind| signal(kind).map_err(|e| format!("cannot handle signals: {e}"));
        Ok(Stop {
            interrupt: install(SignalKind::interrupt())?,
            terminate: install(SignalKind::terminate())?,
        })
    }

    /// Returns when one of the signals came.
    pub(super) async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
