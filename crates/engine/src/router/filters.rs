//! Upstream HTTP filters: those between the router and a host, for each attempt anew (`HttpProtocolOptions.http_filters` of a
//! cluster, else `Router.upstream_http_filters`).
//!
//! They are a [`Run`] within the stream's own: what they change of the request is there for the next attempt and for logs, as in
//! Envoy, and what they make of the response is what retries and outlier detection judge. Their replies go straight to
//! the client. The last of them is the codec, which is the attempt itself.

use super::attempt::{Attempt, Failed};
use crate::upstream::local::Cluster;
use crate::upstream::stream::UpResponse;
use nuncio_api::envoy::extensions::filters::http::upstream_codec::v3::UpstreamCodec;
use nuncio_api::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use nuncio_core::Exchange;
use nuncio_core::body::{Body, BodyError, BodySource, Frame};
use nuncio_core::coverage::Covered;
use nuncio_core::error::{BuildError, BuildResult, ResetReason};
use nuncio_core::filter::{BuildCx, DynFilter, Step};
use nuncio_core::info::{Interrupt, StreamShared};
use nuncio_core::pipeline::{Chain, ChainFilter, Run, Terminal};
use nuncio_core::registry::Kind;
use nuncio_core::route::FilterId;
use pb::http_filter::ConfigType::TypedConfig;
use prost::Name;
use std::cell::Cell;
use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

/// What is read of the codec's message, besides the lists themselves.
pub const COVERED: &[Covered] =
    &[Covered::new("envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec", &[])];

/// Whose filters they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// A cluster's.
    Cluster,
    /// A router's.
    Router,
}

/// The filters before the codec, as main builds them.
pub struct UpstreamFilters(Vec<(FilterId, Arc<dyn DynFilter>, bool)>);

impl std::fmt::Debug for UpstreamFilters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UpstreamFilters({})", self.0.len())
    }
}

impl UpstreamFilters {
    /// Builds a list that ends with the codec; `None` if there is no list. One with nothing but the codec is a list: a
    /// cluster says with it that it does not want the router's.
    ///
    /// # Errors
    /// A filter is refused, or the list does not end with the codec, in Envoy's words.
    pub fn new(all: &[pb::HttpFilter], owner: Owner, cx: &BuildCx<'_>) -> BuildResult<Option<Arc<Self>>> {
        let Some(last) = all.last() else { return Ok(None) };
        let is_codec = |f: &pb::HttpFilter| match &f.config_type {
            Some(TypedConfig(any)) => any.type_url.rsplit('/').next() == Some(&UpstreamCodec::full_name()),
            _ => false,
        };
        if owner == Owner::Cluster && !is_codec(last) {
            return Err("The codec filter is the only valid terminal upstream HTTP filter, use \
                        'envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec'"
                .into());
        }
        let kind = match owner {
            Owner::Cluster => "upstream",
            Owner::Router => "router upstream",
        };
        let mut filters = vec![];
        for (i, f) in all.iter().enumerate() {
            let ends = i + 1 == all.len();
            if is_codec(f) {
                if !ends {
                    return Err(format!(
                        "Error: terminal filter named {} of type envoy.filters.http.upstream_codec must be the last filter in a {kind} http filter chain.",
                        f.name
                    )
                    .into());
                }
                if f.disabled {
                    return Err(format!(
                        "Error: the last (terminal) filter ({}) in the chain cannot be disabled by default.",
                        f.name
                    )
                    .into());
                }
                continue;
            }
            let any = match &f.config_type {
                Some(TypedConfig(any)) => any,
                Some(_) => return Err(BuildError::not_implemented("HttpFilter.config_discovery upstream")),
                None => return Err(nuncio_api::extensions::unregistered(&f.name, "").into()),
            };
            match cx.registry.build_upstream_http_filter(&f.name, any, cx) {
                Ok(built) => filters.push((FilterId::of(&f.name), built, f.disabled)),
                Err(e) if f.is_optional && e.0.starts_with("Didn't find") => {}
                Err(e) => return Err(e),
            }
            if ends {
                return Err(format!(
                    "Error: non-terminal filter named {} of type {} is the last filter in a {kind} http filter chain. When upstream_http_filters are specified, they must explicitly end with an UpstreamCodec filter.",
                    f.name,
                    cx.registry.name_of(Kind::UpstreamHttpFilter, &any.type_url).unwrap_or(&f.name)
                )
                .into());
            }
        }
        Ok(Some(Arc::new(UpstreamFilters(filters))))
    }
    /// The chain of one attempt.
    fn chain(&self) -> Rc<Chain> {
        let filter = |(id, f, disabled): &(FilterId, Arc<dyn DynFilter>, bool)| ChainFilter {
            id: *id,
            filter: f.clone(),
            disabled: *disabled,
        };
        Rc::new(Chain { filters: self.0.iter().map(filter).collect(), switchable: true })
    }
}

/// The filters for requests to a cluster: its own list, else the router's; `None` if there are none in it.
pub(super) fn filters_of(
    cluster: &Cluster,
    routers: Option<&Arc<UpstreamFilters>>,
) -> Option<Arc<UpstreamFilters>> {
    cluster.plan.http.filters.as_ref().or(routers).filter(|f| !f.0.is_empty()).cloned()
}

/// The last filter: the attempt.
struct Codec<'a> {
    attempt: Cell<Option<&'a mut Attempt>>,
    result: Cell<Option<Result<UpResponse, Failed>>>,
}

impl Terminal for Codec<'_> {
    async fn serve(&self, ex: &mut Exchange) -> Step<'static> {
        if let Some(attempt) = self.attempt.take() {
            self.result.set(Some(attempt.exchange(ex).await));
        }
        Step::Next
    }
}

/// The request of an exchange in the hands of upstream filters; it comes back in every case.
struct Lent<'a> {
    ex: &'a mut Exchange,
    run: Option<Run>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if let Some(run) = &mut self.run {
            self.ex.request = std::mem::take(&mut run.ex.request);
            self.ex.request_body = run.ex.request_body.take();
        }
    }
}

impl Attempt {
    /// The exchange with the host, through the filters before it.
    pub(super) async fn through(
        &mut self,
        ex: &mut Exchange,
        filters: &UpstreamFilters,
    ) -> Result<UpResponse, Failed> {
        let sx = self.sx.clone();
        let (request, body) = (std::mem::take(&mut ex.request), ex.request_body.take());
        let run = Run::within(filters.chain(), Exchange::new(request, body, sx.clone()));
        let mut lent = Lent { ex, run: Some(run) };
        let Some(run) = &mut lent.run else { return Err(Failed::Reset(ResetReason::LocalReset.into())) };
        let codec = Codec { attempt: Cell::new(Some(self)), result: Cell::default() };
        let step = run.request(&codec).await;
        let result = codec.result.take();
        if let Step::Reply(r) = ours(step, &sx).await {
            return Err(Failed::Reply(r));
        }
        let response = result.unwrap_or_else(|| Err(Failed::Reset(ResetReason::LocalReset.into())))?;
        run.ex.response = Some(response.head);
        if !response.end
            && let Some(s) = self.stream.take()
        {
            run.ex.response_body = s.into_body();
        }
        let step = run.response().await;
        if let Step::Reply(r) = ours(step, &sx).await {
            return Err(Failed::Reply(r));
        }
        let head = run.ex.response.take().unwrap_or_default();
        let body = run.ex.response_body.take();
        let end = body.is_end();
        if let Some(run) = lent.run.take() {
            // The filters hear of the end with the request.
            lent.ex.request = run.ex.request.clone();
            self.filtered = (!end).then(|| Body::source(Filtered { body, _run: run }));
        }
        Ok(UpResponse { head, end })
    }
}

/// The step, if it is one of these filters; what was meant for the whole stream is left to whoever polls it.
async fn ours(step: Result<Step<'static>, Interrupt>, sx: &StreamShared) -> Step<'static> {
    match step {
        Ok(step) => step,
        Err(i) => {
            sx.interrupt(i);
            pending().await
        }
    }
}

/// A response's body as the filters leave it; they live as long as it does.
struct Filtered {
    body: Body,
    _run: Run,
}

impl BodySource for Filtered {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        sx: &StreamShared,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        self.body.poll_frame(cx, sx)
    }
    fn is_end(&self) -> bool {
        self.body.is_end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::simulation::world::with_cx;
    use nuncio_core::Registry;
    use nuncio_core::stats::Store;

    fn codec(name: &str, disabled: bool) -> pb::HttpFilter {
        let type_url = format!("type.googleapis.com/{}", UpstreamCodec::full_name());
        let any = prost_types::Any { type_url, value: vec![] };
        pb::HttpFilter {
            name: name.into(),
            config_type: Some(TypedConfig(any)),
            disabled,
            ..Default::default()
        }
    }

    #[test]
    fn the_codec_is_last() {
        let mut registry = Registry::default();
        crate::builtin::register(&mut registry);
        let said = |all: &[pb::HttpFilter], owner| {
            with_cx(&registry, &Store::new().root(), |cx| {
                UpstreamFilters::new(all, owner, cx).map(|f| f.is_some()).map_err(|e| e.0)
            })
        };
        let nameless = pb::HttpFilter { name: "x".into(), ..Default::default() };
        assert_eq!(said(&[], Owner::Cluster), Ok(false));
        assert_eq!(said(&[codec("c", false)], Owner::Cluster), Ok(true));
        for (all, owner, error) in [
            (
                vec![codec("c", false), codec("d", false)],
                Owner::Cluster,
                "named c of type envoy.filters.http.upstream_codec must be the last filter in a upstream http",
            ),
            (
                vec![codec("c", false), codec("d", false)],
                Owner::Router,
                "in a router upstream http filter chain.",
            ),
            (
                vec![codec("c", true)],
                Owner::Cluster,
                "the last (terminal) filter (c) in the chain cannot be disabled",
            ),
            (vec![nameless.clone()], Owner::Cluster, "The codec filter is the only valid terminal"),
            (vec![nameless], Owner::Router, "Didn't find a registered implementation for 'x'"),
        ] {
            let e = said(&all, owner).expect_err("refused");
            assert!(e.contains(error), "{e}");
        }
    }
}
