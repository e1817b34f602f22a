//! The `access_log` lists of listeners, connection managers, TCP proxies and the admin interface: which logger gets an
//! entry, and which entries it gets (`envoy.config.accesslog.v3`).
//!
//! The loggers themselves are extensions; [`build`] finds them in the registry. Their filters are built in, as in Envoy.

use crate::cel::{self, Program};
use crate::coverage::Covered;
use crate::error::{BuildError, BuildResult};
use crate::exchange::grpc_status_of;
use crate::filter::BuildCx;
use crate::flags::Flag;
use crate::format::FormatCx;
use crate::kinds::DynAccessLogger;
use crate::matchers::{HeaderMatcher, ValueMatcher};
use crate::runtime::RuntimeNumber;
use crate::{clock, rng};
use nuncio_api::envoy::config::accesslog::v3 as pb;
use nuncio_api::envoy::config::core::v3::RuntimeUInt32;
use nuncio_api::envoy::extensions::access_loggers::filters::cel::v3::ExpressionFilter;
use nuncio_wire::{HeaderMap, name};
use prost::{Message, Name};
use std::sync::Arc;

/// What is read of `envoy.config.accesslog.v3`.
pub const COVERED: &[Covered] = &[
    Covered::new("envoy.config.accesslog.v3.AccessLog", &["name", "filter", "typed_config"]),
    Covered::new(
        "envoy.config.accesslog.v3.AccessLogFilter",
        &[
            "status_code_filter",
            "duration_filter",
            "not_health_check_filter",
            "traceable_filter",
            "runtime_filter",
            "and_filter",
            "or_filter",
            "header_filter",
            "response_flag_filter",
            "grpc_status_filter",
            "metadata_filter",
            "log_type_filter",
            "extension_filter",
        ],
    ),
    Covered::new("envoy.config.accesslog.v3.ComparisonFilter", &["op", "value"]),
    Covered::new("envoy.config.accesslog.v3.StatusCodeFilter", &["comparison"]),
    Covered::new("envoy.config.accesslog.v3.DurationFilter", &["comparison"]),
    Covered::new("envoy.config.accesslog.v3.NotHealthCheckFilter", &[]),
    Covered::new("envoy.config.accesslog.v3.TraceableFilter", &[]),
    Covered::new(
        "envoy.config.accesslog.v3.RuntimeFilter",
        &["runtime_key", "percent_sampled", "use_independent_randomness"],
    ),
    Covered::new("envoy.config.accesslog.v3.AndFilter", &["filters"]),
    Covered::new("envoy.config.accesslog.v3.OrFilter", &["filters"]),
    Covered::new("envoy.config.accesslog.v3.HeaderFilter", &["header"]),
    Covered::new("envoy.config.accesslog.v3.ResponseFlagFilter", &["flags"]),
    Covered::new("envoy.config.accesslog.v3.GrpcStatusFilter", &["statuses", "exclude"]),
    Covered::new("envoy.config.accesslog.v3.MetadataFilter", &["matcher", "match_if_key_not_found"]),
    Covered::new("envoy.config.accesslog.v3.LogTypeFilter", &["types", "exclude"]),
    Covered::new("envoy.config.accesslog.v3.ExtensionFilter", &["name", "typed_config"]),
    Covered::new(
        "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
        &["expression", "cel_config"],
    ),
];

/// Builds the loggers of an `access_log` list.
///
/// # Errors
/// A logger is unknown or not built yet, it refuses its config, or a filter is refused.
pub fn build(logs: &[pb::AccessLog], cx: &BuildCx<'_>) -> BuildResult<Vec<Logger>> {
    logs.iter().map(|l| Logger::new(l, cx)).collect()
}

/// One entry of an `access_log` list.
#[derive(Clone)]
pub struct Logger {
    filter: Option<AccessLogFilter>,
    logger: Arc<dyn DynAccessLogger>,
}

impl Logger {
    fn new(log: &pb::AccessLog, cx: &BuildCx<'_>) -> BuildResult<Logger> {
        let filter = log.filter.as_ref().map(|f| AccessLogFilter::new(f, cx)).transpose()?;
        let none = prost_types::Any::default();
        let config = match &log.config_type {
            Some(pb::access_log::ConfigType::TypedConfig(any)) => any,
            None => &none,
        };
        Ok(Logger { filter, logger: cx.registry.build_access_logger(&log.name, config, cx)? })
    }
    /// Writes an entry, if the filter lets it through.
    pub fn log(&self, entry: &FormatCx<'_>) {
        if self.filter.as_ref().is_none_or(|f| f.matches(entry)) {
            self.logger.log(entry);
        }
    }
}

/// Decides which entries a logger gets (`AccessLogFilter`).
#[derive(Clone)]
pub struct AccessLogFilter(Kind);

#[derive(Clone)]
enum Kind {
    StatusCode(Comparison),
    Duration(Comparison),
    NotHealthCheck,
    /// Of requests that are traced.
    Traceable,
    Runtime(Sampling),
    And(Vec<AccessLogFilter>),
    Or(Vec<AccessLogFilter>),
    Header(Box<HeaderMatcher>),
    /// With any of these flags; with any flag at all when there is none.
    ResponseFlag(Vec<Flag>),
    GrpcStatus {
        statuses: Vec<i64>,
        exclude: bool,
    },
    Metadata(Box<Metadata>),
    LogType {
        types: Vec<i32>,
        exclude: bool,
    },
    /// `envoy.access_loggers.extension_filters.cel`
    Cel(Arc<Program>),
}

impl AccessLogFilter {
    /// From configuration.
    ///
    /// # Errors
    /// A matcher is refused, or the filter is not built yet.
    pub fn new(f: &pb::AccessLogFilter, cx: &BuildCx<'_>) -> BuildResult<AccessLogFilter> {
        use pb::access_log_filter::FilterSpecifier as S;
        let list = |fs: &[pb::AccessLogFilter]| -> BuildResult<Vec<_>> {
            fs.iter().map(|f| AccessLogFilter::new(f, cx)).collect()
        };
        Ok(AccessLogFilter(match &f.filter_specifier {
            Some(S::StatusCodeFilter(f)) => Kind::StatusCode(Comparison::new(f.comparison.as_ref(), cx)?),
            Some(S::DurationFilter(f)) => Kind::Duration(Comparison::new(f.comparison.as_ref(), cx)?),
            Some(S::NotHealthCheckFilter(_)) => Kind::NotHealthCheck,
            Some(S::RuntimeFilter(f)) => Kind::Runtime(Sampling::new(f, cx)),
            Some(S::AndFilter(f)) => Kind::And(list(&f.filters)?),
            Some(S::OrFilter(f)) => Kind::Or(list(&f.filters)?),
            Some(S::HeaderFilter(f)) => Kind::Header(Box::new(HeaderMatcher::new(
                f.header.as_ref().ok_or_else(|| required("header"))?,
            )?)),
            Some(S::ResponseFlagFilter(f)) => Kind::ResponseFlag(
                f.flags
                    .iter()
                    .map(|s| Flag::from_short(s).ok_or_else(|| format!("unknown response flag: {s}").into()))
                    .collect::<BuildResult<_>>()?,
            ),
            Some(S::GrpcStatusFilter(f)) => Kind::GrpcStatus {
                statuses: f.statuses.iter().map(|s| i64::from(*s)).collect(),
                exclude: f.exclude,
            },
            Some(S::MetadataFilter(f)) => Kind::Metadata(Box::new(Metadata::new(f)?)),
            Some(S::LogTypeFilter(f)) => Kind::LogType { types: f.types.clone(), exclude: f.exclude },
            Some(S::TraceableFilter(_)) => Kind::Traceable,
            Some(S::ExtensionFilter(e)) => extension(e)?,
            None => return Err(required("filter_specifier")),
        }))
    }
    /// True when the entry is to be logged.
    pub fn matches(&self, cx: &FormatCx<'_>) -> bool {
        match &self.0 {
            Kind::StatusCode(c) => c.holds(u64::from(cx.info.response_code.get())),
            Kind::Duration(c) => {
                let end = cx.info.times.ds_tx_end.get().unwrap_or_else(clock::now);
                c.holds(end.saturating_duration_since(cx.info.start).as_millis() as u64)
            }
            Kind::Traceable => cx.info.trace_reason.get().is_traced() && !cx.info.health_check.get(),
            Kind::NotHealthCheck => !cx.info.health_check.get(),
            Kind::Runtime(s) => s.hits(cx),
            Kind::And(fs) => fs.iter().all(|f| f.matches(cx)),
            Kind::Or(fs) => fs.iter().any(|f| f.matches(cx)),
            Kind::Header(m) => match cx.request {
                Some(headers) => m.matches(headers),
                None => m.matches(&HeaderMap::default()),
            },
            Kind::ResponseFlag(flags) if flags.is_empty() => !cx.info.flags.get().is_empty(),
            Kind::ResponseFlag(flags) => flags.iter().any(|f| cx.info.has_flag(*f)),
            Kind::GrpcStatus { statuses, exclude } => statuses.contains(&grpc_status(cx)) != *exclude,
            Kind::Metadata(m) => m.matches(cx),
            Kind::Cel(p) => p.matches(cx),
            Kind::LogType { types, exclude } => types.contains(&(cx.log_type as i32)) != *exclude,
        }
    }
}

/// The one filter that is an extension and that there is.
fn extension(e: &pb::ExtensionFilter) -> BuildResult<Kind> {
    let none = prost_types::Any::default();
    let any = match &e.config_type {
        Some(pb::extension_filter::ConfigType::TypedConfig(any)) => any,
        None => &none,
    };
    let ty = any.type_url.rsplit('/').next().unwrap_or_default();
    if ty != ExpressionFilter::full_name() {
        return Err(match nuncio_api::extensions::find("envoy.access_loggers.extension_filters", ty) {
            Some(_) => BuildError::not_implemented(format_args!("access log filter {} ({ty})", e.name)),
            None => BuildError(nuncio_api::extensions::unregistered(&e.name, ty)),
        });
    }
    let c = ExpressionFilter::decode(&*any.value).map_err(|e| BuildError(e.to_string()))?;
    let program = Program::parse(&c.expression, cel::Options::new(c.cel_config.as_ref()));
    program.map(|p| Kind::Cel(Arc::new(p))).map_err(|e| {
        match e.0.strip_prefix("Not able to parse expression: ") {
            Some(why) => BuildError(format!("Not able to parse filter expression: {why}")),
            None => e,
        }
    })
}

fn required(field: &str) -> BuildError {
    BuildError(format!("field: \"{field}\", reason: is required"))
}

/// `ComparisonFilter`: a number held against one from configuration or runtime.
#[derive(Clone)]
struct Comparison {
    op: pb::comparison_filter::Op,
    value: RuntimeNumber,
}

impl Comparison {
    fn new(c: Option<&pb::ComparisonFilter>, cx: &BuildCx<'_>) -> BuildResult<Comparison> {
        let c = c.ok_or_else(|| required("comparison"))?;
        let RuntimeUInt32 { default_value, runtime_key } =
            c.value.clone().ok_or_else(|| required("value"))?;
        let value = cx.server.runtime().number(&runtime_key, default_value.into());
        Ok(Comparison { op: c.op(), value })
    }
    fn holds(&self, n: u64) -> bool {
        use pb::comparison_filter::Op;
        let value = self.value.get();
        match self.op {
            Op::Eq => n == value,
            Op::Ge => n >= value,
            Op::Le => n <= value,
            Op::Ne => n != value,
        }
    }
}

/// `RuntimeFilter`: a share of the entries. The same share of requests on every host on their way, unless told
/// otherwise: the request id decides.
#[derive(Clone)]
struct Sampling {
    numerator: RuntimeNumber,
    denominator: u64,
    independent: bool,
}

impl Sampling {
    fn new(f: &pb::RuntimeFilter, cx: &BuildCx<'_>) -> Sampling {
        // Unset is nought in a hundred.
        let percent = f.percent_sampled.unwrap_or_default();
        let percent = crate::matchers::FractionalPercent::new(&percent);
        Sampling {
            numerator: cx.server.runtime().number(&f.runtime_key, percent.numerator.into()),
            denominator: u64::from(percent.denominator),
            independent: f.use_independent_randomness,
        }
    }
    fn hits(&self, cx: &FormatCx<'_>) -> bool {
        let random = if self.independent { None } else { request_number(cx) };
        random.unwrap_or_else(rng::u64) % self.denominator < self.numerator.get()
    }
}

/// The first eight digits of the request id, as Envoy's UUID extension takes them.
fn request_number(cx: &FormatCx<'_>) -> Option<u64> {
    let id = cx.request?.get_str(name::X_REQUEST_ID)?;
    u64::from_str_radix(id.get(..8)?, 16).ok()
}

/// The gRPC status: of the trailers, of the headers, or what the HTTP status stands for. -1 when it is no number.
fn grpc_status(cx: &FormatCx<'_>) -> i64 {
    let of = |h: Option<&HeaderMap>| {
        let text = h?.get_str(name::GRPC_STATUS).filter(|s| !s.is_empty())?;
        Some(text.parse::<u32>().map_or(-1, i64::from))
    };
    of(cx.trailers)
        .or_else(|| of(cx.response.map(|(_, h)| h)))
        .unwrap_or_else(|| i64::from(grpc_status_of(cx.info.response_code.get())))
}

/// `MetadataFilter`. Envoy does not look at `MetadataMatcher.invert` here.
#[derive(Clone)]
struct Metadata {
    namespace: String,
    path: Vec<String>,
    value: Option<ValueMatcher>,
    unless_there: bool,
}

impl Metadata {
    fn new(f: &pb::MetadataFilter) -> BuildResult<Metadata> {
        use nuncio_api::envoy::r#type::matcher::v3::metadata_matcher::path_segment::Segment;
        let unless_there = f.match_if_key_not_found.unwrap_or(true);
        let Some(m) = &f.matcher else {
            return Ok(Metadata { namespace: String::new(), path: vec![], value: None, unless_there });
        };
        let key = |s: &nuncio_api::envoy::r#type::matcher::v3::metadata_matcher::PathSegment| match &s.segment
        {
            Some(Segment::Key(k)) => Ok(k.clone()),
            None => Err(required("segment")),
        };
        Ok(Metadata {
            namespace: m.filter.clone(),
            path: m.path.iter().map(key).collect::<BuildResult<_>>()?,
            value: m.value.as_ref().map(ValueMatcher::new).transpose()?,
            unless_there,
        })
    }
    fn matches(&self, cx: &FormatCx<'_>) -> bool {
        let metadata = cx.info.metadata.borrow();
        let path = self.path.iter().map(|s| &**s);
        let found = metadata.as_ref().and_then(|m| m.get(&self.namespace, path)).filter(|v| v.kind.is_some());
        match found {
            Some(v) => self.value.as_ref().is_some_and(|m| m.matches(Some(v))),
            None => self.unless_there,
        }
    }
}

#[cfg(test)]
#[path = "access_log_tests.rs"]
mod tests;
