//! Sizes, counts, and that parsing costs no more than the input.

use super::*;

fn sized(total: usize) -> Vec<u8> {
    let frame = b"GET / HTTP/1.1\r\nhost: a\r\nx: \r\n\r\n".len();
    [&b"GET / HTTP/1.1\r\nhost: a\r\nx: "[..], &b"v".repeat(total - frame), b"\r\n\r\n"].concat()
}

#[test]
fn head_size_counts_every_byte() {
    let limit = ServerSettings::default().max_head_bytes;
    assert_eq!(limit, 61440);
    assert!(served(&sized(limit)).starts_with('<'));
    assert_eq!(served(&sized(limit + 1)), "431 http1.headers_too_large");
    // An unfinished head is refused as soon as it is too large, a garbage line too.
    assert_eq!(served(&sized(limit + 100)[..limit + 1]), "431 http1.headers_too_large");
    assert_eq!(served(&sized(limit + 100)[..limit]), "");
    assert_eq!(served(&b"X".repeat(limit + 1)), "431 http1.headers_too_large");
}

#[test]
fn header_count() {
    let with = |n: usize| {
        let lines: String = (0..n).map(|i| format!("x{i}: 1\r\n")).collect();
        served(format!("GET / HTTP/1.1\r\nhost: a\r\n{lines}\r\n").as_bytes())
    };
    assert!(with(99).starts_with('<'));
    assert_eq!(with(100), "431 http1.too_many_headers");
    // Joined lines count once.
    let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "via: 1\r\n".repeat(500));
    assert!(served(many.as_bytes()).starts_with('<'));
}

#[test]
fn trailer_limits() {
    let on =
        ServerSettings { enable_trailers: true, max_headers: 3, max_head_bytes: 200, ..Default::default() };
    let see = |trailers: &str| {
        let raw =
            format!("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n{trailers}\r\n");
        let log = conversation(&on, &[raw.as_bytes()]);
        log.split_once("; ").map(|(_, rest)| rest.to_string()).unwrap()
    };
    assert_eq!(see("a: 1\r\nb: 2\r\nc: 3\r\n"), "+a=1;b=2;c=3; >");
    assert_eq!(see("a: 1\r\nb: 2\r\nc: 3\r\nd: 4\r\n"), "!431 http1.too_many_headers");
    assert_eq!(see(&format!("a: {}\r\n", "v".repeat(200))), "!431 http1.headers_too_large");
}

#[test]
fn response_limits() {
    let with = |n: usize| {
        let lines: String = (0..n).map(|i| format!("x{i}: 1\r\n")).collect();
        got(format!("HTTP/1.1 200 OK\r\n{lines}content-length: 0\r\n\r\n").as_bytes())
    };
    assert!(with(99).starts_with("<200"));
    assert_eq!(with(100), "!headers count exceeds limit");
    let big = |n: usize| {
        got(format!("HTTP/1.1 200 OK\r\nx: {}\r\ncontent-length: 0\r\n\r\n", "v".repeat(n)).as_bytes())
    };
    assert!(big(80 * 1024 - 100).starts_with("<200"));
    assert_eq!(big(80 * 1024), "!headers size exceeds limit");
}

/// A head that arrives byte by byte is looked at once, not once per byte.
#[test]
fn slow_heads_cost_their_length() {
    let raw = sized(60_000);
    let mut s = server(Default::default());
    let mut buf = ReadBuf::new();
    let mut heads = 0;
    for b in &raw {
        buf.extend(&[*b]);
        heads += usize::from(s.read_head(&mut buf).unwrap().is_some());
    }
    assert_eq!((heads, s.work()), (1, raw.len()));

    let raw = format!(
        "HTTP/1.1 200 OK\r\nx: {}\r\n{}content-length: 0\r\n\r\n",
        "v".repeat(40_000),
        "y: z\r\n".repeat(90)
    );
    let mut c = client(Default::default());
    let head = request(&[(":method", "GET"), (":path", "/"), (":authority", "a")]);
    c.write_head(&head, true, &mut OutBuf::new()).unwrap();
    let mut buf = ReadBuf::new();
    let mut heads = 0;
    for b in raw.as_bytes() {
        buf.extend(&[*b]);
        heads += usize::from(c.read_head(&mut buf).unwrap().is_some());
    }
    assert_eq!((heads, c.work()), (1, raw.len()));
}

/// Finished lines leave the buffer, so that a slow head does not keep a large one.
#[test]
fn a_partial_head_keeps_only_its_last_line() {
    let mut s = server(Default::default());
    let mut buf = buffer(b"GET / HTTP/1.1\r\nhost: a\r\nx: 1\r\ny: par");
    assert!(s.read_head(&mut buf).unwrap().is_none());
    assert_eq!(buf.data(), b"y: par");
    assert!(s.head_begun());
}
