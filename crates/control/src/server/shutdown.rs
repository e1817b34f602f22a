//! How a server ends: signals, `/quitquitquit`, and the time that `--graceful-shutdown-s` gives to connections.

use super::Server;
use nuncio_core::{clock, log};
use nuncio_engine::ListenerManager;
use nuncio_engine::listener::worker::Which;
use std::cell::RefCell;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that a server listens to.
pub struct Signals(RefCell<Kinds>);

struct Kinds {
    term: Signal,
    interrupt: Signal,
    user1: Signal,
    hangup: Signal,
}

impl Signals {
    /// Takes the signals over.
    ///
    /// # Errors
    /// The system refuses.
    pub fn new() -> std::io::Result<Signals> {
        Ok(Signals(RefCell::new(Kinds {
            term: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            user1: signal(SignalKind::user_defined1())?,
            hangup: signal(SignalKind::hangup())?,
        })))
    }
    /// Resolves when the server is told to end; serves the other signals meanwhile. One caller at a time.
    #[expect(clippy::await_holding_refcell_ref, reason = "there is one caller, and nobody else borrows")]
    pub async fn end(&self, server: &Server) {
        let Ok(mut k) = self.0.try_borrow_mut() else { return std::future::pending().await };
        let k = &mut *k;
        loop {
            tokio::select! {
                _ = k.term.recv() => {
                    log!(Main, Warning, "caught ENVOY_SIGTERM");
                    return;
                }
                _ = k.interrupt.recv() => {
                    log!(Main, Warning, "caught SIGINT");
                    return;
                }
                _ = k.user1.recv() => {
                    log!(Main, Info, "caught SIGUSR1. Reopening access logs.");
                    reopen(server);
                }
                _ = k.hangup.recv() => {
                    log!(Main, Info, "caught SIGHUP. Reloading the configuration.");
                    server.ask_to_reload();
                }
                () = server.asked_to_quit() => return,
            }
        }
    }
}

/// Opens all logs anew.
fn reopen(server: &Server) {
    server.view().reopen_access_logs();
    if let Err(e) = log::reopen() {
        log!(Main, Warning, "cannot open the log anew: {e}");
    }
}

/// How often a server that waits for its connections looks at them.
const POLL: Duration = Duration::from_millis(50);

/// Lets connections finish for the time of `--graceful-shutdown-s`; without it does nothing, as Envoy.
pub async fn graceful(server: &Server, listeners: &ListenerManager) {
    let limit = server.options.graceful_shutdown;
    if limit.is_zero() {
        return;
    }
    log!(Main, Info, "draining for at most {} s", limit.as_secs());
    server.state.draining.store(true, Relaxed);
    server.state.health_check_failed.store(true, Relaxed);
    listeners.stop(Which::All);
    let mut waited = Duration::ZERO;
    while waited < limit && listeners.list().iter().any(|l| l.plan.connections.load(Relaxed) > 0) {
        clock::sleep(clock::TimerKind::Other, POLL).await;
        waited += POLL;
    }
}
