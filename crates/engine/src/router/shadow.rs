//! Request mirroring (`request_mirror_policies`): a copy of a request goes to another cluster, and nobody waits for what
//! becomes of it.

use super::attempt::Attempt;
use super::charge::Account;
use super::filters::filters_of;
use super::{Router, Timeout};
use crate::stats::RouterStats;
use crate::upstream::lb::Anywhere;
use crate::upstream::local::Clusters;
use nuncio_api::envoy::config::route::v3::route_action::RequestMirrorPolicy;
use nuncio_core::Exchange;
use nuncio_core::address::IpText;
use nuncio_core::body::{Body, BodyError, BodySource, Frame};
use nuncio_core::coverage::Covered;
use nuncio_core::error::{BuildError, BuildResult, ResetReason};
use nuncio_core::filter::BuildCx;
use nuncio_core::info::StreamShared;
use nuncio_core::matchers::FractionalPercent;
use nuncio_core::runtime::RuntimeFraction;
use nuncio_wire::{HeaderName, RequestHead, name};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// What is read of the policy.
pub const COVERED: &[Covered] = &[Covered::new(
    "envoy.config.route.v3.RouteAction.RequestMirrorPolicy",
    &[
        "cluster",
        "cluster_header",
        "runtime_fraction",
        "disable_shadow_host_suffix_append",
        "host_rewrite_literal",
    ],
)
.ignoring(&[("trace_sampled", "says whether mirrored requests are traced; nothing is")])];

/// The policies of a route, or of its virtual host, or of the table.
pub type ShadowPolicies = Arc<[ShadowPolicy]>;

/// A compiled `RequestMirrorPolicy`.
pub struct ShadowPolicy {
    /// Its name, or the header that holds it.
    cluster: Result<String, HeaderName>,
    fraction: Option<RuntimeFraction>,
    /// `disable_shadow_host_suffix_append`
    keep_host: bool,
    /// `host_rewrite_literal`
    host: Box<str>,
    /// Our address, for `x-forwarded-for`.
    from: IpAddr,
    /// `http.async-client.`
    stats: RouterStats,
}

/// Compiles the policies of one level; `above` holds where there are none.
///
/// # Errors
/// A policy names no cluster, two, or one that does not exist.
pub fn policies(
    all: &[RequestMirrorPolicy],
    above: Option<&ShadowPolicies>,
    validate: bool,
    cx: &BuildCx<'_>,
) -> BuildResult<Option<ShadowPolicies>> {
    if all.is_empty() {
        return Ok(above.cloned());
    }
    let made = all.iter().map(|p| ShadowPolicy::new(p, validate, cx)).collect::<BuildResult<Vec<_>>>()?;
    Ok(Some(made.into()))
}

impl ShadowPolicy {
    fn new(p: &RequestMirrorPolicy, validate: bool, cx: &BuildCx<'_>) -> BuildResult<ShadowPolicy> {
        let cluster = match (&*p.cluster, &*p.cluster_header) {
            ("", "") => {
                return Err(
                    "Exactly one of cluster or cluster_header in request mirror policy need to be specified"
                        .into(),
                );
            }
            (c, "") if validate && !cx.server.has_cluster(c) => {
                return Err(BuildError(format!("route: unknown shadow cluster '{c}'")));
            }
            (c, "") => Ok(c.to_owned()),
            ("", h) => Err(HeaderName::new(h)),
            (c, h) => {
                return Err(BuildError(format!(
                    "Only one of cluster '{c}' or cluster_header '{h}' in request mirror policy can be specified"
                )));
            }
        };
        let fraction = p.runtime_fraction.as_ref().map(|f| {
            let default = f.default_value.as_ref().map_or(FractionalPercent::NEVER, FractionalPercent::new);
            cx.server.runtime().fraction(&f.runtime_key, default)
        });
        Ok(ShadowPolicy {
            cluster,
            fraction,
            keep_host: p.disable_shadow_host_suffix_append,
            host: p.host_rewrite_literal.as_str().into(),
            from: nuncio_core::address::local_ip(),
            stats: RouterStats::new(&cx.scope.store().root().scope("http").scope("async-client")),
        })
    }
    /// The head of the copy.
    fn head(&self, request: &RequestHead) -> RequestHead {
        let mut head = request.clone();
        if !self.host.is_empty() {
            head.headers.set(name::AUTHORITY, self.host.as_bytes());
        }
        if !self.keep_host {
            let host = with_suffix(head.authority());
            head.headers.set(name::AUTHORITY, &host);
        }
        head.headers.set(name::X_ENVOY_INTERNAL, b"true");
        head.headers.append_to(name::X_FORWARDED_FOR, b",", &IpText::of(self.from));
        head
    }
}

/// `host-shadow`, before the port.
fn with_suffix(host: &[u8]) -> Vec<u8> {
    let port = host.iter().rposition(|b| *b == b':').filter(|i| {
        let port = &host[i + 1..];
        !port.is_empty() && port.iter().all(u8::is_ascii_digit)
    });
    let (host, port) = host.split_at(port.unwrap_or(host.len()));
    [host, b"-shadow", port].concat()
}

impl Router {
    /// Sends copies of a request whose head is as the upstream is to get it. `limit`: how many bytes of its body may wait for
    /// the slowest of them; then the body is read no further.
    pub(super) fn mirror(&self, ex: &mut Exchange, all: &[ShadowPolicy], timeout: Timeout, limit: usize) {
        if ex.request.is_connect() {
            return;
        }
        let mut feeds = vec![];
        for p in all {
            if p.fraction.as_ref().is_some_and(|f| !f.matches(ex.sx.info.random.get())) {
                continue;
            }
            let cluster = match &p.cluster {
                Ok(c) => c,
                Err(h) => match ex.request.headers.get_str(h) {
                    Some(c) if !c.is_empty() => c,
                    _ => continue,
                },
            };
            let Some(cluster) = Clusters::here().get(cluster) else { continue };
            let body = match ex.request_body.is_end() {
                true => Body::Empty,
                false => {
                    let feed = Rc::new(RefCell::new(Feed::default()));
                    feeds.push(feed.clone());
                    Body::source(Copied(feed))
                }
            };
            p.stats.rq_total().inc();
            let sx = StreamShared::new(ex.sx.conn.clone(), None);
            sx.info.protocol.set(ex.sx.info.protocol.get());
            let account = Account::new(cluster, self.dynamic_stats, true, None);
            let copy = Exchange::new(p.head(&ex.request), body, sx);
            ex.sx.detach(send(copy, account, timeout));
        }
        if !feeds.is_empty() {
            let body = ex.request_body.take();
            ex.request_body = Body::source(Tee { body, feeds, limit: limit.max(1), over: false });
        }
    }
}

/// Sends a copy and reads its response to the end.
async fn send(mut ex: Exchange, account: Account, timeout: Timeout) {
    let sx = ex.sx.clone();
    let Some(host) = account.cluster.choose(&Anywhere) else {
        account.cluster.plan.stats.upstream_cx_none_healthy().inc();
        account.reply(None, &ex.sx, 503);
        return;
    };
    sx.info.attempts.set(1);
    let mut attempt = Attempt::new(account, host, sx.clone(), 0, timeout, None);
    attempt.filters = filters_of(&attempt.account().cluster, None);
    let result = {
        let mut run = pin!(attempt.run(&mut ex));
        poll_fn(|cx| match sx.poll_beside(cx) {
            Some(_) => Poll::Ready(None),
            None => run.as_mut().poll(cx).map(Some),
        })
        .await
    };
    match result {
        None => {} // the attempt charges what has interrupted it
        Some(Err(e)) => drop(attempt.failed(&ex, e)),
        Some(Ok(mut response)) => {
            attempt.answered(&mut ex, &mut response, true);
            let mut body = attempt.into_body(response.end);
            poll_fn(|cx| {
                loop {
                    if sx.poll_beside(cx).is_some() {
                        return Poll::Ready(());
                    }
                    match body.poll_frame(cx, &sx) {
                        Poll::Ready(Some(Ok(_))) => {}
                        Poll::Ready(_) => return Poll::Ready(()),
                        Poll::Pending => return Poll::Pending,
                    }
                }
            })
            .await;
        }
    }
    sx.drop_sides();
}

/// What one copy has still to take of the body.
#[derive(Default)]
struct Feed {
    frames: VecDeque<Frame>,
    bytes: usize,
    end: End,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// Nobody reads any more.
    left: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum End {
    #[default]
    Open,
    Whole,
    Cut,
}

impl Feed {
    fn push(&mut self, f: Frame, bytes: usize) {
        if !self.left {
            self.bytes += bytes;
            self.frames.push_back(f);
            self.reader.take().into_iter().for_each(Waker::wake);
        }
    }
    fn end(&mut self, how: End) {
        self.end = how;
        self.reader.take().into_iter().for_each(Waker::wake);
    }
}

/// The request's body, of which copies are made as it is read.
struct Tee {
    body: Body,
    feeds: Vec<Rc<RefCell<Feed>>>,
    limit: usize,
    over: bool,
}

impl BodySource for Tee {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        sx: &StreamShared,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        for f in &self.feeds {
            let mut f = f.borrow_mut();
            if f.bytes >= self.limit {
                f.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
        }
        let frame = self.body.poll_frame(cx, sx);
        let feeds = self.feeds.iter().map(|f| f.borrow_mut());
        match &frame {
            Poll::Ready(Some(Ok(Frame::Data(c)))) => {
                feeds.into_iter().for_each(|mut f| f.push(Frame::Data(c.clone()), c.len()));
            }
            Poll::Ready(Some(Ok(Frame::Trailers(t)))) => {
                feeds.into_iter().for_each(|mut f| f.push(Frame::Trailers(t.clone()), 0));
            }
            Poll::Ready(None) => {
                feeds.into_iter().for_each(|mut f| f.end(End::Whole));
                self.over = true;
            }
            _ => {}
        }
        if matches!(&frame, Poll::Ready(Some(Ok(Frame::Trailers(_))))) || self.body.is_end() {
            self.feeds.iter().for_each(|f| f.borrow_mut().end(End::Whole));
            self.over = true;
        }
        frame
    }
    fn is_end(&self) -> bool {
        self.body.is_end()
    }
}

impl Drop for Tee {
    fn drop(&mut self) {
        if !self.over {
            self.feeds.iter().for_each(|f| f.borrow_mut().end(End::Cut));
        }
    }
}

/// The body of a copy.
struct Copied(Rc<RefCell<Feed>>);

impl BodySource for Copied {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        _: &StreamShared,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        let mut f = self.0.borrow_mut();
        if let Some(frame) = f.frames.pop_front() {
            if let Frame::Data(c) = &frame {
                f.bytes -= c.len();
            }
            f.writer.take().into_iter().for_each(Waker::wake);
            return Poll::Ready(Some(Ok(frame)));
        }
        match f.end {
            End::Whole => Poll::Ready(None),
            End::Cut => Poll::Ready(Some(Err(BodyError::Reset(ResetReason::LocalReset)))),
            End::Open => {
                f.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
    fn is_end(&self) -> bool {
        let f = self.0.borrow();
        f.frames.is_empty() && f.end == End::Whole
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        let mut f = self.0.borrow_mut();
        (f.left, f.bytes) = (true, 0);
        f.frames.clear();
        f.writer.take().into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nuncio_core::address::Address;
    use nuncio_core::info::ConnInfo;
    use nuncio_wire::Chunk;

    struct List(Vec<&'static str>);
    impl BodySource for List {
        fn poll_frame(
            &mut self,
            _: &mut Context<'_>,
            _: &StreamShared,
        ) -> Poll<Option<Result<Frame, BodyError>>> {
            if self.0.is_empty() {
                return Poll::Ready(None);
            }
            Poll::Ready(Some(Ok(Frame::Data(Chunk::from(self.0.remove(0).as_bytes().to_vec())))))
        }
    }

    fn read(body: &mut Body) -> String {
        let a = Address::from(std::net::SocketAddr::from(([127, 0, 0, 1], 1)));
        let sx = StreamShared::new(Rc::new(ConnInfo::new(1, Default::default(), a.clone(), a)), None);
        let mut cx = Context::from_waker(Waker::noop());
        match body.poll_frame(&mut cx, &sx) {
            Poll::Ready(Some(Ok(Frame::Data(c)))) => String::from_utf8(c.to_vec()).expect("text"),
            Poll::Ready(Some(Ok(Frame::Trailers(_)))) => "trailers".into(),
            Poll::Ready(Some(Err(_))) => "error".into(),
            Poll::Ready(None) => "end".into(),
            Poll::Pending => "pending".into(),
        }
    }
    fn tee(limit: usize) -> (Body, Body) {
        let feed = Rc::new(RefCell::new(Feed::default()));
        let body = Body::source(List(vec!["ab", "cd", "ef"]));
        let copy = Body::source(Copied(feed.clone()));
        (Body::source(Tee { body, feeds: vec![feed], limit, over: false }), copy)
    }

    #[test]
    fn the_copy_gets_what_is_read_and_slows_it_down() {
        let (mut body, mut copy) = tee(3);
        assert_eq!(
            (read(&mut copy), read(&mut body), read(&mut body)),
            ("pending".into(), "ab".into(), "cd".into())
        );
        assert_eq!(read(&mut body), "pending", "three bytes at most wait, and what came beyond them");
        assert_eq!(
            (read(&mut copy), read(&mut copy), read(&mut copy)),
            ("ab".into(), "cd".into(), "pending".into())
        );
        assert_eq!((read(&mut body), read(&mut body)), ("ef".into(), "end".into()));
        assert_eq!((read(&mut copy), read(&mut copy)), ("ef".into(), "end".into()));
    }

    #[test]
    fn either_may_leave() {
        let (mut body, copy) = tee(1);
        assert_eq!(read(&mut body), "ab");
        assert_eq!(read(&mut body), "pending");
        drop(copy);
        assert_eq!(
            (read(&mut body), read(&mut body), read(&mut body)),
            ("cd".into(), "ef".into(), "end".into())
        );

        let (mut body, mut copy) = tee(10);
        assert_eq!(read(&mut body), "ab");
        drop(body);
        assert_eq!((read(&mut copy), read(&mut copy)), ("ab".into(), "error".into()));
    }

    #[test]
    fn hosts() {
        for (host, want) in [
            ("a.example", "a.example-shadow"),
            ("a.example:80", "a.example-shadow:80"),
            ("[::1]", "[::1]-shadow"),
            ("[::1]:80", "[::1]-shadow:80"),
        ] {
            assert_eq!(with_suffix(host.as_bytes()), want.as_bytes());
        }
    }
}
