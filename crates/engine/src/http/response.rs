//! What the connection manager does to a response's head on its way out.

use super::request::is_upgrade;
use super::stream::Downstream;
use super::{Hcm, date};
use crate::http::config::ServerHeader;
use nuncio_core::{Exchange, Flag};
use nuncio_wire::{IdSet, ResponseHead, Version, name};

/// What concerns this hop only, of a response that does not upgrade.
const UPGRADE_HOP: IdSet = IdSet::new(&[name::CONNECTION, name::UPGRADE]);
/// What concerns this hop only, of any response.
const HOP: IdSet = IdSet::new(&[name::TRANSFER_ENCODING, name::KEEP_ALIVE, name::PROXY_CONNECTION]);

impl Hcm {
    /// Removes hop-by-hop headers, sets `date`, `server`, `via`, `x-request-id`, and counts the response.
    pub(super) fn finish_response_head(&self, head: &mut ResponseHead, ex: &Exchange, d: &impl Downstream) {
        let (p, h) = (&self.plan, &mut head.headers);
        if !(is_upgrade(&ex.request.headers) && is_upgrade(h)) {
            h.remove_all(&UPGRADE_HOP);
        }
        h.remove_all(&HOP);
        if !h.contains(name::DATE) {
            date::with_date(|d| h.append(name::DATE, d));
        }
        match p.server_header {
            ServerHeader::Overwrite => h.set(name::SERVER, p.server_name.as_bytes()),
            ServerHeader::AppendIfAbsent if !h.contains(name::SERVER) => {
                h.append(name::SERVER, p.server_name.as_bytes());
            }
            _ => {}
        }
        if (p.always_set_request_id_in_response || ex.request.headers.contains(name::X_ENVOY_FORCE_TRACE))
            && let Some(id) = ex.request.headers.get(name::X_REQUEST_ID)
        {
            h.set(name::X_REQUEST_ID, id);
        }
        if !p.via.is_empty() {
            h.append_to(name::VIA, b", ", p.via.as_bytes());
        }
        // Of what the codec refuses, Envoy does not know yet why when the answer begins.
        if let Some(s) = p.proxy_status.as_ref().filter(|_| !ex.request.headers.is_empty()) {
            s.apply(head, ex);
        }
        let server = &p.server;
        let drains = (p.drains_with_health && server.health_check_failed()) || self.drain.ends_connection();
        let overloaded = p.overloadable && server.overload.disable_http_keepalive.happens();
        if (drains || overloaded) && d.start_drain() {
            self.stats.downstream_cx_drain_close().inc();
            if overloaded {
                self.stats.downstream_cx_overload_disable_keepalive().inc();
            }
        }
        if server.draining() {
            // The process ends soon: connections do not wait for `drain_timeout`.
            d.set_close();
        }
        let info = &ex.sx.info;
        // Envoy gives up on a connection whose client sends bad requests.
        if ex.replied == Some(400) && !p.h1_stream_errors && info.protocol.get() < Some(Version::Http2) {
            d.set_close();
        }
        // A body that is too large is answered in its midst, also where the rest of it is at hand.
        let unread = info.times.ds_rx_end.get().is_none();
        if ex.replied == Some(413) && unread && info.protocol.get() < Some(Version::Http2) {
            d.set_close();
        }
        info.response_code.set(head.status);
        if info.times.ds_rx_end.get().is_none() {
            self.stats.downstream_rq_response_before_rq_complete().inc();
        }
        self.answer_tracing(&mut head.headers, ex);
        // Health checks are no traffic (`envoy.filters.http.health_check`).
        if !info.health_check.get() {
            self.count_code(head.status);
        }
        // Those replies have none.
        if info.details.borrow().is_empty()
            && !info.empty_details.get()
            && !info.has_flag(Flag::NoFilterConfigFound)
        {
            info.set_details("via_upstream");
        }
    }

    /// Removes hop-by-hop headers of a 1xx head, and counts it.
    pub(super) fn finish_informational_head(&self, head: &mut ResponseHead) {
        head.headers.remove_all(&UPGRADE_HOP);
        head.headers.remove_all(&HOP);
        self.count_code(head.status);
    }
    /// Counts a response head, informational ones too.
    pub(super) fn count_code(&self, status: u16) {
        let (s, l) = (&self.stats, &self.listener_stats);
        s.downstream_rq_completed().inc();
        l.downstream_rq_completed().inc();
        match status / 100 {
            1 => (s.downstream_rq_1xx().inc(), l.downstream_rq_1xx().inc()),
            2 => (s.downstream_rq_2xx().inc(), l.downstream_rq_2xx().inc()),
            3 => (s.downstream_rq_3xx().inc(), l.downstream_rq_3xx().inc()),
            4 => (s.downstream_rq_4xx().inc(), l.downstream_rq_4xx().inc()),
            5 => (s.downstream_rq_5xx().inc(), l.downstream_rq_5xx().inc()),
            _ => ((), ()),
        };
    }
}
