//! What a route says about the spans of its requests: `decorator` and `tracing`.

use nuncio_api::envoy::config::route::v3 as pb;
use nuncio_core::coverage::Covered;
use nuncio_core::error::BuildResult;
use nuncio_core::format::HeaderFormatter;
use nuncio_core::matchers::FractionalPercent;
use nuncio_core::tracing::tags::CustomTag;
use std::sync::Arc;

/// What is read of it.
pub const COVERED: &[Covered] = &[
    Covered::new("envoy.config.route.v3.Decorator", &["operation", "propagate"]),
    Covered::new(
        "envoy.config.route.v3.Tracing",
        &[
            "client_sampling",
            "random_sampling",
            "overall_sampling",
            "custom_tags",
            "operation",
            "upstream_operation",
        ],
    ),
];

/// What a route says about its spans.
pub struct RouteTracing {
    /// `client_sampling`, `random_sampling`, `overall_sampling`, where the route has `tracing`.
    pub sampling: Option<[FractionalPercent; 3]>,
    /// `custom_tags`
    pub tags: Arc<[CustomTag]>,
    /// `operation`
    pub operation: Option<HeaderFormatter>,
    /// `upstream_operation`
    pub upstream_operation: Option<Arc<HeaderFormatter>>,
    /// `decorator`
    pub decorator: Option<Decorator>,
}

/// `Decorator`
pub struct Decorator {
    /// `operation`
    pub operation: String,
    /// `propagate`
    pub propagate: bool,
}

impl RouteTracing {
    /// Of a route, if it says something.
    ///
    /// # Errors
    /// A format or a tag is refused.
    pub fn of(r: &pb::Route) -> BuildResult<Option<Box<RouteTracing>>> {
        if r.tracing.is_none() && r.decorator.is_none() {
            return Ok(None);
        }
        let always = FractionalPercent::ALWAYS;
        let sampling = r.tracing.as_ref().map(|t| {
            [&t.client_sampling, &t.random_sampling, &t.overall_sampling]
                .map(|f| f.as_ref().map_or(always, FractionalPercent::new))
        });
        let t = r.tracing.clone().unwrap_or_default();
        let format = |f: &str| (!f.is_empty()).then(|| HeaderFormatter::new(f)).transpose();
        Ok(Some(Box::new(RouteTracing {
            sampling,
            tags: CustomTag::list(&t.custom_tags)?.into(),
            operation: format(&t.operation)?,
            upstream_operation: format(&t.upstream_operation)?.map(Arc::new),
            decorator: r.decorator.as_ref().map(|d| Decorator {
                operation: d.operation.clone(),
                propagate: d.propagate.unwrap_or(true),
            }),
        })))
    }
}
