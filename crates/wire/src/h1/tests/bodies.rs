//! Request bodies and what decides where they end.

use super::*;

fn post(headers: &str, body: &[u8]) -> String {
    let head = format!("POST / HTTP/1.1\r\nhost: a\r\n{headers}\r\n\r\n");
    let log = served(&[head.as_bytes(), body].concat());
    // Only what follows the head, unless the head was refused.
    log.split_once("; ").map_or(log.clone(), |(_, rest)| rest.to_string())
}

#[test]
fn lengths_and_codings() {
    let codec = "400 http1.codec_error";
    let coding = "501 http1.invalid_transfer_encoding";
    let both = "400 http1.content_length_and_chunked_not_allowed";
    for (headers, body, want) in [
        ("content-length: 3", "abc", "abc>"),
        ("content-length: 3 ", "abc", "abc>"),
        ("content-length: 3", "ab", "ab…"),
        ("content-length: 3\r\ncontent-length: 3", "abc", codec),
        ("content-length: 3\r\ncontent-length: 4", "abcd", codec),
        ("content-length: 3, 3", "abc", codec),
        ("content-length: +3", "abc", codec),
        ("content-length: -1", "", codec),
        ("content-length: 0x3", "abc", codec),
        ("content-length: 1 1", "a", codec),
        ("content-length:", "", codec),
        ("content-length: 99999999999999999999", "abc", codec),
        ("content-length: 18446744073709551615", "abc", "abc…"),
        ("content-length: 3\r\ntransfer-encoding: chunked", "0\r\n\r\n", both),
        ("transfer-encoding: chunked\r\ncontent-length: 0", "0\r\n\r\n", both),
        ("content-length: 3\r\ntransfer-encoding: gzip", "0\r\n\r\n", both),
        ("transfer-encoding: chunked", "0\r\n\r\n", ">"),
        ("transfer-encoding: Chunked", "0\r\n\r\n", ">"),
        ("transfer-encoding: chunked\r\ntransfer-encoding: chunked", "0\r\n\r\n", coding),
        ("transfer-encoding: gzip, chunked", "0\r\n\r\n", coding),
        ("transfer-encoding: chunked, gzip", "0\r\n\r\n", coding),
        ("transfer-encoding: identity", "", coding),
        ("transfer-encoding: xchunked", "", coding),
        ("transfer-encoding:", "", coding),
        ("transfer-encoding:\u{b}chunked", "", "400 http1.invalid_characters"),
        ("transfer-encoding : chunked", "", codec),
    ] {
        assert_eq!(post(headers, body.as_bytes()), want, "{headers}");
    }
    let allow = ServerSettings { allow_chunked_length: true, ..Default::default() };
    let raw =
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
    let want = "<:method=POST;:path=/;:authority=a;transfer-encoding=chunked; x>";
    assert_eq!(conversation(&allow, &[raw]), want);
}

#[test]
fn chunks() {
    let bad = "!400 http1.codec_error";
    let cases: &[(&[u8], &str)] = &[
        (b"5\r\nhello\r\n0\r\n\r\n", "hello>"),
        (b"5\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\n", "hello0123456789>"),
        (b"05\r\nhello\r\n00\r\n\r\n", "hello>"),
        (b"00000000000000000000000000000005\r\nhello\r\n0\r\n\r\n", "hello>"),
        (b"5;a=b\r\nhello\r\n0;c\r\n\r\n", "hello>"),
        (b"5;a=\"b;\\\"c\"\r\nhello\r\n0\r\n\r\n", "hello>"),
        (b"5 ;a\r\nhello\r\n0\r\n\r\n", "hello>"),
        (b"ffffffffffffffff\r\nabc", "abc…"),
        (b"0x5\r\nhello\r\n0\r\n\r\n", bad),
        (b" 5\r\nhello\r\n0\r\n\r\n", bad),
        (b"-5\r\nhello\r\n0\r\n\r\n", bad),
        (b"+5\r\nhello\r\n0\r\n\r\n", bad),
        (b"\r\n5\r\nhello\r\n0\r\n\r\n", bad),
        (b"g\r\n", bad),
        (b";x\r\n", bad),
        (b"FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n", bad),
        (b"5\nhello\r\n0\r\n\r\n", bad),
        (b"5;a\rb\r\nhello\r\n0\r\n\r\n", bad),
        (b"5;\nx\r\nhello\r\n0\r\n\r\n", bad),
        (b"5;a\nb\r\nhello\r\n0\r\n\r\n", bad),
        // wanted deviations
        (b"5 \r\nhello\r\n0\r\n\r\n", bad),
        (b"5\t\r\nhello\r\n0\r\n\r\n", bad),
        (b"5;a=\"b\r\n\r\nhello\r\n0\r\n\r\n", bad),
        (b"5\r\nhello\n0\r\n\r\n", "hello!400 http1.codec_error"),
        (b"5\r\nhelloX\r\n0\r\n\r\n", "hello!400 http1.codec_error"),
        (b"5\r\nhello\rX0\r\n\r\n", "hello!400 http1.codec_error"),
        (b"5\r\nhello\r\n0\n\r\n", "hello!400 http1.codec_error"),
        (b"5\r\nhello\r\n0\r\n\n", "hello!400 http1.codec_error"),
        (b"5\r\nhello\r\n0\r\nx: 1\n\r\n", "hello!400 http1.codec_error"),
        // trailers are checked though they are dropped
        (b"5\r\nhello\r\n0\r\nx-t: 1\r\n\r\n", "hello>"),
        (b"5\r\nhello\r\n0\r\nbad trailer\r\n\r\n", "hello!400 http1.codec_error"),
        (b"5\r\nhello\r\n0\r\nx y: 1\r\n\r\n", "hello!400 http1.codec_error"),
        (b"5\r\nhello\r\n0\r\nx: 1\r\n y\r\n\r\n", "hello!400 http1.codec_error"),
        (b"5\r\nhello\r\n0\r\nx: \x01\r\n\r\n", "hello!400 http1.invalid_characters"),
    ];
    for (body, want) in cases {
        assert_eq!(post("transfer-encoding: chunked", body), *want, "{}", text(body));
    }
}

#[test]
fn trailers() {
    let on = ServerSettings { enable_trailers: true, ..Default::default() };
    let raw = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX-T:  1 \r\ny: 2\r\n\r\n\
                GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let want = "<:method=POST;:path=/;:authority=a;transfer-encoding=chunked; ab+x-t=1;y=2; >\
                <:method=GET;:path=/;:authority=a; >";
    assert_eq!(conversation(&on, &[raw]), want);
}

#[test]
fn end_of_stream() {
    let at = |raw: &[u8]| {
        let mut s = server(Default::default());
        let mut buf = buffer(raw);
        if s.read_head(&mut buf).unwrap().is_some() {
            while !matches!(s.read_body(&mut buf).unwrap(), BodyEvent::NeedMore | BodyEvent::End) {}
        }
        s.read_eof()
    };
    assert_eq!(at(b""), Eof::Idle);
    assert_eq!(at(b"\r\n"), Eof::Idle);
    assert_eq!(at(b"GE"), Eof::Incomplete);
    assert_eq!(at(b"GET / HTTP/1.1\r\n"), Eof::Incomplete);
    assert_eq!(at(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"), Eof::Incomplete);
    assert_eq!(at(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\na"), Eof::Incomplete);
    assert_eq!(at(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n"), Eof::Incomplete);
}

#[test]
fn an_early_answer_closes_and_the_rest_is_never_a_request() {
    let mut s = server(Default::default());
    let mut buf =
        buffer(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 99\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let mut out = OutBuf::new();
    s.read_head(&mut buf).unwrap().unwrap();
    s.write_head(&mut response(403, &[]), true, &mut out);
    assert_eq!(written(&mut out), "HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    assert!(!s.keep_alive() && s.response_complete() && !s.is_idle());
    assert!(s.read_head(&mut buf).unwrap().is_none());
    assert!(matches!(s.read_body(&mut buf), Ok(BodyEvent::Data(_))));
    assert!(s.read_head(&mut buf).unwrap().is_none());
}
