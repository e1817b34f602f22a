//! Which requests a rule is about (`RequirementRule.match`).

use nuncio_api::envoy::config::route::v3 as pb;
use nuncio_api::envoy::extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig;
use nuncio_core::matchers::{HeaderMatcher, QueryParameterMatcher, Regex, UriTemplate, matches_all};
use nuncio_core::{BuildError, BuildResult};
use nuncio_wire::{RequestHead, name};
use pb::route_match::PathSpecifier;
use prost::{Message, Name};

/// A compiled match.
pub struct Rule {
    path: Path,
    ignore_case: bool,
    headers: Vec<HeaderMatcher>,
    query: Vec<QueryParameterMatcher>,
}

enum Path {
    Prefix(String),
    Exact(String),
    Separated(String),
    Regex(Regex),
    Template(UriTemplate),
    Connect,
}

impl Rule {
    /// From configuration. Of a `RouteMatch` Envoy looks at path, headers and query here.
    ///
    /// # Errors
    /// A matcher is refused.
    pub fn new(m: &pb::RouteMatch) -> BuildResult<Rule> {
        let path = match &m.path_specifier {
            Some(PathSpecifier::Prefix(p)) => Path::Prefix(p.clone()),
            Some(PathSpecifier::Path(p)) => Path::Exact(p.clone()),
            Some(PathSpecifier::PathSeparatedPrefix(p)) => Path::Separated(p.clone()),
            Some(PathSpecifier::SafeRegex(r)) => Path::Regex(Regex::new(r)?),
            Some(PathSpecifier::ConnectMatcher(_)) => Path::Connect,
            Some(PathSpecifier::PathMatchPolicy(p)) => {
                let any = p.typed_config.as_ref().ok_or("field: \"typed_config\", reason: is required")?;
                let ty = any.type_url.rsplit('/').next().unwrap_or_default();
                if ty != UriTemplateMatchConfig::full_name() {
                    return Err(BuildError(nuncio_api::extensions::unregistered(&p.name, ty)));
                }
                let c = UriTemplateMatchConfig::decode(&*any.value).map_err(|e| BuildError(e.to_string()))?;
                Path::Template(UriTemplate::new(&c.path_template)?)
            }
            None => return Err("field: \"path_specifier\", reason: is required".into()),
        };
        Ok(Rule {
            path,
            ignore_case: m.case_sensitive == Some(false),
            headers: HeaderMatcher::list(&m.headers)?,
            query: m.query_parameters.iter().map(QueryParameterMatcher::new).collect::<BuildResult<_>>()?,
        })
    }
    /// Whether it is about this request.
    pub fn matches(&self, head: &RequestHead) -> bool {
        self.path(head)
            && matches_all(&self.headers, head)
            && self.query.iter().all(|q| q.matches(head.path()))
    }
    fn path(&self, head: &RequestHead) -> bool {
        if matches!(self.path, Path::Connect) {
            return head.is_connect();
        }
        let Some(path) = head.headers.get(name::PATH) else { return false };
        let path = path.split(|b| matches!(b, b'?' | b'#')).next().unwrap_or_default();
        let begins = |with: &str| {
            path.get(..with.len()).is_some_and(|p| match self.ignore_case {
                true => p.eq_ignore_ascii_case(with.as_bytes()),
                false => p == with.as_bytes(),
            })
        };
        match &self.path {
            Path::Prefix(p) => begins(p),
            Path::Exact(p) => path.len() == p.len() && begins(p),
            Path::Separated(p) => begins(p) && matches!(path.get(p.len()), None | Some(b'/')),
            Path::Regex(r) => r.matches(path),
            Path::Template(t) => t.matches(path),
            Path::Connect => false,
        }
    }
}
