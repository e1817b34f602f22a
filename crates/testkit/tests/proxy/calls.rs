//! Calls of the proxy's own, through its clusters: gRPC on main and on a worker.

use nuncio_api::envoy::config::core::v3::{GrpcService, HeaderValue, RetryPolicy, grpc_service};
use nuncio_core::body::{Body, BodyError, BodySource, Frame};
use nuncio_core::grpc::{Client, Status, code};
use nuncio_core::info::StreamShared;
use nuncio_core::upstreams::{CallOptions, ClientOptions};
use nuncio_testkit::h2::{self, Message, Peer};
use nuncio_testkit::server::Control;
use nuncio_testkit::{Config, Server, Upstream, run};
use nuncio_wire::h2::{ErrorCode, Event, Settings};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::oneshot;

fn framed(m: &[u8]) -> Vec<u8> {
    [&nuncio_core::grpc::frame::head(m.len() as u32)[..], m].concat()
}

fn service(cluster: &str) -> GrpcService {
    let target = grpc_service::EnvoyGrpc { cluster_name: cluster.into(), ..Default::default() };
    GrpcService {
        target_specifier: Some(grpc_service::TargetSpecifier::EnvoyGrpc(target)),
        ..Default::default()
    }
}

fn client(c: &Control, s: &GrpcService) -> Client {
    c.build(|cx| Client::new(s, cx)).expect("a client")
}

/// What `f` comes to on main.
async fn on_main<T: Send + 'static, F: Future<Output = T> + 'static>(
    s: &Server,
    f: impl FnOnce(&Control) -> F + Send + 'static,
) -> T {
    let (tx, rx) = oneshot::channel();
    s.on_main(move |c| {
        let f = f(c);
        tokio::task::spawn_local(async move { drop(tx.send(f.await)) });
    })
    .await;
    rx.await.expect("it ends")
}

/// Answers each message with itself, and the end with trailers.
async fn echo() -> (Upstream, Rc<RefCell<Vec<Message>>>) {
    let seen = Rc::<RefCell<Vec<Message>>>::default();
    let s = seen.clone();
    let up = Upstream::tcp(move |io, _| {
        let seen = s.clone();
        async move {
            let mut p = Peer::server(io, Settings::default());
            while let Some(e) = p.next().await {
                match e {
                    Event::Request { id, .. } => {
                        seen.borrow_mut().push(p.message(id));
                        p.respond(id, &h2::response(200, &[("content-type", "application/grpc")]), false);
                    }
                    Event::Data { id, data, end, .. } => {
                        if !data.is_empty() {
                            p.data(id, data, false);
                        }
                        if end {
                            p.trailers(id, &[("grpc-status", "0"), ("grpc-message", "bye")]);
                        }
                    }
                    _ => {}
                }
            }
        }
    })
    .await;
    (up, seen)
}

fn with_cluster(up: std::net::SocketAddr) -> Server {
    Server::start(&Config::to_h2(up))
}

/// A message that any other of the same shape decodes.
type Text = String;

#[test]
fn one_request_one_response_on_main_and_on_a_worker() {
    run(async {
        let (up, seen) = echo().await;
        let s = with_cluster(up.addr);
        let call = |c: Client| async move {
            let text: Text = "hello".into();
            let second = Some(Duration::from_secs(10));
            c.unary::<Text>("pkg.Service/Echo", &text, second, None).await
        };
        let mut config = service("up");
        let meta = |k: &str, v: &str| HeaderValue { key: k.into(), value: v.into(), ..Default::default() };
        config.initial_metadata = vec![meta("x-meta", "m"), meta("x-time", "%START_TIME%")];
        let got = on_main(&s, move |c| call(client(c, &config))).await;
        assert_eq!(got, Ok("hello".to_owned()));
        let (tx, rx) = oneshot::channel();
        s.on_main(move |c| {
            let client = client(c, &service("up"));
            c.on_worker(move || drop(tokio::task::spawn_local(async move { tx.send(call(client).await) })));
        })
        .await;
        assert_eq!(rx.await.expect("an answer"), Ok("hello".to_owned()));
        let seen = seen.take();
        let h = |n| seen[0].header(n);
        assert_eq!((h(":method"), h(":path")), (Some("POST"), Some("/pkg.Service/Echo")));
        assert_eq!((h(":authority"), h(":scheme")), (Some("up"), Some("http")));
        assert_eq!((h("content-type"), h("grpc-timeout")), (Some("application/grpc"), Some("10000m")));
        // A format without a stream behind it stands as it is.
        assert_eq!((h("x-meta"), h("x-time")), (Some("m"), Some("%START_TIME%")));
        assert_eq!(h("x-envoy-internal"), Some("true"));
        assert_eq!(h("x-envoy-upstream-rq-timeout-ms"), None);
        assert!(h("x-forwarded-for").is_some_and(|a| a.parse::<std::net::IpAddr>().is_ok()));
        assert_eq!(seen[1].header("te"), Some("trailers"));
        s.expect(&[
            ("cluster.up.upstream_cx_total", 2),
            ("cluster.up.upstream_rq_200", 2),
            ("cluster.up.internal.upstream_rq_200", 2),
            ("cluster.up.upstream_rq_active", 0),
            ("http.async-client.rq_total", 2),
        ])
        .await;
    });
}

#[test]
fn messages_go_both_ways_and_the_end_is_heard() {
    run(async {
        let (up, _) = echo().await;
        let s = with_cluster(up.addr);
        let (all, end) = on_main(&s, |c| {
            let mut stream = client(c, &service("up")).open("pkg.Service/Chat", None, None);
            async move {
                let mut all = vec![];
                for n in 0..20u32 {
                    assert!(stream.sender.send(vec![n as u8; 30_000]));
                    all.push(stream.receiver.message().await.expect("an answer").len());
                }
                stream.sender.end();
                (all, stream.receiver.message().await.expect_err("it is over"))
            }
        })
        .await;
        assert_eq!(all, [30_000; 20]);
        assert_eq!(end, Status::new(code::OK, "bye{via_upstream}"));
    });
}

#[test]
fn a_stream_that_is_dropped_is_reset() {
    run(async {
        let (told, was_told) = oneshot::channel();
        let told = Rc::new(RefCell::new(Some(told)));
        let up = Upstream::tcp(move |io, _| {
            let told = told.clone();
            async move {
                let mut p = Peer::server(io, Settings::default());
                while let Some(e) = p.next().await {
                    match e {
                        Event::Data { id, .. } => {
                            p.respond(id, &h2::response(200, &[]), false);
                            p.data(id, framed(b"a"), false);
                        }
                        Event::Reset { code, .. } => {
                            told.borrow_mut()
                                .take()
                                .into_iter()
                                .for_each(|t| t.send(code).unwrap_or_default());
                        }
                        _ => {}
                    }
                }
            }
        })
        .await;
        let s = with_cluster(up.addr);
        on_main(&s, |c| {
            let mut stream = client(c, &service("up")).open("pkg.Service/Chat", None, None);
            async move {
                stream.sender.send(&b"x"[..]);
                assert_eq!(&stream.receiver.message().await.expect("a message")[..], b"a");
            }
        })
        .await;
        assert_eq!(was_told.await.expect("a reset"), ErrorCode::INTERNAL_ERROR);
        s.expect(&[("cluster.up.upstream_rq_active", 0), ("cluster.up.upstream_rq_tx_reset", 1)]).await;
    });
}

#[test]
fn failures_have_statuses() {
    run(async {
        let config = Config::new().h2_cluster("gone", Upstream::refusing(), "", "");
        let silent =
            Upstream::tcp(|io, _| async move { Peer::server(io, Settings::default()).closed().await }).await;
        let s = Server::start(&config.h2_cluster("silent", silent.addr, "", ""));
        for (cluster, want) in [
            ("none", Status::new(code::UNAVAILABLE, "Cluster not available")),
            (
                "gone",
                Status::new(
                    code::UNAVAILABLE,
                    "upstream connect error or disconnect/reset before headers. reset reason: remote connection \
                     failure{upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:\
                     _Connection_refused}}",
                ),
            ),
            ("silent", Status::new(code::UNAVAILABLE, "upstream request timeout{response_timeout}")),
        ] {
            let got = on_main(&s, move |c| {
                let c = client(c, &service(cluster));
                async move {
                    let t = Some(Duration::from_millis(300));
                    c.unary::<Text>("pkg.Service/Echo", &Text::new(), t, None).await
                }
            })
            .await;
            assert_eq!(got, Err(want), "{cluster}");
        }
        s.expect(&[("cluster.silent.upstream_rq_timeout", 1), ("http.async-client.rq_total", 2)]).await;
    });
}

#[test]
fn what_failed_is_called_again_when_the_policy_says_so() {
    run(async {
        let up = Upstream::tcp(|io, _| async move {
            let mut p = Peer::server(io, Settings::default());
            let mut calls = 0;
            while let Some(e) = p.next().await {
                let Event::Data { id, end: true, .. } = e else { continue };
                let data = p.message(id).body;
                calls += 1;
                if calls < 3 {
                    p.respond(id, &h2::response(200, &[("grpc-status", "14")]), true);
                } else {
                    p.respond(id, &h2::response(200, &[]), false);
                    p.data(id, data, false);
                    p.trailers(id, &[("grpc-status", "0")]);
                }
            }
        })
        .await;
        let s = with_cluster(up.addr);
        let mut config = service("up");
        let ms = |n| prost_types::Duration { seconds: 0, nanos: n * 1_000_000 };
        let back_off = nuncio_api::envoy::config::core::v3::BackoffStrategy {
            base_interval: Some(ms(1)),
            max_interval: Some(ms(2)),
        };
        config.retry_policy = Some(
            RetryPolicy {
                retry_on: "unavailable".into(),
                num_retries: Some(2),
                retry_back_off: Some(back_off),
                ..Default::default()
            }
            .into(),
        );
        let got = on_main(&s, move |c| {
            let c = client(c, &config);
            async move { c.unary::<Text>("pkg.Service/Echo", &Text::from("again"), None, None).await }
        })
        .await;
        assert_eq!(got, Ok("again".to_owned()));
        s.expect(&[("cluster.up.upstream_rq_retry", 2), ("cluster.up.upstream_rq_retry_success", 1)]).await;
    });
}

/// A request's body of which nothing comes; tells when it goes.
struct Endless(Rc<Cell<usize>>);

impl BodySource for Endless {
    fn poll_frame(
        &mut self,
        _: &mut Context<'_>,
        _: &StreamShared,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        Poll::Pending
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn a_call_that_ends_before_its_request_holds_nothing() {
    run(async {
        // It answers the first with its head alone, resets the second and is silent after that.
        let up = Upstream::tcp(|io, _| async move {
            let (mut p, mut seen) = (Peer::server(io, Settings::default()), 0);
            while let Some(e) = p.next().await {
                let Event::Request { id, .. } = e else { continue };
                match seen {
                    0 => p.respond(id, &h2::response(404, &[]), true),
                    1 => p.codec.reset(id, ErrorCode::INTERNAL_ERROR),
                    _ => {}
                }
                seen += 1;
            }
        })
        .await;
        let s = with_cluster(up.addr);
        let gone = on_main(&s, |c| {
            let http = c
                .build(|cx| cx.server.http_client(&ClientOptions::new("up"), cx))
                .expect("a client of the cluster");
            async move {
                let gone = Rc::<Cell<usize>>::default();
                let mut seen = vec![];
                for _ in 0..3 {
                    let head = h2::request("POST", "/", &[]);
                    let call = http.call(head, Body::source(Endless(gone.clone())), CallOptions::default());
                    drop(tokio::time::timeout(Duration::from_millis(300), call).await);
                    seen.push(gone.get());
                }
                seen
            }
        })
        .await;
        assert_eq!(gone, [1, 2, 3]);
    });
}
