//! `TcpProxy.tunneling_config`, built on main.

use crate::http::origin::trace_reasons;
use nuncio_api::envoy::config::core::v3 as core;
use nuncio_api::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::TunnelingConfig;
use nuncio_core::error::BuildResult;
use nuncio_core::format::{Formatter, Purpose};
use nuncio_core::header_rules::Rules;
use nuncio_wire::HeaderName;

/// How tunnels are asked for.
pub struct TunnelPlan {
    /// `hostname`: a format, evaluated for each connection.
    pub hostname: Formatter,
    /// `post_path`, `/` by default, with `use_post`; else the method is CONNECT.
    pub post_path: Option<Box<str>>,
    /// `headers_to_add`
    pub headers: Rules,
    /// `propagate_response_headers`
    pub propagate_headers: bool,
    /// `propagate_response_trailers`
    pub propagate_trailers: bool,
    /// `request_id_extension`
    pub request_id: Option<RequestId>,
}

/// Where the id of a request for a tunnel is told.
pub struct RequestId {
    /// `request_id_header`, `x-request-id` by default.
    pub header: HeaderName,
    /// `request_id_metadata_key`, `tunnel_request_id` by default.
    pub key: String,
}

impl TunnelPlan {
    /// Builds it.
    ///
    /// # Errors
    /// A format is refused, or there is a path without POST.
    pub fn new(c: &TunnelingConfig) -> BuildResult<TunnelPlan> {
        if !c.post_path.is_empty() && !c.use_post {
            return Err("Can't set a post path when POST method isn't used".into());
        }
        let path = if c.post_path.is_empty() { "/" } else { &c.post_path };
        let source = core::DataSource {
            specifier: Some(core::data_source::Specifier::InlineString(c.hostname.clone())),
            ..Default::default()
        };
        let hostname = core::SubstitutionFormatString {
            format: Some(core::substitution_format_string::Format::TextFormatSource(source)),
            ..Default::default()
        };
        Ok(TunnelPlan {
            hostname: Formatter::new(&hostname, Purpose::Body)?,
            post_path: c.use_post.then(|| path.into()),
            headers: Rules::new(&c.headers_to_add, &[])?,
            propagate_headers: c.propagate_response_headers,
            propagate_trailers: c.propagate_response_trailers,
            request_id: request_id(c)?,
        })
    }
}

fn request_id(c: &TunnelingConfig) -> BuildResult<Option<RequestId>> {
    let Some(extension) = c.request_id_extension.as_ref().filter(|e| e.typed_config.is_some()) else {
        return Ok(None);
    };
    // Ids of tunnels say nothing of tracing.
    trace_reasons(Some(extension))?;
    let or = |text: &str, default: &str| if text.is_empty() { default.to_owned() } else { text.to_owned() };
    Ok(Some(RequestId {
        header: HeaderName::new(&or(&c.request_id_header, "x-request-id")),
        key: or(&c.request_id_metadata_key, "tunnel_request_id"),
    }))
}
