//! HTTP/1 messages where mutations begin, and the pieces they insert: for the tests beside this folder, and for `fuzz/`.

/// Requests of all framings.
pub const REQUESTS: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\nhost: a\r\naccept: */*\r\nx_y: 1\r\n\r\n",
    b"POST /p HTTP/1.1\r\nHost: a.b:80\r\nContent-Length: 5\r\n\r\nhelloGET /2 HTTP/1.1\r\nhost: a\r\n\r\n",
    b"POST /c HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n3;x=\"y\"\r\nabc\r\n0\r\nt: 1\r\n\r\n",
    b"GET http://u@h:1/x?y HTTP/1.1\r\nhost: a\r\nconnection: te, foo\r\nte: trailers\r\nfoo: 1\r\n\r\n",
    b"CONNECT h:443 HTTP/1.1\r\nhost: h\r\n\r\nraw",
    b"GET /w HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nraw",
    b"GET /o HTTP/1.0\r\nconnection: keep-alive\r\nhost: a\r\n\r\n",
];

/// Responses of all framings.
pub const RESPONSES: &[&[u8]] = &[
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nt: 1\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nserver: x\r\n\r\nhello",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n",
    b"HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nraw",
];

/// What is worth inserting: separators, framing headers, controls.
pub const PIECES: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"\"",
    b"\0",
    b"\x0b",
    b"\x7f",
    b"\x80",
    b"0",
    b"5",
    b"f",
    b"content-length: 5\r\n",
    b"content-length: 0\r\n",
    b"transfer-encoding: chunked\r\n",
    b"transfer-encoding: gzip, chunked\r\n",
    b"transfer-encoding: x\r\n",
    b"host: a\r\n",
    b"host: b\r\n",
    b"connection: close\r\n",
    b"connection: upgrade\r\nupgrade: y\r\n",
    b"\r\n\r\n",
    b"0\r\n\r\n",
    b"5\r\nhello\r\n",
    b"ffffffffffffffff",
    b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"HEAD",
    b"+",
    b"-",
    b"_",
];
