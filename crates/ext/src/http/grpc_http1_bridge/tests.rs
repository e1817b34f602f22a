use crate::testing::filters;
use nuncio_testkit::FilterTest;
use nuncio_testkit::filter_test::Reply;

const TYPE: &str = "'@type': type.googleapis.com/envoy.extensions.filters.http.grpc_http1_bridge.v3.Config";

fn test(config: &str) -> FilterTest {
    filters(&format!("- {{name: b, typed_config: {{{TYPE}, {config}}}}}"))
}

fn reply(status: &str) -> Reply {
    Reply::new(200)
        .body("\0\0\0\0\x02")
        .body("hi")
        .trailer("grpc-status", status)
        .trailer("grpc-message", "m")
}

#[test]
fn trailers_become_headers() {
    let t = test("ignore_query_parameters: true").upstream_replies(reply("0"));
    let send = || t.request("POST /s/m?q").header("content-type", "application/grpc+proto").body("x").send();
    let seen = send();
    assert_eq!((seen.status, &*seen.body, seen.upstream().path()), (200, "\0\0\0\0\x02hi", "/s/m".into()));
    let header = |n: &str| seen.header(n).unwrap_or_default();
    assert_eq!([header("grpc-status"), header("grpc-message"), header("content-length")], ["0", "m", "7"]);
    for bad in ["13", "no"] {
        t.replies(reply(bad));
        assert_eq!((send().status, send().header("grpc-status").as_deref()), (503, Some(bad)));
    }
    // Without trailers it stays as it is.
    t.replies(Reply::new(404).body("a").body("b"));
    assert_eq!((send().status, &*send().body, send().header("content-length")), (404, "ab", None));
}

#[test]
fn protobuf_is_framed() {
    let t = test("upgrade_protobuf_to_grpc: true").upstream_replies(reply("0"));
    let r = t
        .request("POST /s/m?q")
        .header("content-type", "application/x-protobuf")
        .header("content-length", "3");
    let seen = r.body("a").body("bc").send();
    let up = seen.upstream();
    assert_eq!(
        (&*up.body, up.header("content-length"), up.path()),
        ("\0\0\0\0\x03abc", None, "/s/m?q".into())
    );
    assert_eq!(up.header("content-type").as_deref(), Some("application/grpc"));
    assert_eq!((&*seen.body, seen.header("content-length").as_deref()), ("hi", Some("2")));
}

#[test]
fn others_pass() {
    let t = test("").upstream_replies(reply("5"));
    for other in ["application/x-protobuf", "text/plain"] {
        let seen = t.request("POST /s/m").header("content-type", other).body("x").send();
        assert_eq!((seen.status, seen.trailer("grpc-status").as_deref()), (200, Some("5")));
        assert_eq!(seen.upstream().body, "x");
    }
}

#[test]
fn bodies_have_a_limit() {
    let t = test("upgrade_protobuf_to_grpc: true");
    let mib = "x".repeat(1024 * 1024);
    let send = |more: &str| {
        t.request("POST /s/m").header("content-type", "application/x-protobuf").body(&mib).body(more).send()
    };
    assert_eq!((send("").status, send("y").status), (200, 413));
    t.replies(Reply::new(200).body(&mib).body("y"));
    assert_eq!(send("").status, 500);
}
