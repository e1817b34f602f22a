//! Trailers arrive when the hooks are over: a wrapper around the body changes them as they pass.

use super::headers::HeaderMutations;
use super::target::Target;
use super::{HeaderMutation, Mutations};
use nuncio_core::StreamShared;
use nuncio_core::body::{Body, BodyError, BodySource, Frame};
use nuncio_wire::HeaderMap;
use smallvec::SmallVec;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// The rules that apply to the trailers of one direction.
pub struct Rules {
    /// The filter's own.
    pub filter: Arc<HeaderMutation>,
    /// Those of the route levels, in the order in which they run.
    pub levels: SmallVec<[Arc<Mutations>; 4]>,
    /// Which list of them.
    pub of: fn(&Mutations) -> &HeaderMutations,
}

impl Rules {
    fn iter(&self) -> impl Iterator<Item = &HeaderMutations> {
        std::iter::once(&self.filter.mutations).chain(self.levels.iter().map(|l| &**l)).map(self.of)
    }
    /// Wraps a body. The heads are kept for values that refer to them.
    pub fn wrap(self, body: Body, request: &HeaderMap, response: Option<(u16, &HeaderMap)>) -> Body {
        let heads = self.iter().any(HeaderMutations::look_at_exchange);
        let request = heads.then(|| request.clone());
        let response = response.filter(|_| heads).map(|(status, h)| (status, h.clone()));
        Body::source(ChangedTrailers { rules: self, body, request, response })
    }
}

struct ChangedTrailers {
    rules: Rules,
    body: Body,
    request: Option<HeaderMap>,
    response: Option<(u16, HeaderMap)>,
}

impl BodySource for ChangedTrailers {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        sx: &StreamShared,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        let mut frame = ready!(self.body.poll_frame(cx, sx));
        if let Some(Ok(Frame::Trailers(trailers))) = &mut frame {
            let route = sx.current_route();
            let mut target = Target::Trailers {
                request: self.request.as_ref(),
                response: self.response.as_ref().map(|(status, h)| (*status, h)),
                trailers,
                sx,
                route: route.as_deref(),
            };
            self.rules.iter().for_each(|m| m.apply(&mut target, |_| false));
        }
        Poll::Ready(frame)
    }
    fn is_end(&self) -> bool {
        self.body.is_end()
    }
}
