//! Responses of upstreams: what Envoy 1.40 was measured to make of them, and where we refuse.

use super::*;

fn status(line: &str) -> String {
    got(format!("{line}\r\ncontent-length: 2\r\n\r\nhi").as_bytes())
}

#[test]
fn status_lines() {
    let ok = "<200 content-length=2; hi> reusable";
    for (line, want) in [
        ("HTTP/1.1 200 OK", ok),
        ("HTTP/1.1 200", ok),
        ("HTTP/1.1 200 ", ok),
        ("HTTP/1.1  200 OK", ok),
        ("HTTP/1.1\t200 OK", ok),
        ("HTTP/1.1 200 caf\u{e9}", ok),
        ("HTTP/1.1 999 X", "<999 content-length=2; hi> reusable"),
        ("HTTP/1.0 200 OK", "<200 content-length=2; hi>"),
        ("HTTP/1.2 200 OK", "<200 content-length=2; hi>"),
        ("HTTP/1.1 99 X", "!HPE_INVALID_STATUS"),
        ("HTTP/1.1 099 X", "!HPE_INVALID_STATUS"),
        ("HTTP/1.1 000 X", "!HPE_INVALID_STATUS"),
        ("HTTP/1.1 2xx", "!HPE_INVALID_STATUS"),
        ("HTTP/1.1 200OK", "!HPE_INVALID_STATUS"),
        ("HTTP/1.1", "!HPE_INVALID_STATUS"),
        ("http/1.1 200 OK", "!HPE_INVALID_CONSTANT"),
        ("ICY 200 OK", "!HPE_INVALID_CONSTANT"),
        ("\r\nHTTP/1.1 200 OK", "!HPE_INVALID_CONSTANT"),
        ("HTTP 200 OK", "!HPE_INVALID_VERSION"),
        ("HTTP/1.1 200 a\u{1}b", "!header value contains invalid chars"),
        ("HTTP/1.1 200 a\rb", "!lone CR"),
        // Envoy takes these for 1000, 200 and 200.
        ("HTTP/1.1 1000 X", "!HPE_INVALID_STATUS"),
        ("HTTP/1.1 +200 X", "!HPE_INVALID_STATUS"),
        ("HTTP/1.1 0200 X", "!HPE_INVALID_STATUS"),
    ] {
        assert_eq!(status(line), want, "{line:?}");
    }
}

#[test]
fn framing() {
    let both = "!both 'Content-Length' and 'Transfer-Encoding' are set.";
    let coding = "!unsupported transfer encoding";
    for (rest, want) in [
        ("content-length: 2\n\nhi", "<200 content-length=2; hi> reusable"),
        ("content-length: 0\r\n\r\n", "<200 content-length=0; > reusable"),
        (
            "content-length: 2\r\n\r\nhixx",
            "<200 content-length=2; hi>!extraneous data after response complete",
        ),
        ("content-length: 0\r\n\r\nxx", "<200 content-length=0; >!extraneous data after response complete"),
        ("connection: close\r\ncontent-length: 2\r\n\r\nhi", "<200 connection=close;content-length=2; hi>"),
        ("content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", both),
        ("content-length: 2\r\ncontent-length: 2\r\n\r\nhi", "!HPE_UNEXPECTED_CONTENT_LENGTH"),
        ("content-length: x\r\n\r\nhi", "!HPE_INVALID_CONTENT_LENGTH"),
        ("content-length:\r\n\r\nhi", "!HPE_INVALID_CONTENT_LENGTH"),
        ("transfer-encoding: gzip\r\n\r\nhi", coding),
        ("transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", coding),
        ("transfer-encoding:\r\n\r\nhi", coding),
        (
            "transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            "<200 transfer-encoding=chunked; hi> reusable",
        ),
        (
            "transfer-encoding: chunked\r\n\r\n2\nhi\r\n0\r\n\r\n",
            "<200 transfer-encoding=chunked;!HPE_INVALID_CHUNK_SIZE",
        ),
        ("x y: a\r\ncontent-length: 2\r\n\r\nhi", "!HPE_INVALID_HEADER_TOKEN"),
        ("nocolon\r\ncontent-length: 2\r\n\r\nhi", "!HEADER_MISSING_COLON"),
        ("x: a\r\n b\r\ncontent-length: 2\r\n\r\nhi", "!obs-fold"),
        ("x: a\u{7f}b\r\ncontent-length: 2\r\n\r\nhi", "!header value contains invalid chars"),
        ("host: x\r\ncontent-length: 2\r\n\r\nhi", "<200 host=x;content-length=2; hi> reusable"),
        (
            "location: a\r\nset-cookie: 1\r\nlocation: b\r\nset-cookie: 2\r\ncontent-length: 0\r\n\r\n",
            "<200 location=a,b;set-cookie=1;set-cookie=2;content-length=0; > reusable",
        ),
    ] {
        assert_eq!(got(format!("HTTP/1.1 200 OK\r\n{rest}").as_bytes()), want, "{rest:?}");
    }
    let allow = ClientSettings { allow_chunked_length: true, ..Default::default() };
    let raw =
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
    assert_eq!(answered(&allow, "GET", &[], &[raw], false), "<200 transfer-encoding=chunked; x> reusable");
}

#[test]
fn without_body() {
    let te = "!transfer encoding not allowed in 1xx or 204";
    let cl = "!content length not allowed in 1xx or 204";
    for (raw, want) in [
        ("HTTP/1.1 204 No\r\n\r\n", "<204  > reusable"),
        ("HTTP/1.1 204 No\r\ncontent-length: 0\r\n\r\n", "<204  > reusable"),
        ("HTTP/1.1 204 No\r\ncontent-length: 2\r\n\r\nhi", cl),
        ("HTTP/1.1 204 No\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", te),
        ("HTTP/1.1 304 N\r\ncontent-length: 20\r\n\r\n", "<304 content-length=20; > reusable"),
        (
            "HTTP/1.1 304 N\r\ntransfer-encoding: chunked\r\n\r\n",
            "<304 transfer-encoding=chunked; > reusable",
        ),
        ("HTTP/1.1 304 N\r\n\r\n", "<304  > reusable"),
        ("HTTP/1.1 100 C\r\ncontent-length: 5\r\n\r\n", cl),
        ("HTTP/1.1 100 C\r\ntransfer-encoding: chunked\r\n\r\n", te),
        ("HTTP/1.1 101 S\r\n\r\n", "!HPE_INVALID_STATUS"), // nobody asked
    ] {
        assert_eq!(got(raw.as_bytes()), want, "{raw:?}");
    }
    let head = |raw: &[u8]| answered(&ClientSettings::default(), "HEAD", &[], &[raw], false);
    assert_eq!(head(b"HTTP/1.1 200 OK\r\n\r\n"), "<200  > reusable");
    assert_eq!(head(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"), "<200 content-length=9; > reusable");
    assert_eq!(
        head(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
        "<200 transfer-encoding=chunked; > reusable"
    );
}

#[test]
fn informational_heads_come_first() {
    let raw = b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 103 E\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
    assert_eq!(got(raw), "<100 ><103 link=x;><200 content-length=2; hi> reusable");
}

#[test]
fn end_of_stream() {
    let end = |raw: &[u8]| answered(&ClientSettings::default(), "GET", &[], &[raw], true);
    assert_eq!(end(b""), "nothing");
    assert_eq!(end(b"H"), "!HPE_INVALID_EOF_STATE");
    assert_eq!(end(b"HTTP/1.1 200 OK\r\ncontent-le"), "!HPE_INVALID_EOF_STATE");
    assert_eq!(end(b"HTTP/1.1 200 OK\r\n\r\nhello"), "<200  hello>");
    assert_eq!(end(b"HTTP/1.0 200 OK\r\n\r\nhello"), "<200  hello>");
    assert_eq!(
        end(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello"),
        "<200 content-length=9;!HPE_INVALID_EOF_STATE"
    );
    assert_eq!(
        end(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"),
        "<200 transfer-encoding=chunked;!HPE_INVALID_EOF_STATE"
    );
    assert_eq!(end(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"), "<200 content-length=2; hi> idle");
}

#[test]
fn trailers() {
    let on = ClientSettings { enable_trailers: true, ..Default::default() };
    let raw = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nx-rt: 1\r\n\r\n";
    assert_eq!(
        answered(&on, "GET", &[], &[raw], false),
        "<200 transfer-encoding=chunked; +x-rt=1; ab> reusable"
    );
    assert_eq!(got(raw), "<200 transfer-encoding=chunked; ab> reusable");
}

#[test]
fn speaking_unasked_is_an_error() {
    let mut c = client(Default::default());
    let mut buf = buffer(b"HTTP/1.1 408 Timeout\r\nconnection: close\r\n\r\n");
    assert_eq!(c.read_head(&mut buf).unwrap_err().cause, Cause::Unasked);
    assert!(!c.reusable());
}

#[test]
fn an_answer_before_the_request_is_complete_spoils_the_connection() {
    let mut c = client(Default::default());
    let head = request(&[(":method", "POST"), (":path", "/"), (":authority", "a"), ("content-length", "5")]);
    c.write_head(&head, false, &mut OutBuf::new()).unwrap();
    let start = c.read_head(&mut buffer(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")).unwrap().unwrap();
    assert!(!start.has_body && c.response_complete() && !c.request_complete() && !c.reusable());
    c.write_data("hello".into(), &mut OutBuf::new());
    c.write_end(None, &mut OutBuf::new());
    assert!(!c.reusable());
}
