use crate::testing::filters;
use nuncio_core::base64::encode;
use nuncio_testkit::FilterTest;
use nuncio_testkit::filter_test::{Reply, Request};

const TYPE: &str = "'@type': type.googleapis.com/envoy.extensions.filters.http.grpc_web.v3.GrpcWeb";

fn test() -> FilterTest {
    filters(&format!("- {{name: w, typed_config: {{{TYPE}}}}}")).route_config(
        "virtual_hosts: [{name: v, domains: ['*'], routes: [{match: {prefix: /}, route: {cluster: c}}]}]",
    )
}

fn request<'a>(t: &'a FilterTest, content_type: &str) -> Request<'a> {
    t.request("POST /s.S/m").header("content-type", content_type).header("content-length", "7")
}

fn grpc() -> Reply {
    Reply::new(200).header("content-type", "application/grpc").header("content-length", "7")
}

const FRAME: &[u8] = b"\0\0\0\0\x02hi";
const TRAILERS: &[u8] = b"\x80\0\0\0\x14grpc-status:0\r\nx:y\r\n";

#[test]
fn binary() {
    let t = test().upstream_replies(grpc().body(FRAME).trailer("grpc-status", "0").trailer("x", "y"));
    let seen = request(&t, "application/grpc-web+proto").body(FRAME).send();
    let up = seen.upstream();
    assert_eq!((up.body.as_bytes(), up.header("content-length")), (FRAME, None));
    let header = |n: &str| up.header(n).unwrap_or_default();
    assert_eq!(
        [header("content-type"), header("te"), header("grpc-accept-encoding")],
        ["application/grpc", "trailers", "identity"]
    );
    assert_eq!(seen.header("content-type").as_deref(), Some("application/grpc-web+proto"));
    assert_eq!((seen.header("content-length"), seen.trailers.is_none()), (None, true));
    let want = String::from_utf8_lossy(&[FRAME, TRAILERS].concat()).into_owned();
    assert_eq!(seen.body, want);
    let stat = |n: &str| t.stat(&format!("cluster.c.grpc-web.s.S.m.{n}"));
    assert_eq!((stat("0"), stat("success"), stat("total")), (1, 1, 1));
}

#[test]
fn text_however_it_is_cut() {
    let text = encode(FRAME);
    let two = [FRAME, FRAME].concat();
    for size in 1..two.len() {
        let reply = two.chunks(size).fold(grpc(), |r, part| r.body(part));
        let t = test().upstream_replies(reply.trailer("grpc-status", "0").trailer("x", "y"));
        let r = request(&t, "application/grpc-web-text").header("accept", "application/grpc-web-text+proto");
        let seen = text.as_bytes().chunks(size).fold(r, |r, part| r.body(part)).send();
        assert_eq!(seen.upstream().body.as_bytes(), FRAME);
        assert_eq!(seen.header("content-type").as_deref(), Some("application/grpc-web-text+proto"));
        assert_eq!(seen.body, format!("{text}{text}{}", encode(TRAILERS)));
    }
}

#[test]
fn broken_base64() {
    let details = |body: &str| {
        let seen = request(&test(), "application/grpc-web-text+proto").body(body).send();
        (seen.status, seen.header("grpc-message").unwrap_or_default(), seen.details)
    };
    let message = "Bad gRPC-web request, invalid base64 data.".to_owned();
    assert_eq!(details("AAA"), (400, message.clone(), "grpc_base_64_decode_failed_bad_size".into()));
    assert_eq!(details("A!AA"), (400, message, "grpc_base_64_decode_failed".into()));
}

#[test]
fn responses_that_are_none_of_grpc() {
    let t =
        test().upstream_replies(Reply::new(404).header("content-type", "text/html").body("no%").body(" way"));
    let seen = request(&t, "application/grpc-web").body(FRAME).send();
    assert_eq!((seen.status, &*seen.body), (404, ""));
    let header = |n: &str| seen.header(n).unwrap_or_default();
    assert_eq!([header("grpc-message"), header("grpc-status")], ["no%25 way", "12"]);
    assert_eq!([header("content-type"), header("content-length")], ["application/grpc-web+proto", "0"]);
    // A single piece is kept as a whole, several up to a limit.
    let long = |pieces: usize| {
        t.replies(vec!["x".repeat(10_000); pieces].iter().fold(Reply::new(500), |r, p| r.body(p)));
        request(&t, "application/grpc-web").send().header("grpc-message").unwrap().len()
    };
    assert_eq!((long(1), long(3)), (10_000, 16_384));
}

#[test]
fn others_pass() {
    let t = test().upstream_replies(Reply::new(200).body("x").trailer("a", "b"));
    for other in ["application/grpc", "application/grpc-web+json", "text/plain"] {
        let seen = t.request("POST /s.S/m").header("content-type", other).body("AA").send();
        assert_eq!((&*seen.upstream().body, seen.upstream().header("te"), &*seen.body), ("AA", None, "x"));
        assert_eq!(seen.trailer("a").as_deref(), Some("b"));
    }
}
