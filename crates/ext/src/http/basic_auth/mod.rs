use nuncio_api::envoy::config::core::v3::DataSource;
use nuncio_api::envoy::extensions::filters::http::basic_auth::v3 as pb;
use nuncio_core::base64;
use nuncio_core::coverage::Covered;
use nuncio_core::filter::{BuildCx, HttpFilter, Step};
use nuncio_core::registry::Docs;
use nuncio_core::{BuildResult, Exchange, LocalReply, Registry, data_source, stats};
use nuncio_wire::{HeaderName, RequestHead, name};
use std::collections::HashMap;
use std::sync::Arc;

mod sha1;

/// Its well-known name.
pub const NAME: &str = "envoy.filters.http.basic_auth";

/// What is read of its configuration.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.extensions.filters.http.basic_auth.v3.BasicAuth",
        &[
            "users",
            "forward_username_header",
            "authentication_header",
            "allow_missing",
            "emit_dynamic_metadata",
        ],
    ),
    Covered::new("envoy.extensions.filters.http.basic_auth.v3.BasicAuthPerRoute", &["users"]),
];

/// Registers the filter.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.http_filter::<BasicAuth>(NAME, docs);
}

stats! {
    /// Below `http.<stat_prefix>.basic_auth.`
    pub struct BasicAuthStats {
        allowed: Counter,
        denied: Counter,
    }
}

/// The filter.
pub struct BasicAuth {
    users: Arc<Users>,
    forward: Option<HeaderName>,
    header: HeaderName,
    allow_missing: bool,
    emit_metadata: bool,
    name: Box<str>,
    stats: BasicAuthStats,
}

/// Who may come in: names, and SHA-1 of passwords.
pub struct Users(HashMap<Box<[u8]>, [u8; 20]>);

impl Users {
    /// From a file as `htpasswd -s` writes it.
    fn new(source: Option<&DataSource>, may_be_empty: bool) -> BuildResult<Users> {
        let text = match source {
            Some(s) => data_source::read(s)?,
            None if may_be_empty => vec![],
            None => return Err("field: \"users\", reason: is required".into()),
        };
        if text.is_empty() && !may_be_empty {
            return Err("DataSource cannot be empty".into());
        }
        let mut users = HashMap::new();
        for line in text.split(|b| *b == b'\n') {
            if line.is_empty() || line[0] == b'#' {
                continue;
            }
            let Some(colon) = line.iter().position(|b| *b == b':') else {
                return Err("basic auth: invalid htpasswd format, username:password is expected".into());
            };
            let (name, hash) = (&line[..colon], &line[colon + 1..]);
            if name.is_empty() || hash.is_empty() {
                return Err("basic auth: empty user name or password".into());
            }
            if users.contains_key(name) {
                return Err("basic auth: duplicate users".into());
            }
            let Some(hash) = hash.strip_prefix(b"{SHA}") else {
                return Err("basic auth: unsupported htpasswd format: please use {SHA}".into());
            };
            if hash.len() != 28 {
                return Err("basic auth: invalid htpasswd format, invalid SHA hash length".into());
            }
            // A hash that is no base64 is one that no password has.
            if let Some(hash) = base64::decode(hash).and_then(|h| h.try_into().ok()) {
                users.insert(name.into(), hash);
            }
        }
        Ok(Users(users))
    }
    fn know(&self, name: &[u8], password: &[u8]) -> bool {
        let hash = sha1::sha1(password);
        // Compared to the end, so that time does not tell how much of it was right.
        self.0.get(name).is_some_and(|h| h.iter().zip(hash).fold(0, |d, (a, b)| d | (a ^ b)) == 0)
    }
}

/// Why a request is refused: body and details.
type Refusal = (&'static str, &'static str);

const MISSING: Refusal =
    ("User authentication failed. Missing username and password.", "no_credential_for_basic_auth");
const SCHEME: Refusal =
    ("User authentication failed. Expected 'Basic' authentication scheme.", "invalid_scheme_for_basic_auth");
const FORMAT: Refusal =
    ("User authentication failed. Invalid basic credential format.", "invalid_format_for_basic_auth");
const WRONG: Refusal = (
    "User authentication failed. Invalid username/password combination.",
    "invalid_credential_for_basic_auth",
);

impl BasicAuth {
    /// Checks the credentials of a request and gives the user's name; no name when there are no credentials and need
    /// not be.
    fn check(&self, ex: &Exchange) -> Result<Option<Vec<u8>>, Refusal> {
        let route = ex.route_config::<Users>();
        let users = route.as_ref().unwrap_or(&self.users);
        let Some(value) = ex.request.headers.get(&self.header) else {
            return if self.allow_missing { Ok(None) } else { Err(MISSING) };
        };
        let Some(token) = value.strip_prefix(b"Basic ") else {
            return if self.allow_missing { Ok(None) } else { Err(SCHEME) };
        };
        let mut decoded = base64::decode(token).unwrap_or_default();
        let colon = decoded.iter().position(|b| *b == b':').ok_or(FORMAT)?;
        if !users.know(&decoded[..colon], &decoded[colon + 1..]) {
            return Err(WRONG);
        }
        decoded.truncate(colon);
        Ok(Some(decoded))
    }
    fn allow(&self, name: &[u8], ex: &mut Exchange) {
        if let Some(header) = &self.forward {
            ex.request.headers.set(header, name);
        }
        if self.emit_metadata {
            let value = prost_types::value::Kind::StringValue(String::from_utf8_lossy(name).into_owned());
            let value = prost_types::Value { kind: Some(value) };
            ex.sx.info.set_metadata(
                &self.name,
                prost_types::Struct { fields: [("username".to_owned(), value)].into() },
            );
        }
    }
}

/// The longest URL in a challenge.
const MAX_URL: usize = 256;

/// The URL of the request, as its client wrote it.
fn original_url(head: &RequestHead) -> Vec<u8> {
    let path = head.headers.get(name::X_ENVOY_ORIGINAL_PATH).unwrap_or(head.path());
    let path = &path[..path.len().min(MAX_URL)];
    [head.scheme(), b"://", head.authority(), path].concat()
}

impl HttpFilter for BasicAuth {
    type Config = pb::BasicAuth;
    type RouteConfig = pb::BasicAuthPerRoute;
    type Route = Users;
    type Stream = ();

    fn new(config: pb::BasicAuth, cx: &BuildCx<'_>) -> BuildResult<BasicAuth> {
        let header = &config.authentication_header;
        let forward = &config.forward_username_header;
        Ok(BasicAuth {
            users: Arc::new(Users::new(config.users.as_ref(), false)?),
            forward: (!forward.is_empty()).then(|| HeaderName::new(forward)),
            header: HeaderName::new(if header.is_empty() { "authorization" } else { header }),
            allow_missing: config.allow_missing,
            emit_metadata: config.emit_dynamic_metadata,
            name: cx.name.into(),
            stats: BasicAuthStats::new(&cx.scope.scope("basic_auth")),
        })
    }
    fn route(config: pb::BasicAuthPerRoute, _: &BuildCx<'_>) -> BuildResult<Users> {
        Users::new(config.users.as_ref(), true)
    }

    fn on_request<'a>(self: &'a Arc<Self>, (): &'a mut (), ex: &'a mut Exchange) -> Step<'a> {
        match self.check(ex) {
            Ok(name) => {
                // One without credentials passes uncounted.
                if let Some(name) = name {
                    self.allow(&name, ex);
                    self.stats.allowed().inc();
                }
                Step::Next
            }
            Err((body, details)) => {
                self.stats.denied().inc();
                let challenge = [b"Basic realm=\"", &*original_url(&ex.request), b"\""].concat();
                let reply = LocalReply::new(401, body, details).header(name::WWW_AUTHENTICATE, &challenge);
                Step::Reply(Box::new(reply))
            }
        }
    }
}

#[cfg(test)]
mod tests;
