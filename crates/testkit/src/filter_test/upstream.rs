//! One exchange: the chain, the upstream at its end, and the connection that reads the response.

use super::message::{Payload, Reply, Seen, SeenRequest};
use super::{FilterTest, build::Built};
use nuncio_core::address::Address;
use nuncio_core::body::{Body, BodyError, Frame};
use nuncio_core::info::{ConnInfo, HostInfo, ListenerInfo};
use nuncio_core::pipeline::{Outcome, Run, Terminal};
use nuncio_core::route::RouteSource;
use nuncio_core::{Exchange, Flag, Step, StreamShared};
use nuncio_wire::{HeaderMap, RequestHead, Version};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// In place of the router.
struct Upstream {
    reply: Reply,
    seen: RefCell<Option<SeenRequest>>,
}

impl Terminal for Upstream {
    async fn serve<'a>(&'a self, ex: &'a mut Exchange) -> Step<'static> {
        let headers = ex.request.headers.clone();
        let mut body = ex.request_body.take();
        let (text, trailers, end) = read(&mut body, &ex.sx).await;
        match end {
            None => {}
            Some(BodyError::Reply(r)) => return Step::Reply(r),
            Some(BodyError::Reset(_)) => return Step::reply(503, "reset", "reset"),
        }
        *self.seen.borrow_mut() = Some(SeenRequest { headers, body: text, trailers });
        let reply = self.reply.clone();
        if let Some(text) = &reply.host {
            let host = HostInfo { address_text: text.as_str().into(), ..Default::default() };
            ex.sx.info.upstream.borrow_mut().host = Some(Arc::new(host));
        }
        ex.sx.info.set_details("via_upstream");
        ex.response = Some(reply.head);
        ex.response_body = reply.payload.into_body();
        Step::Next
    }
}

/// Everything a body yields, and why it ended early.
async fn read(body: &mut Body, sx: &StreamShared) -> (String, Option<HeaderMap>, Option<BodyError>) {
    let (mut text, mut trailers) = (vec![], None);
    let end = loop {
        match body.frame(sx).await {
            Some(Ok(Frame::Data(d))) => {
                assert!(trailers.is_none(), "data behind the trailers");
                text.extend_from_slice(&d);
            }
            Some(Ok(Frame::Trailers(t))) => {
                assert!(trailers.is_none(), "trailers twice");
                trailers = Some(*t);
            }
            Some(Err(e)) => break Some(e),
            None => break None,
        }
    };
    (String::from_utf8_lossy(&text).into_owned(), trailers, end)
}

/// Runs a request through the chain of `test`.
pub(super) fn exchange(test: &FilterTest, head: RequestHead, payload: Payload) -> Seen {
    let built = test.built.get().expect("`FilterTest::request` has built it");
    let reply = test.reply.borrow().clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build_local(tokio::runtime::LocalOptions::default())
        .expect("a runtime");
    runtime.block_on(async {
        // Timers of filters: real ones, unless the test has taken the clock over.
        tokio::task::spawn_local(nuncio_core::clock::run_wheel());
        run(built, reply, head, payload).await
    })
}

async fn run(built: &Built, reply: Reply, head: RequestHead, payload: Payload) -> Seen {
    let address = |a: &str| Address::Ip(a.parse().expect("an address"));
    let listener = Arc::new(ListenerInfo { name: "test_listener".into(), ..Default::default() });
    let conn = ConnInfo::new(1, listener, address("127.0.0.1:40000"), address("127.0.0.1:80"));
    let routes = built.routes.clone().map(|r| r as Rc<dyn RouteSource>);
    let sx = StreamShared::new(Rc::new(conn), routes);
    sx.info.protocol.set(Some(Version::Http11));
    let upstream = Upstream { reply, seen: RefCell::default() };
    let ex = Exchange::new(head, payload.into_body(), sx.clone());
    let mut run = Run::new(built.chain.clone(), ex, None);
    let mut seen = Seen {
        upstream: None,
        status: 0,
        headers: HeaderMap::default(),
        body: String::new(),
        trailers: None,
        broken: false,
        details: String::new(),
        flags: String::new(),
        sx: sx.clone(),
    };
    if run.hooks(&upstream).await == Outcome::Respond {
        let response = run.ex.response.take().expect("a response");
        sx.info.response_code.set(response.status);
        (seen.status, seen.headers) = (response.status, response.headers.clone());
        run.ex.response = Some(response);
        let mut body = run.ex.response_body.take();
        let end;
        (seen.body, seen.trailers, end) = read(&mut body, &sx).await;
        seen.broken = end.is_some();
    }
    drop(run);
    // What goes on without the stream has its turn.
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
    seen.upstream = upstream.seen.into_inner();
    seen.details = sx.info.details.borrow().to_string();
    let flags: Vec<_> = sx.info.flags.get().iter().map(Flag::short).collect();
    seen.flags = if flags.is_empty() { "-".into() } else { flags.join(",") };
    seen
}
