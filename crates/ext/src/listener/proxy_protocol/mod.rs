use nuncio_api::envoy::extensions::filters::listener::proxy_protocol::v3 as pb;
use nuncio_core::address::Address;
use nuncio_core::coverage::Covered;
use nuncio_core::filter::BuildCx;
use nuncio_core::listener_filter::{Inspection, ListenerFilter, Verdict};
use nuncio_core::registry::Docs;
use nuncio_core::{BuildResult, Registry, stats};
use parse::{Header, Parsed, Version};
use prost_types::{Struct, Value, value::Kind};

mod parse;
#[cfg(test)]
mod tests;

/// Its well-known name.
pub const NAME: &str = "envoy.filters.listener.proxy_protocol";

/// What is read of its configuration.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
        &["rules", "allow_requests_without_proxy_protocol", "disallowed_versions", "stat_prefix"],
    ),
    Covered::new(
        "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol.Rule",
        &["tlv_type", "on_tlv_present"],
    ),
    Covered::new(
        "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol.KeyValuePair",
        &["metadata_namespace", "key"],
    ),
];

/// Registers the filter.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.listener_filter::<ProxyProtocol>(NAME, docs);
}

stats! {
    /// Of all listeners together.
    pub struct LegacyStats {
        downstream_cx_proxy_proto_error: Counter,
    }
    /// `proxy_proto.[<stat_prefix>.]`
    pub struct GeneralStats {
        not_found_allowed: Counter,
        not_found_disallowed: Counter,
    }
    /// `proxy_proto.[<stat_prefix>.]versions.<version>.`
    pub struct VersionStats {
        found: Counter,
        disallowed: Counter,
        error: Counter,
    }
}

/// The filter.
pub struct ProxyProtocol {
    rules: Vec<Rule>,
    optional: bool,
    /// Versions 1 and 2 may come.
    allowed: [bool; 2],
    legacy: LegacyStats,
    general: GeneralStats,
    versions: [VersionStats; 2],
}

/// What of a header is kept as metadata.
struct Rule {
    tlv: u8,
    namespace: String,
    key: String,
}

impl ListenerFilter for ProxyProtocol {
    type Config = pb::ProxyProtocol;
    type State = ();

    fn new(config: pb::ProxyProtocol, cx: &BuildCx<'_>) -> BuildResult<ProxyProtocol> {
        let allowed = [0, 1].map(|v| !config.disallowed_versions.contains(&v));
        if allowed == [false; 2] {
            return Err(
                "Proxy Protocol filter is misconfigured: all proxy protocol versions are disallowed.".into(),
            );
        }
        let root = cx.scope.store().root();
        let mut scope = root.scope("proxy_proto");
        if !config.stat_prefix.is_empty() {
            scope = scope.scope(&config.stat_prefix);
        }
        let versions = scope.scope("versions");
        let rule = |r: pb::proxy_protocol::Rule| {
            let on = r.on_tlv_present.unwrap_or_default();
            let namespace =
                if on.metadata_namespace.is_empty() { NAME.into() } else { on.metadata_namespace };
            Rule { tlv: r.tlv_type as u8, namespace, key: on.key }
        };
        Ok(ProxyProtocol {
            rules: config.rules.into_iter().map(rule).collect(),
            optional: config.allow_requests_without_proxy_protocol,
            allowed,
            legacy: LegacyStats::new(&root),
            general: GeneralStats::new(&scope),
            versions: ["v1", "v2"].map(|v| VersionStats::new(&versions.scope(v))),
        })
    }
    fn on_data(&self, _: &mut (), data: &[u8], at: &mut Inspection<'_>) -> Verdict {
        if self.optional && !parse::may_begin(data, self.allowed) {
            self.general.not_found_allowed().inc();
            return Verdict::Next(0);
        }
        match parse::parse(data, self.allowed) {
            Parsed::Partial => Verdict::More,
            Parsed::Disallowed(v) => {
                self.of(v).found().inc();
                self.of(v).disallowed().inc();
                Verdict::Close
            }
            Parsed::Malformed(v) => {
                match v {
                    Some(v) => self.of(v).error().inc(),
                    None => self.general.not_found_disallowed().inc(),
                }
                self.legacy.downstream_cx_proxy_proto_error().inc();
                Verdict::Close
            }
            Parsed::Header(v, header) => {
                self.of(v).found().inc();
                self.take(&header, data, at);
                Verdict::Next(header.len)
            }
        }
    }
    fn max_bytes(&self) -> usize {
        parse::MAX
    }
}

impl ProxyProtocol {
    fn of(&self, v: Version) -> &VersionStats {
        &self.versions[v as usize]
    }
    fn take(&self, header: &Header, data: &[u8], at: &mut Inspection<'_>) {
        for (tlv, value) in header.tlvs(data) {
            let Some(rule) = self.rules.iter().rev().find(|r| r.tlv == tlv) else { continue };
            let value = Value { kind: Some(Kind::StringValue(text(value))) };
            let fields = [(rule.key.clone(), value)].into();
            at.conn.metadata.borrow_mut().merge(&rule.namespace, Struct { fields });
        }
        if let Some((from, to)) = header.addresses {
            *at.conn.remote.borrow_mut() = Address::Ip(from);
            *at.conn.local.borrow_mut() = Address::Ip(to);
        }
    }
}

/// Text with `!` for what is no UTF-8.
fn text(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        out.extend(chunk.invalid().iter().map(|_| '!'));
    }
    out
}
