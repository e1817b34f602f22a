//! Envoy's default tags (the documented list of `envoy.*` tag names, Envoy 1.40).
//!
//! Most are plain patterns of segments. The others read a name's end, addresses with dots in them, or names that may
//! themselves contain dots. They are listed in Envoy's order, most specific first, patterns last.

use std::ops::Range;

use super::tokens::Pattern;
use super::{Finder, Found, Name};

type Find = fn(&Name<'_>) -> Option<Found>;

/// Name, first segment it needs (or none), extractor.
const SPECIAL: [(&str, &str, Find); 22] = [
    ("envoy.response_code", "", response_code),
    ("envoy.response_code_class", "", response_code_class),
    ("envoy.dynamo_partition_id", "http", dynamo_partition),
    ("envoy.dynamo_operation", "http", dynamo_operation),
    ("envoy.dynamo_table", "http", dynamo_table),
    ("envoy.ssl_cipher", "listener", |n| last_of(n, &["listener."], ".ssl.ciphers", is_cipher)),
    ("envoy.ssl_curve", "", |n| last_of(n, LISTENER_OR_CLUSTER, ".ssl.curves", is_cipher)),
    ("envoy.ssl_sigalg", "", |n| last_of(n, LISTENER_OR_CLUSTER, ".ssl.sigalgs", is_cipher)),
    ("envoy.ssl_version", "", tls_version),
    ("cipher_suite", "cluster", cipher_suite),
    ("envoy.health_check_name", "cluster", health_check_name),
    ("envoy.http_conn_manager_prefix", "listener", |n| after(n, &["listener."], ".http.")),
    ("envoy.worker_id", "", worker_id),
    ("envoy.listener_address", "listener", listener_address),
    ("envoy.rds_route_config", "http", |n| config_name(n, "rds", true)),
    ("envoy.scoped_rds_config", "http", |n| config_name(n, "scoped_rds", false)),
    ("envoy.rbac_policy_name", "http", rbac_policy),
    ("envoy.rbac_http_prefix", "http", rbac_http_prefix),
    ("envoy.proxy_protocol_prefix", "proxy_proto", proxy_protocol_prefix),
    ("envoy.proxy_protocol_version", "proxy_proto", proxy_protocol_version),
    ("envoy.tls_certificate", "", |n| after(n, LISTENER_OR_CLUSTER, ".ssl.certificate.")),
    ("envoy.xds_resource_name", "sds", |n| if n.tokens.len() > 2 { inner(n, 1) } else { None }),
];

const PATTERNS: [(&str, &str); 28] = [
    ("envoy.mongo_callsite", "mongo.*.collection.*.callsite.$.query.**"),
    ("envoy.mongo_collection", "mongo.*.collection.$.**.query.*"),
    ("envoy.mongo_cmd", "mongo.*.cmd.$.**"),
    ("envoy.grpc_bridge_method", "cluster.*.grpc.*.$.**"),
    ("envoy.http_user_agent", "http.*.user_agent.$.**"),
    ("envoy.virtual_cluster", "vhost.*.vcluster.$.**"),
    ("envoy.fault_downstream_cluster", "http.*.fault.$.**"),
    ("envoy.grpc_bridge_service", "cluster.*.grpc.$.**"),
    ("envoy.tcp_prefix", "tcp.$.**"),
    ("envoy.udp_prefix", "udp.$.**"),
    ("envoy.clientssl_prefix", "auth.clientssl.$.**"),
    ("envoy.ratelimit_prefix", "ratelimit.$.**"),
    ("envoy.cluster_name", "cluster.$.**"),
    ("envoy.ext_authz_prefix", "cluster.*.ext_authz.$.**"),
    ("envoy.ext_authz_prefix", "http.*.ext_authz.$.**"),
    ("envoy.http_conn_manager_prefix", "http.$.**"),
    ("envoy.virtual_host", "vhost.$.**"),
    ("envoy.mongo_prefix", "mongo.$.**"),
    ("envoy.route", "vhost.*.route.$.**"),
    ("envoy.thrift_prefix", "thrift.$.**"),
    ("envoy.redis_prefix", "redis.$.**"),
    ("envoy.local_http_ratelimit_prefix", "$.http_local_rate_limit.**"),
    ("envoy.local_network_ratelimit_prefix", "local_rate_limit.$.**"),
    ("envoy.local_listener_ratelimit_prefix", "listener_local_ratelimit.$.**"),
    ("envoy.dns_filter_prefix", "dns_filter.$.**"),
    ("envoy.connection_limit_prefix", "connection_limit.$.**"),
    ("envoy.rbac_prefix", "$.rbac.**"),
    ("envoy.google_grpc_client_prefix", "grpc.$.**"),
];

/// Tag name, the first segment a name must have (or empty), and the extractor.
pub(super) fn all() -> impl Iterator<Item = (&'static str, &'static str, Finder)> {
    let special = SPECIAL.iter().map(|&(name, prefix, find)| (name, prefix, Finder::Builtin(find)));
    let patterns = PATTERNS.iter().map(|&(name, pattern)| {
        let pattern = Pattern::new(pattern);
        (name, pattern.prefix(), Finder::Tokens(pattern))
    });
    special.chain(patterns)
}

const LISTENER_OR_CLUSTER: &[&str] = &["listener.", "cluster."];

/// Where segment `index` stands.
fn segment(name: &Name<'_>, index: usize) -> Option<Range<usize>> {
    let token = name.tokens.get(index)?;
    let start: usize = name.tokens[..index].iter().map(|t| t.len() + 1).sum();
    Some(start..start + token.len())
}

/// A segment that is not empty and not the last, with the dot after it.
fn inner(name: &Name<'_>, index: usize) -> Option<Found> {
    let value = segment(name, index)?;
    if value.is_empty() || index + 1 >= name.tokens.len() {
        return None;
    }
    Some(Found { remove: value.start..value.end + 1, value })
}

/// The last segment, with the dot before it.
fn last(name: &Name<'_>) -> Option<Found> {
    let value = segment(name, name.tokens.len() - 1)?;
    Some(Found { remove: value.start.checked_sub(1)?..value.end, value })
}

fn is_word(c: u8) -> bool {
    c.is_ascii_alphanumeric() || c == b'_'
}

fn all_of(text: &str, accepts: impl Fn(u8) -> bool) -> bool {
    !text.is_empty() && text.bytes().all(accepts)
}

fn is_cipher(text: &str) -> bool {
    all_of(text, |c| is_word(c) || c == b'-')
}

/// `…_rq_200`
fn response_code(name: &Name<'_>) -> Option<Found> {
    let len = name.text.len();
    let (head, code) = name.text.split_at_checked(len.checked_sub(3)?)?;
    (head.ends_with("_rq_") && all_of(code, |c| c.is_ascii_digit()))
        .then(|| Found { remove: len - 4..len, value: len - 3..len })
}

/// `…_rq_2xx`
fn response_code_class(name: &Name<'_>) -> Option<Found> {
    let head = name.text.strip_suffix("xx")?;
    let at = head.len().checked_sub(1)?;
    let digit = head.as_bytes()[at].is_ascii_digit();
    (digit && head[..at].ends_with("_rq_")).then(|| Found { remove: at..at + 1, value: at..at + 1 })
}

/// `http.<prefix>.dynamodb.table.<table>.capacity.<operation>.__partition_id=<seven characters>`
fn dynamo_partition(name: &Name<'_>) -> Option<Found> {
    let [_, prefix, "dynamodb", "table", table, "capacity", operation, partition] = name.tokens[..] else {
        return None;
    };
    let id = partition.strip_prefix("__partition_id=")?;
    if [prefix, table, operation].contains(&"") || id.len() != 7 || !all_of(id, is_word) {
        return None;
    }
    let found = last(name)?;
    Some(Found { value: found.remove.end - 7..found.remove.end, ..found })
}

/// `http.<prefix>.dynamodb` and what follows the character after it.
fn after_dynamodb<'a>(name: &Name<'a>) -> Option<(usize, &'a str)> {
    if !name.text.contains(".dynamodb.") {
        return None;
    }
    let (prefix, rest) = name.text.strip_prefix("http.")?.split_once('.')?;
    let mut rest = rest.strip_prefix("dynamodb")?.chars();
    rest.next()?;
    let rest = rest.as_str();
    (!prefix.is_empty()).then(|| (name.text.len() - rest.len(), rest))
}

/// `….operation.<operation>…` or `….table.<table>.capacity.<operation>…`
fn dynamo_operation(name: &Name<'_>) -> Option<Found> {
    let (_, rest) = after_dynamodb(name)?;
    let tail = match rest.strip_prefix("operation.") {
        Some(tail) => tail,
        None => {
            let (table, tail) = rest.strip_prefix("table.")?.split_once('.')?;
            tail.strip_prefix("capacity.").filter(|_| !table.is_empty())?
        }
    };
    let start = name.text.len() - tail.len();
    let len = tail.find('.').unwrap_or(tail.len());
    (len > 0).then(|| Found { remove: start - 1..start + len, value: start..start + len })
}

/// `….table.<table>.…` or `….error.<table>.…`
fn dynamo_table(name: &Name<'_>) -> Option<Found> {
    let (at, rest) = after_dynamodb(name)?;
    let tail = rest.strip_prefix("table.").or_else(|| rest.strip_prefix("error."))?;
    let start = at + rest.len() - tail.len();
    let len = tail.find('.').filter(|len| *len > 0)?;
    Some(Found { remove: start..start + len + 1, value: start..start + len })
}

/// `<first>…<middle>.<value>` where the value is the last segment.
fn last_of(name: &Name<'_>, firsts: &[&str], middle: &str, accepts: fn(&str) -> bool) -> Option<Found> {
    let found = last(name)?;
    let before = name.text[..found.remove.start].strip_suffix(middle)?;
    let head_fits = firsts.iter().any(|first| before.starts_with(first));
    (head_fits && accepts(&name.text[found.value.clone()])).then_some(found)
}

/// `<listener or cluster>.ssl.versions.TLSv1.3`
fn tls_version(name: &Name<'_>) -> Option<Found> {
    let at = name.text.len().checked_sub("TLSv1.3".len())?;
    let (head, version) = name.text.split_at_checked(at)?;
    let [b'T', b'L', b'S', b'v', major, b'.', minor] = *version.as_bytes() else { return None };
    let before = head.strip_suffix(".ssl.versions.")?;
    let fits = major.is_ascii_digit()
        && minor.is_ascii_digit()
        && LISTENER_OR_CLUSTER.iter().any(|first| before.starts_with(first));
    fits.then(|| Found { remove: at - 1..name.text.len(), value: at..name.text.len() })
}

/// `cluster.<name>.ssl.ciphers.<cipher>`
fn cipher_suite(name: &Name<'_>) -> Option<Found> {
    let [_, cluster, "ssl", "ciphers", cipher] = name.tokens[..] else { return None };
    if cluster.is_empty() || !is_cipher(cipher) { None } else { last(name) }
}

/// `cluster.<name>.health_check.name.<name>.…`, of which `.name.<name>` goes
fn health_check_name(name: &Name<'_>) -> Option<Found> {
    let [_, cluster, "health_check", "name", value, _, ..] = name.tokens[..] else { return None };
    let at = segment(name, 4)?;
    let rest_is_something = name.text.len() > at.end + 1;
    (!cluster.is_empty() && !value.is_empty() && rest_is_something)
        .then(|| Found { remove: at.start - ".name.".len()..at.end, value: at })
}

/// `<first>…<middle><value>.…` at the first place where a value and a dot follow.
fn after(name: &Name<'_>, firsts: &[&str], middle: &str) -> Option<Found> {
    let first = firsts.iter().find(|first| name.text.starts_with(**first))?;
    let mut from = first.len();
    loop {
        let start = from + name.text[from..].find(middle)? + middle.len();
        match name.text[start..].find('.') {
            Some(0) => from = start - middle.len() + 1,
            Some(len) => return Some(Found { remove: start..start + len + 1, value: start..start + len }),
            None => return None,
        }
    }
}

/// The length of `1.2.3.4_80` or `[__1]_80` at the start of `text`, if a dot follows.
fn address(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let run =
        |from: usize, accepts: fn(u8) -> bool| bytes[from..].iter().take_while(|c| accepts(**c)).count();
    let mut at = 0;
    if bytes.first() == Some(&b'[') {
        let len = run(1, |c| c.is_ascii_hexdigit() || c == b'_');
        at = len + 2;
        if len == 0 || bytes.get(at - 1) != Some(&b']') {
            return None;
        }
    } else {
        for part in 0..4 {
            let len = run(at, |c| c.is_ascii_digit());
            if !(1..=3).contains(&len) {
                return None;
            }
            at += len;
            if part < 3 {
                if bytes.get(at) != Some(&b'.') {
                    return None;
                }
                at += 1;
            }
        }
    }
    if bytes.get(at) != Some(&b'_') {
        return None;
    }
    let port = run(at + 1, |c| c.is_ascii_digit());
    let end = at + 1 + port;
    (port > 0 && bytes.get(end) == Some(&b'.')).then_some(end)
}

/// An address, or a segment, in front of a dot.
fn address_or_segment(text: &str) -> Option<usize> {
    address(text).or_else(|| text.find('.').filter(|len| *len > 0))
}

/// `listener.<address or prefix>.worker_<id>.…` and `server.worker_<id>.…`
fn worker_id(name: &Name<'_>) -> Option<Found> {
    let rest = match name.tokens[0] {
        "server" | "listener_manager" | "thread_local_cluster_manager" => &name.text[name.tokens[0].len()..],
        "listener" => {
            let rest = name.text.strip_prefix("listener.")?;
            let with_address =
                address(rest).map(|len| &rest[len..]).filter(|rest| rest.starts_with(".worker_"));
            match with_address {
                Some(rest) => rest,
                None => &rest[rest.find('.').filter(|len| *len > 0)?..],
            }
        }
        _ => return None,
    };
    let rest = rest.strip_prefix(".worker_")?;
    let start = name.text.len() - rest.len();
    let len = rest.bytes().take_while(u8::is_ascii_digit).count();
    (len > 0 && rest.as_bytes().get(len) == Some(&b'.'))
        .then(|| Found { remove: start..start + len + 1, value: start..start + len })
}

/// `listener.<address or prefix>.…`, except the admin listener's
fn listener_address(name: &Name<'_>) -> Option<Found> {
    let start = "listener.".len();
    let rest = name.text.strip_prefix("listener.")?;
    let len = address_or_segment(rest)?;
    (&rest[..len] != "admin").then(|| Found { remove: start..start + len + 1, value: start..start + len })
}

/// `http.<prefix>.rds.<route config>.<stat>`: the config's name may contain dots.
fn config_name(name: &Name<'_>, kind: &str, slashes: bool) -> Option<Found> {
    if name.tokens.len() < 5 || name.tokens[2] != kind || name.tokens[1].is_empty() {
        return None;
    }
    let start = segment(name, 3)?.start;
    let end = segment(name, name.tokens.len() - 1)?.start - 1;
    let accepts = |c| is_word(c) || c == b'-' || c == b'.' || (slashes && c == b'/');
    let stat_fits = name.tokens.last().is_some_and(|stat| all_of(stat, is_word));
    (stat_fits && end > start && all_of(&name.text[start..end], accepts))
        .then(|| Found { remove: start..end + 1, value: start..end })
}

pub(super) const VERDICTS: [&str; 4] = ["allowed", "shadow_allowed", "denied", "shadow_denied"];

/// `http.<prefix>.rbac.[<rules prefix>.]policy.<policy>.<verdict>`
fn rbac_policy(name: &Name<'_>) -> Option<Found> {
    let (policy, verdict, index) = match name.tokens[..] {
        [_, p, "rbac", rules, "policy", policy, verdict] if !p.is_empty() && !rules.is_empty() => {
            (policy, verdict, 5)
        }
        [_, p, "rbac", "policy", policy, verdict] if !p.is_empty() => (policy, verdict, 4),
        _ => return None,
    };
    if VERDICTS.contains(&verdict) && !policy.is_empty() { inner(name, index) } else { None }
}

/// `http.<prefix>.rbac.<rules prefix>.…`
fn rbac_http_prefix(name: &Name<'_>) -> Option<Found> {
    match name.tokens[..] {
        [_, p, "rbac", rules, _, ..] if !p.is_empty() && rules != "policy" => inner(name, 3),
        _ => None,
    }
}

/// `proxy_proto.<prefix>.…`
fn proxy_protocol_prefix(name: &Name<'_>) -> Option<Found> {
    let found = inner(name, 1)?;
    (name.tokens[1] != "versions" && name.text.len() > found.remove.end).then_some(found)
}

/// `proxy_proto.[<prefix>.]versions.v<digit>.<stat>`: prefix, `versions` and version go.
fn proxy_protocol_version(name: &Name<'_>) -> Option<Found> {
    let (version, stat, index) = match name.tokens[..] {
        [_, prefix, "versions", version, stat] if !prefix.is_empty() => (version, stat, 3),
        [_, "versions", version, stat] => (version, stat, 2),
        _ => return None,
    };
    let [b'v', b'0'..=b'9'] = *version.as_bytes() else { return None };
    if !all_of(stat, is_word) {
        return None;
    }
    let at = segment(name, index)?;
    Some(Found { remove: segment(name, 1)?.start..at.end + 1, value: at.start + 1..at.end })
}
