//! What the connection manager does to a request's head before any filter sees it: counts it, refuses what it must,
//! and sets the headers that say where the request came from.

use super::Hcm;
use super::origin::Detected;
use nuncio_core::address::{Address, IpText};
use nuncio_core::info::StreamShared;
use nuncio_core::tracing::Reason;
use nuncio_core::{LocalReply, rng};
use nuncio_wire::{HeaderMap, IdSet, RequestHead, name};
use std::net::IpAddr;

/// What concerns this hop only, of a request that does not upgrade.
const UPGRADE_HOP: IdSet = IdSet::new(&[name::CONNECTION, name::UPGRADE]);
/// What concerns this hop only, of any request; `x-envoy-internal` is ours to say.
const HOP: IdSet =
    IdSet::new(&[name::X_ENVOY_INTERNAL, name::KEEP_ALIVE, name::PROXY_CONNECTION, name::TRANSFER_ENCODING]);
/// Headers that only a trusted, internal caller may set.
const INTERNAL_ONLY: IdSet = IdSet::new(&[
    name::X_ENVOY_RETRIABLE_STATUS_CODES,
    name::X_ENVOY_RETRIABLE_HEADER_NAMES,
    name::X_ENVOY_RETRY_ON,
    name::X_ENVOY_RETRY_GRPC_ON,
    name::X_ENVOY_MAX_RETRIES,
    name::X_ENVOY_UPSTREAM_ALT_STAT_NAME,
    name::X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS,
    name::X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS,
    name::X_ENVOY_UPSTREAM_RQ_TIMEOUT_ALT_RESPONSE,
    name::X_ENVOY_EXPECTED_RQ_TIMEOUT_MS,
    name::X_ENVOY_FORCE_TRACE,
    name::X_ENVOY_IP_TAGS,
    name::X_ENVOY_ORIGINAL_URL,
    name::X_ENVOY_HEDGE_ON_PER_TRY_TIMEOUT,
]);
/// Headers that nobody outside the mesh's edge may set.
const EDGE_ONLY: IdSet = IdSet::new(&[
    name::X_ENVOY_DECORATOR_OPERATION,
    name::X_ENVOY_DOWNSTREAM_SERVICE_CLUSTER,
    name::X_ENVOY_DOWNSTREAM_SERVICE_NODE,
    name::X_ENVOY_ORIGINAL_PATH,
    name::X_ENVOY_ORIGINAL_HOST,
]);

impl Hcm {
    /// A request was begun: counts it.
    pub(super) fn count_request_begun(&self) {
        self.stats.downstream_rq_total().inc();
        self.stats.downstream_rq_active().inc();
    }

    /// Prepares a request's head; a reply means that it must not be served.
    pub(super) fn begin_request(&self, head: &mut RequestHead, sx: &StreamShared) -> Option<Box<LocalReply>> {
        self.count_request_begun();
        if self.plan.overloadable && self.plan.server.overload.refuses_request() {
            return Some(Box::new(self.overloaded()));
        }
        let refuse = |status, details: &'static str| Some(Box::new(LocalReply::new(status, "", details)));
        if !head.headers.contains(name::AUTHORITY) {
            return refuse(400, "missing_host_header");
        }
        if head.method() == b"QUERY" && head.headers.get(name::CONTENT_TYPE).is_none_or(<[u8]>::is_empty) {
            return refuse(400, "query_missing_content_type");
        }
        let connect = head.is_connect();
        if !connect || head.headers.contains(name::PATH) {
            match head.path().first() {
                None => return refuse(404, "missing_path_rejected"),
                Some(b'/') => {}
                Some(_) => {
                    self.stats.downstream_rq_non_relative_path().inc();
                    return refuse(404, "absolute_path_rejected");
                }
            }
            if !self.plan.path.fragment(head) {
                self.stats.downstream_rq_failed_path_normalization().inc();
                return refuse(400, "path_normalization_failed");
            }
        }
        if let Some(reply) = self.plan.path.apply(head, || sx.conn.local.borrow().port()) {
            if reply.status < 400 {
                self.stats.downstream_rq_redirected_with_normalized_path().inc();
            } else {
                self.stats.downstream_rq_failed_path_normalization().inc();
            }
            return Some(Box::new(reply));
        }
        self.mutate(&mut head.headers, sx)
    }

    /// The answer to a request when there are too many: nothing is spent on it.
    #[cold]
    fn overloaded(&self) -> LocalReply {
        self.stats.downstream_rq_overload_close().inc();
        let mut reply = LocalReply::new(503, "envoy overloaded", "overload");
        reply.unfiltered = true;
        match self.plan.append_local_overload {
            true => reply.header(name::X_ENVOY_LOCAL_OVERLOADED, b"true"),
            false => reply,
        }
    }

    /// Envoy's `mutateRequestHeaders`, in its order, because the order of headers shows.
    fn mutate(&self, h: &mut HeaderMap, sx: &StreamShared) -> Option<Box<LocalReply>> {
        let (p, conn) = (&self.plan, &sx.conn);
        let by_port = p.origin.as_ref().and_then(|o| o.protocol(conn));
        let encrypted = by_port.map_or(conn.tls.get().is_some(), |p| p == "https");
        for m in &p.early_mutations {
            m.mutate(h, sx);
        }
        if !is_upgrade(h) {
            h.remove_all(&UPGRADE_HOP);
            sanitize_te(h);
        }
        h.remove_all(&HOP);
        sanitize_referer(h);

        let had_xff = h.contains(name::X_FORWARDED_FOR);
        let peer = conn.remote.borrow().clone();
        let (mut trusted, mut checked) = (None, false);
        if p.use_remote_address {
            checked = !had_xff;
            if p.xff_num_trusted_hops > 0 {
                trusted = nth_last_xff(h, p.xff_num_trusted_hops as usize - 1).map(|x| x.0);
            }
            let ip = trusted.or_else(|| peer.ip());
            if !p.skip_xff_append {
                self.append_xff(h, &peer);
            }
            if p.xff_num_trusted_hops == 0 || !h.contains(name::X_FORWARDED_PROTO) {
                h.set(name::X_FORWARDED_PROTO, scheme_bytes(encrypted));
            }
            if self.appends_port() && (p.xff_num_trusted_hops == 0 || !h.contains(name::X_FORWARDED_PORT)) {
                set_port(h, sx);
            }
            trusted = ip;
        } else if let Some(o) = p.origin.as_ref().filter(|o| o.detects()) {
            match o.detect(h, peer.ip(), |h| self.append_xff(h, &peer)) {
                Detected::Address(ip, single) => (trusted, checked) = (Some(ip), single),
                Detected::Unknown => {}
                Detected::Rejected(status) => {
                    self.stats.downstream_rq_rejected_via_ip_detection().inc();
                    let reply = LocalReply::new(status, "", "rejecting_because_detection_failed");
                    return Some(Box::new(reply));
                }
            }
        } else if let Some((ip, single)) = nth_last_xff(h, p.xff_num_trusted_hops as usize) {
            // Without `use_remote_address` the default detection reads x-forwarded-for and appends nothing.
            (trusted, checked) = (Some(ip), single && p.xff_num_trusted_hops == 0);
        }
        if !h.contains(name::X_FORWARDED_PROTO) {
            h.append(name::X_FORWARDED_PROTO, scheme_bytes(encrypted));
        }
        if self.appends_port() && !h.contains(name::X_FORWARDED_PORT) {
            set_port(h, sx);
        }
        if let Some(scheme) = p.origin.as_ref().and_then(|o| o.scheme) {
            h.set(name::SCHEME, scheme.as_bytes());
            h.set(name::X_FORWARDED_PROTO, scheme.as_bytes());
        }
        set_scheme(h, encrypted);
        if let Some(o) = &p.origin {
            sx.info.scheme_of_upstream.set(o.scheme_of_upstream && o.scheme.is_none());
            // What a PROXY header said is known all the same.
            let direct = peer == conn.direct_remote && *conn.local.borrow() == conn.direct_local;
            sx.info.hides_addresses.set(o.hides_addresses && direct);
        }

        let internal = checked && trusted.is_some_and(|ip| p.internal_addresses.contains(ip));
        let edge = !internal && p.use_remote_address;
        if let Some(ip) = trusted {
            // What logs call the client's address.
            if Some(ip) != peer.ip() || !p.use_remote_address {
                *sx.info.remote.borrow_mut() = Some(Address::Ip(std::net::SocketAddr::new(ip, 0)));
            }
        }
        if internal {
            h.set(name::X_ENVOY_INTERNAL, b"true");
        } else {
            if edge {
                h.remove_all(&EDGE_ONLY);
            }
            h.remove_all(&INTERNAL_ONLY);
        }
        if let Some(agent) = &p.user_agent {
            h.set(name::X_ENVOY_DOWNSTREAM_SERVICE_CLUSTER, agent.as_bytes());
            if h.get(name::USER_AGENT).is_none_or(<[u8]>::is_empty) {
                h.set(name::USER_AGENT, agent.as_bytes());
            }
            if !p.node.id.is_empty() {
                h.set(name::X_ENVOY_DOWNSTREAM_SERVICE_NODE, p.node.id.as_bytes());
            }
        }
        if !p.via.is_empty() {
            h.append_to(name::VIA, b", ", p.via.as_bytes());
        }
        if edge && let Some(ip) = trusted {
            h.set(name::X_ENVOY_EXTERNAL_ADDRESS, &IpText::of(ip));
        }
        if p.generate_request_id {
            if h.get(name::X_REQUEST_ID).is_none_or(<[u8]>::is_empty)
                || (edge && !p.preserve_external_request_id)
            {
                h.set(name::X_REQUEST_ID, &rng::uuid4());
            } else if edge && p.pack_trace_reason {
                Reason::NotTraceable.pack(h); // a stranger's id does not say that its request is traced
            }
        }
        p.forwarded_cert.apply(h, conn.tls.get().map(|t| &**t));
        None
    }
    fn appends_port(&self) -> bool {
        self.plan.origin.as_ref().is_some_and(|o| o.append_port)
    }

    /// A loopback peer says nothing: Envoy appends its own address instead.
    fn append_xff(&self, h: &mut HeaderMap, peer: &Address) {
        let Some(ip) = peer.ip() else { return };
        let shown = if ip.is_loopback() { self.plan.local_address } else { ip };
        h.append_to(name::X_FORWARDED_FOR, b",", &IpText::of(shown));
    }
}

/// `x-forwarded-port`: the port that was connected to.
fn set_port(h: &mut HeaderMap, sx: &StreamShared) {
    if let Some(port) = sx.conn.local.borrow().port() {
        h.set(name::X_FORWARDED_PORT, itoa::Buffer::new().format(port).as_bytes());
    }
}

/// True for a request (or response) that upgrades: `connection: upgrade` with an `upgrade` header.
pub fn is_upgrade(h: &HeaderMap) -> bool {
    h.contains(name::UPGRADE)
        && h.get_all(name::CONNECTION)
            .flat_map(|v| v.split(|b| *b == b','))
            .any(|t| t.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
}

fn scheme_bytes(encrypted: bool) -> &'static [u8] {
    if encrypted { b"https" } else { b"http" }
}

/// `:scheme` follows x-forwarded-proto when that is http or https, else the connection.
fn set_scheme(h: &mut HeaderMap, encrypted: bool) {
    match h.get(name::SCHEME) {
        None => {
            let s = match h.get(name::X_FORWARDED_PROTO) {
                Some(b"http") => b"http",
                Some(b"https") => &b"https"[..],
                _ => scheme_bytes(encrypted),
            };
            h.append(name::SCHEME, s);
        }
        Some(s) if s.iter().any(u8::is_ascii_uppercase) => {
            let lower = s.to_ascii_lowercase();
            h.set(name::SCHEME, &lower);
        }
        Some(_) => {}
    }
}

/// Of `te` only `trailers` is passed on (RFC 9110 §10.1.4).
fn sanitize_te(h: &mut HeaderMap) {
    match h.joined(name::TE).map(|te| te.split(|b| *b == b',').any(|t| t.trim_ascii() == b"trailers")) {
        Some(true) => h.set(name::TE, b"trailers"),
        Some(false) => drop(h.remove(name::TE)),
        None => {}
    }
}

/// A referer that is repeated, or is neither an http(s) URL nor a relative reference (RFC 3986 §4.2), is dropped.
fn sanitize_referer(h: &mut HeaderMap) {
    let Some(first) = h.get(name::REFERER) else { return };
    let url = first.strip_prefix(b"http://").or_else(|| first.strip_prefix(b"https://"));
    let absolute = url.is_some_and(|r| !r.is_empty() && r[0] != b'/') && !first.contains(&b'#');
    // A colon in the first segment of a path would make a scheme of it.
    let segment = first.split(|b| *b == b'/').next().unwrap_or_default();
    let allowed = |b: &u8| b.is_ascii_alphanumeric() || b"!$%&'()*+,-./:;=?@_~".contains(b);
    let relative = !segment.contains(&b':') && first.iter().all(allowed);
    if !(absolute || relative) || h.get_all(name::REFERER).count() > 1 {
        h.remove(name::REFERER);
    }
}

/// The address `skip` places before the last of x-forwarded-for, and whether it is the only one.
pub(super) fn nth_last_xff(h: &HeaderMap, skip: usize) -> Option<(IpAddr, bool)> {
    let all = h.joined(name::X_FORWARDED_FOR)?;
    let mut parts = all.rsplit(|b| *b == b',');
    let part = parts.nth(skip)?;
    let text = std::str::from_utf8(part.trim_ascii()).ok()?;
    let ip = text.parse().ok().or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|a| a.ip()))?;
    Some((ip, !all.contains(&b',')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_from_xff() {
        let h: HeaderMap = [("x-forwarded-for", "1.1.1.1, 2.2.2.2,3.3.3.3")].into_iter().collect();
        assert_eq!(nth_last_xff(&h, 0), Some(("3.3.3.3".parse().expect("an address"), false)));
        assert_eq!(nth_last_xff(&h, 2), Some(("1.1.1.1".parse().expect("an address"), false)));
        assert_eq!(nth_last_xff(&h, 3), None);
    }

    #[test]
    fn te_keeps_only_trailers() {
        for (value, kept) in
            [("trailers", Some("trailers")), ("gzip, trailers", Some("trailers")), ("gzip", None)]
        {
            let mut h: HeaderMap = [("te", value)].into_iter().collect();
            sanitize_te(&mut h);
            assert_eq!(h.get_str(name::TE), kept, "{value}");
        }
    }

    #[test]
    fn upgrades() {
        let h: HeaderMap =
            [("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")].into_iter().collect();
        assert!(is_upgrade(&h));
        let h: HeaderMap = [("connection", "close"), ("upgrade", "websocket")].into_iter().collect();
        assert!(!is_upgrade(&h));
    }
}
