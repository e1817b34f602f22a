//! The end of an exchange: stats and access log.

use super::Hcm;
use super::stream::RESTARTED;
use nuncio_api::envoy::data::accesslog::v3::AccessLogType;
use nuncio_core::Exchange;
use nuncio_core::clock;
use nuncio_core::format::FormatCx;
use nuncio_core::info::StreamShared;
use nuncio_core::pipeline::Finalizer;
use nuncio_wire::{HeaderMap, RequestHead, ResponseHead};

impl Finalizer for Hcm {
    fn done(&self, ex: &Exchange) {
        self.stats.downstream_rq_active().dec();
        let info = &ex.sx.info;
        let took = clock::now().saturating_duration_since(info.start);
        self.stats.downstream_rq_time().record(took.as_millis() as u64);
        // A stream that ends before both its directions did is reset by the codec, which Envoy counts here.
        let (sent, received) = (info.times.ds_tx_end.get().is_some(), info.times.ds_rx_end.get().is_some());
        if (!sent || !received) && *info.details.borrow() != RESTARTED {
            self.stats.downstream_rq_rx_reset().inc();
        }
        // What a filter's buffer has no room for.
        if *info.details.borrow() == "request_payload_too_large" {
            self.stats.downstream_rq_too_large().inc();
        }
        if info.health_check.get() {
            self.plan.tracing.iter().for_each(|t| t.health_check().inc());
        }
        self.log(ex, AccessLogType::DownstreamEnd);
        self.end_span(ex);
    }
}

impl Hcm {
    /// Writes an entry about an exchange.
    pub(super) fn log(&self, ex: &Exchange, log_type: AccessLogType) {
        let said = Said { response: ex.response.as_ref(), trailers: ex.response_trailers.as_deref() };
        self.log_parts(&ex.sx, &ex.request, said, log_type);
    }
    /// Writes an entry about an exchange that somebody holds parts of.
    pub(super) fn log_parts(
        &self,
        sx: &StreamShared,
        request: &RequestHead,
        said: Said<'_>,
        log_type: AccessLogType,
    ) {
        if self.plan.access_logs.is_empty() {
            return;
        }
        crate::router::note_route_cluster(request, sx);
        let route = sx.current_route();
        // The body of a local reply Envoy has forgotten by now.
        let cx = FormatCx {
            request: Some(&request.headers),
            response: said.response.map(|r| (r.status, &r.headers)),
            trailers: said.trailers,
            route: route.as_deref(),
            log_type,
            ..FormatCx::new(&sx.info, &sx.conn)
        };
        for log in &self.plan.access_logs {
            log.log(&cx);
        }
    }
}

/// What was answered so far.
#[derive(Clone, Copy, Default)]
pub(super) struct Said<'a> {
    pub response: Option<&'a ResponseHead>,
    pub trailers: Option<&'a HeaderMap>,
}
