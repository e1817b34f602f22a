//! Permissions and principals: trees of conditions on a request and its connection.

use nuncio_api::envoy::config::core::v3::{CidrRange as PbRange, TypedExtensionConfig};
use nuncio_api::envoy::config::rbac::v3 as pb;
use nuncio_api::envoy::extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig;
use nuncio_core::address::Address;
use nuncio_core::coverage::Covered;
use nuncio_core::matchers::{
    CidrRange, FilterStateMatcher, HeaderMatcher, MetadataMatcher, PathMatcher, StringMatcher, UriTemplate,
};
use nuncio_core::{BuildError, BuildResult, Exchange};
use nuncio_wire::name;
use pb::permission::Rule;
use pb::principal::Identifier;
use prost::{Message, Name};
use std::net::IpAddr;

/// What is read of the messages.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.config.rbac.v3.Permission",
        &[
            "and_rules",
            "or_rules",
            "any",
            "header",
            "url_path",
            "destination_ip",
            "destination_port",
            "destination_port_range",
            "metadata",
            "not_rule",
            "requested_server_name",
            "sourced_metadata",
            "uri_template",
        ],
    ),
    Covered::new(
        "envoy.config.rbac.v3.Principal",
        &[
            "and_ids",
            "or_ids",
            "any",
            "authenticated",
            "source_ip",
            "direct_remote_ip",
            "remote_ip",
            "header",
            "url_path",
            "metadata",
            "filter_state",
            "not_id",
            "sourced_metadata",
        ],
    ),
    Covered::new("envoy.config.rbac.v3.Permission.Set", &["rules"]),
    Covered::new("envoy.config.rbac.v3.Principal.Set", &["ids"]),
    Covered::new("envoy.config.rbac.v3.Principal.Authenticated", &["principal_name"]),
    Covered::new("envoy.config.rbac.v3.SourcedMetadata", &["metadata_matcher", "metadata_source"]),
];

/// A condition.
pub enum Matcher {
    /// All of these.
    All(Vec<Matcher>),
    /// One of these.
    Any(Vec<Matcher>),
    /// Not this.
    Not(Box<Matcher>),
    /// Always.
    Always,
    /// A header.
    Header(Box<HeaderMatcher>),
    /// The path without its query.
    Path(PathMatcher),
    /// One of the addresses lies in a range.
    Ip(Side, CidrRange),
    /// The port of the address that was connected to lies in `[start, end)`.
    Port(u32, u32),
    /// Metadata of the stream, or of its route.
    Metadata { matcher: Box<MetadataMatcher>, of_route: bool },
    /// The server name asked for, empty without TLS.
    ServerName(StringMatcher),
    /// The client has a TLS connection, and a name in its certificate matches.
    Authenticated(Option<StringMatcher>),
    /// An object in the filter state.
    FilterState(FilterStateMatcher),
    /// The path without its query, as a template.
    Template(UriTemplate),
}

/// Which address.
#[derive(Clone, Copy)]
pub enum Side {
    /// The one that was connected to.
    Local,
    /// The connection's other end.
    Connection,
    /// The same, before listener filters changed it.
    Direct,
    /// The client, as the request says it.
    Client,
}

fn required(field: &str) -> BuildError {
    BuildError(format!("field: \"{field}\", reason: is required"))
}

fn range(side: Side, r: &PbRange) -> BuildResult<Matcher> {
    let range = CidrRange::new(r).map_err(|e| BuildError(format!("Failed to create CIDR range: {e}")))?;
    Ok(Matcher::Ip(side, range))
}

fn sourced(s: &pb::SourcedMetadata) -> BuildResult<Matcher> {
    let matcher = s.metadata_matcher.as_ref().ok_or_else(|| required("metadata_matcher"))?;
    Ok(Matcher::Metadata {
        matcher: Box::new(MetadataMatcher::new(matcher)?),
        of_route: s.metadata_source() == pb::MetadataSource::Route,
    })
}

impl Matcher {
    /// Any of some permissions, as a policy lists them.
    ///
    /// # Errors
    /// A matcher that does not compile, or that is not implemented.
    pub fn permissions(list: &[pb::Permission]) -> BuildResult<Matcher> {
        Ok(Matcher::Any(list.iter().map(Matcher::permission).collect::<BuildResult<_>>()?))
    }
    /// Any of some principals.
    ///
    /// # Errors
    /// As [`permissions`](Self::permissions).
    pub fn principals(list: &[pb::Principal]) -> BuildResult<Matcher> {
        Ok(Matcher::Any(list.iter().map(Matcher::principal).collect::<BuildResult<_>>()?))
    }
    fn permission(p: &pb::Permission) -> BuildResult<Matcher> {
        let list =
            |s: &pb::permission::Set| s.rules.iter().map(Matcher::permission).collect::<BuildResult<_>>();
        Ok(match p.rule.as_ref().ok_or_else(|| required("rule"))? {
            Rule::AndRules(s) => Matcher::All(list(s)?),
            Rule::OrRules(s) => Matcher::Any(list(s)?),
            Rule::Any(_) => Matcher::Always,
            Rule::Header(h) => Matcher::Header(Box::new(HeaderMatcher::new(h)?)),
            Rule::UrlPath(p) => Matcher::Path(PathMatcher::new(p)?),
            Rule::DestinationIp(r) => range(Side::Local, r)?,
            Rule::DestinationPort(p) => Matcher::Port(*p, *p + 1),
            Rule::DestinationPortRange(r) => port_range(r.start, r.end)?,
            Rule::Metadata(m) => {
                Matcher::Metadata { matcher: Box::new(MetadataMatcher::new(m)?), of_route: false }
            }
            Rule::SourcedMetadata(m) => sourced(m)?,
            Rule::NotRule(p) => Matcher::Not(Box::new(Matcher::permission(p)?)),
            Rule::RequestedServerName(s) => Matcher::ServerName(StringMatcher::new(s)?),
            Rule::Matcher(c) => {
                return Err(BuildError::not_implemented(format_args!("RBAC matcher {}", c.name)));
            }
            Rule::UriTemplate(t) => Matcher::Template(template(t)?),
        })
    }
    fn principal(p: &pb::Principal) -> BuildResult<Matcher> {
        let list = |s: &pb::principal::Set| s.ids.iter().map(Matcher::principal).collect::<BuildResult<_>>();
        Ok(match p.identifier.as_ref().ok_or_else(|| required("identifier"))? {
            Identifier::AndIds(s) => Matcher::All(list(s)?),
            Identifier::OrIds(s) => Matcher::Any(list(s)?),
            Identifier::Any(_) => Matcher::Always,
            Identifier::Authenticated(a) => {
                Matcher::Authenticated(a.principal_name.as_ref().map(StringMatcher::new).transpose()?)
            }
            Identifier::SourceIp(r) => range(Side::Connection, r)?,
            Identifier::DirectRemoteIp(r) => range(Side::Direct, r)?,
            Identifier::RemoteIp(r) => range(Side::Client, r)?,
            Identifier::Header(h) => Matcher::Header(Box::new(HeaderMatcher::new(h)?)),
            Identifier::UrlPath(p) => Matcher::Path(PathMatcher::new(p)?),
            Identifier::Metadata(m) => {
                Matcher::Metadata { matcher: Box::new(MetadataMatcher::new(m)?), of_route: false }
            }
            Identifier::SourcedMetadata(m) => sourced(m)?,
            Identifier::FilterState(f) => Matcher::FilterState(FilterStateMatcher::new(f)?),
            Identifier::NotId(p) => Matcher::Not(Box::new(Matcher::principal(p)?)),
            Identifier::Custom(c) => {
                return Err(BuildError::not_implemented(format_args!("RBAC principal {}", c.name)));
            }
        })
    }

    /// True when the request matches.
    pub fn matches(&self, ex: &Exchange) -> bool {
        match self {
            Matcher::All(l) => l.iter().all(|m| m.matches(ex)),
            Matcher::Any(l) => l.iter().any(|m| m.matches(ex)),
            Matcher::Not(m) => !m.matches(ex),
            Matcher::Always => true,
            Matcher::Header(m) => m.matches(&ex.request),
            Matcher::Path(m) => ex.request.headers.get(name::PATH).is_some_and(|p| m.matches(p)),
            Matcher::Ip(side, range) => ip(ex, *side).is_some_and(|ip| range.contains(ip)),
            Matcher::Port(start, end) => {
                let port = ex.sx.conn.local.borrow().port();
                port.is_some_and(|p| (*start..*end).contains(&u32::from(p)))
            }
            Matcher::Metadata { matcher, of_route: true } => {
                // Envoy asks for the route that was chosen so far; by now it has been.
                ex.route().is_some_and(|r| matcher.matches(r.metadata()))
            }
            Matcher::Metadata { matcher, of_route: false } => match &*ex.sx.info.metadata.borrow() {
                Some(m) => matcher.matches(m),
                None => matcher.matches_none(),
            },
            Matcher::ServerName(m) => m.matches(ex.sx.conn.sni.get().map_or(b"", |s| s.as_bytes())),
            Matcher::Authenticated(name) => authenticated(ex, name.as_ref()),
            Matcher::FilterState(m) => {
                m.matches(&ex.sx.info.filter_state.borrow(), &ex.sx.conn.filter_state.borrow())
            }
            Matcher::Template(t) => {
                ex.request.headers.get(name::PATH).is_some_and(|p| {
                    t.matches(p.split(|b| matches!(b, b'?' | b'#')).next().unwrap_or_default())
                })
            }
        }
    }
}

fn port_range(start: i32, end: i32) -> BuildResult<Matcher> {
    for (what, n) in [("start", start), ("end", end)] {
        if !(0..=65536).contains(&n) {
            return Err(BuildError(format!("range {what} {n} is out of bounds")));
        }
    }
    if start >= end {
        return Err(BuildError(format!(
            "range start {start} cannot be greater or equal than range end {end}"
        )));
    }
    Ok(Matcher::Port(start as u32, end as u32))
}

fn template(c: &TypedExtensionConfig) -> BuildResult<UriTemplate> {
    let any = c.typed_config.as_ref().ok_or_else(|| required("typed_config"))?;
    let ty = any.type_url.rsplit('/').next().unwrap_or_default();
    if ty != UriTemplateMatchConfig::full_name() {
        return Err(BuildError(nuncio_api::extensions::unregistered(&c.name, ty)));
    }
    let c = UriTemplateMatchConfig::decode(&*any.value).map_err(|e| BuildError(e.to_string()))?;
    UriTemplate::new(&c.path_template).map_err(|e| {
        BuildError(format!("path_match_policy.path_template {} is invalid: {}", c.path_template, e.0))
    })
}

fn ip(ex: &Exchange, side: Side) -> Option<IpAddr> {
    let conn = &ex.sx.conn;
    match side {
        Side::Local => conn.local.borrow().ip(),
        Side::Connection => conn.remote.borrow().ip(),
        Side::Direct => conn.direct_remote.ip(),
        Side::Client => {
            let said = ex.sx.info.remote.borrow();
            said.as_ref().map_or_else(|| conn.remote.borrow().ip(), Address::ip)
        }
    }
}

/// URI names of the client's certificate, then its DNS names, then its subject.
fn authenticated(ex: &Exchange, name: Option<&StringMatcher>) -> bool {
    let Some(tls) = ex.sx.conn.tls.get() else { return false };
    let Some(name) = name else { return true };
    let is = |text: &str| name.matches(text.as_bytes());
    match &tls.peer {
        Some(c) => c.uri_sans.iter().chain(&c.dns_sans).any(|s| is(s)) || is(&c.subject),
        None => is(""),
    }
}
