//! The end of an exchange: stats and access log.

use super::Hcm;
use nuncio_api::envoy::data::accesslog::v3::AccessLogType;
use nuncio_core::Exchange;
use nuncio_core::clock;
use nuncio_core::format::FormatCx;
use nuncio_core::pipeline::Finalizer;

impl Finalizer for Hcm {
    fn done(&self, ex: &Exchange) {
        self.stats.downstream_rq_active().dec();
        let info = &ex.sx.info;
        let took = clock::now().saturating_duration_since(info.start);
        self.stats.downstream_rq_time().record(took.as_millis() as u64);
        if info.response_code.get() == 0 {
            self.stats.downstream_rq_rx_reset().inc();
        }
        if info.health_check.get() {
            self.stats.tracing_health_check().inc();
        }
        if self.plan.access_logs.is_empty() {
            return;
        }
        let route = ex.sx.current_route();
        let local_reply_body = info.local_reply_body.borrow();
        let cx = FormatCx {
            request: Some(&ex.request.headers),
            response: ex.response.as_ref().map(|r| (r.status, &r.headers)),
            trailers: None,
            info,
            conn: &ex.sx.conn,
            route: route.as_deref(),
            local_reply_body: &local_reply_body,
            log_type: AccessLogType::DownstreamEnd,
        };
        for log in &self.plan.access_logs {
            log.log(&cx);
        }
    }
}
