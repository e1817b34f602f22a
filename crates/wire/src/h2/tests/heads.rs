//! Which heads a server accepts (RFC 9113 §8.3, RFC 8441), as Envoy does.

use super::rules::{REQ, check};
use super::script::*;
use crate::h2::Settings;
use crate::h2::frame::*;

fn cat(parts: &[Vec<u8>]) -> Vec<u8> {
    parts.concat()
}

type Fields = Vec<(&'static str, &'static str)>;

/// What is wrong with one field, or with the whole request; `f`: field, `m`: message, else the head that comes out.
fn heads() -> Vec<(&'static str, Fields, &'static str)> {
    let plus = |f: &[(&'static str, &'static str)]| [&GET[..], f].concat();
    let but = |i: usize, v: &'static str| {
        let mut all = GET.to_vec();
        all[i].1 = v;
        all
    };
    let without = |i: usize| {
        let mut all = GET.to_vec();
        all.remove(i);
        all
    };
    vec![
        ("upper case", plus(&[("X-A", "b")]), "f"),
        ("empty name", plus(&[("", "b")]), "f"),
        ("blank in a name", plus(&[("x y", "b")]), "f"),
        ("colon in a name", plus(&[("x:y", "b")]), "f"),
        ("NUL in a value", plus(&[("x", "a\0b")]), "f"),
        ("LF in a value", plus(&[("x", "a\nb")]), "f"),
        ("CR in a value", plus(&[("x", "a\rb")]), "f"),
        ("control in a value", plus(&[("x", "a\x01b")]), "f"),
        ("tab, blanks and high bytes in a value", plus(&[("x", " a\tb\u{80} ")]), "x= a\tb\u{80} "),
        ("connection", plus(&[("connection", "close")]), "f"),
        ("keep-alive", plus(&[("keep-alive", "1")]), "f"),
        ("proxy-connection", plus(&[("proxy-connection", "1")]), "f"),
        ("transfer-encoding", plus(&[("transfer-encoding", "chunked")]), "f"),
        ("upgrade", plus(&[("upgrade", "h2c")]), "f"),
        ("te: gzip", plus(&[("te", "gzip")]), "f"),
        ("te: trailers, gzip", plus(&[("te", "trailers, gzip")]), "f"),
        ("te: trailers", plus(&[("te", "Trailers")]), "te=Trailers"),
        ("pseudo-header behind a field", [&[("x", "y")], &GET[..]].concat(), "f"),
        ("unknown pseudo-header", plus(&[(":x", "y")]), "f"),
        ("pseudo-header twice", plus(&[(":path", "/")]), "f"),
        (":status in a request", plus(&[(":status", "200")]), "f"),
        (":protocol without RFC 8441", plus(&[(":protocol", "websocket")]), "f"),
        ("no method", without(0), "m"),
        ("no scheme", without(1), "m"),
        ("no path", without(2), "m"),
        ("no authority", without(3), "m"),
        ("empty path", but(2, ""), "f"),
        ("relative path", but(2, "d"), "m"),
        ("star path", but(2, "*"), "m"),
        ("blank in the path", but(2, "/a b"), "f"),
        ("empty authority", but(3, ""), "f"),
        ("blank in the authority", but(3, "a b"), "f"),
        ("userinfo in the authority", but(3, "u@a"), "f"),
        ("blank in the method", but(0, "G T"), "f"),
        ("empty method", but(0, ""), "f"),
        ("blank in the scheme", but(1, "h p"), "f"),
        ("two hosts", plus(&[("host", "a"), ("host", "a")]), "f"),
        ("bad content-length", plus(&[("content-length", "x")]), "f"),
        ("signed content-length", plus(&[("content-length", "+0")]), "f"),
        ("empty content-length", plus(&[("content-length", "")]), "f"),
        ("two content-lengths", plus(&[("content-length", "0"), ("content-length", "0")]), "f"),
        ("content-length without a body", plus(&[("content-length", "5")]), "m"),
        ("content-length 0", plus(&[("content-length", "0")]), "content-length=0"),
        ("CONNECT with a path", vec![(":method", "CONNECT"), (":authority", "a"), (":path", "/")], "m"),
        ("host beside :authority is dropped", plus(&[("host", "other"), ("x", "y")]), "x=y"),
        (
            "cookie crumbs are joined at the end",
            plus(&[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "")]),
            "x=y cookie=a=1; b=2; ",
        ),
        ("any method", but(0, "get"), ""),
    ]
}

#[test]
fn heads_by_the_rules() {
    for (name, fields, want) in heads() {
        let bytes = fr(HEADERS, 5, 1, &block(&fields));
        let details = match want {
            "f" => "http2.invalid.header.field",
            "m" => "http2.violation.of.messaging.rule",
            _ => {
                let method = fields[0].1;
                let want = format!("request 1 :method={method} :scheme=http :path=/ :authority=a {want}");
                is(
                    &Bench::server(Settings::default()).run(&bytes),
                    &(want
                        .trim_end_matches(|c| c == ' ' && !want.ends_with("; ") && !want.ends_with("\u{80} "))
                        .to_owned()
                        + " end"),
                );
                continue;
            }
        };
        let want = format!("error PROTOCOL_ERROR silent on 1 begun {details}");
        check(name, || Bench::server(Settings::default()), &bytes, &want);
        // `override_stream_error_on_invalid_http_message`: the stream only; the next one lives.
        let lenient = Settings { stream_error_on_invalid_messaging: true, ..Settings::default() };
        let want = format!(
            "stream-error 1 PROTOCOL_ERROR {details} begun\n{}\n> RST_STREAM 1 PROTOCOL_ERROR",
            REQ.replace("request 1", "request 3")
        );
        check(name, || Bench::server(lenient.clone()), &cat(&[bytes.clone(), get(3)]), &want);
    }
}

#[test]
fn a_head_that_is_wrong_before_it_is_complete() {
    // As in golden h2.frame_errors: the first bytes of a frame are enough to refuse it.
    let mut b = Bench::server(Settings::default());
    let whole = fr(HEADERS, 5, 1, &block(&GET));
    is(
        &b.run(&cat(&[whole[..10].to_vec(), vec![0, 0, 0]])),
        "error PROTOCOL_ERROR silent on 1 begun http2.invalid.header.field",
    );
}

#[test]
fn host_stands_for_a_missing_authority() {
    let fields = [(":method", "GET"), (":scheme", "http"), (":path", "/"), ("host", "h.com")];
    is(
        &Bench::server(Settings::default()).run(&fr(HEADERS, 5, 1, &block(&fields))),
        "request 1 :method=GET :scheme=http :path=/ :authority=h.com end",
    );
}

#[test]
fn connect_and_extended_connect() {
    let plain = fr(HEADERS, 4, 1, &block(&[(":method", "CONNECT"), (":authority", "a:80")]));
    is(&Bench::server(Settings::default()).run(&plain), "request 1 :method=CONNECT :authority=a:80");
    let fields = with(&[(":method", "CONNECT"), (":protocol", "websocket")], &GET[1..]);
    let on = Settings { enable_connect_protocol: true, ..Settings::default() };
    is(
        &Bench::server(on.clone()).run(&fr(HEADERS, 4, 1, &fields)),
        "request 1 :method=CONNECT :protocol=websocket :scheme=http :path=/ :authority=a",
    );
    let get = with(&GET, &[(":protocol", "websocket")]);
    is(
        &Bench::server(on).run(&fr(HEADERS, 5, 1, &get)),
        "error PROTOCOL_ERROR silent on 1 begun http2.violation.of.messaging.rule",
    );
}

#[test]
fn options_star() {
    let fields = [(":method", "OPTIONS"), (":scheme", "http"), (":path", "*"), (":authority", "a")];
    is(
        &Bench::server(Settings::default()).run(&fr(HEADERS, 5, 1, &block(&fields))),
        "request 1 :method=OPTIONS :scheme=http :path=* :authority=a end",
    );
}
