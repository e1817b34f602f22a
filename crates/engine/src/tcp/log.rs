//! The access log of a connection as a whole.

use super::config::TcpPlan;
use nuncio_api::envoy::data::accesslog::v3::AccessLogType;
use nuncio_core::access_log::Logger;
use nuncio_core::format::FormatCx;
use nuncio_core::info::ConnInfo;
use std::rc::Rc;
use std::sync::Arc;

/// Writes an entry about a connection, if anything was noted of it.
pub fn write(loggers: &[Logger], conn: &ConnInfo, log_type: AccessLogType) {
    let Some(info) = conn.logged.get().filter(|_| !loggers.is_empty()) else { return };
    let metadata = conn.metadata.borrow();
    if !metadata.0.is_empty() {
        *info.metadata.borrow_mut() = Some(Box::new(metadata.clone()));
    }
    let cx = FormatCx { log_type, ..FormatCx::new(info, conn) };
    loggers.iter().for_each(|l| l.log(&cx));
}

/// The entry at the end of a proxied connection, written when this is dropped: after the listener's, as in Envoy.
pub struct AtEnd {
    plan: Arc<TcpPlan>,
    conn: Rc<ConnInfo>,
}

impl AtEnd {
    /// For this connection.
    pub fn new(plan: Arc<TcpPlan>, conn: Rc<ConnInfo>) -> AtEnd {
        AtEnd { plan, conn }
    }
}

impl Drop for AtEnd {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            write(&self.plan.access_logs, &self.conn, AccessLogType::TcpConnectionEnd);
        }
    }
}
