use crate::testing::filters;
use nuncio_testkit::FilterTest;
use nuncio_testkit::filter_test::Reply;
use std::io::Write;

const TYPE: &str = "'@type': type.googleapis.com/envoy.extensions.filters.http.decompressor.v3.Decompressor";

fn test(kind: &str, config: &str) -> FilterTest {
    let module = kind.to_lowercase();
    filters(&format!(
        "- {{name: d, typed_config: {{{TYPE}, decompressor_library: {{name: Lib, typed_config: {{'@type': type.googleapis.com/envoy.extensions.compression.{module}.decompressor.v3.{kind}}}}}, {config}}}}}"
    ))
}

fn compressed(kind: &str, text: &[u8]) -> Vec<u8> {
    match kind {
        "Gzip" => {
            let mut e = flate2::write::GzEncoder::new(vec![], flate2::Compression::best());
            e.write_all(text).unwrap();
            e.finish().unwrap()
        }
        "Brotli" => {
            let mut e = brotli::CompressorWriter::new(vec![], 4096, 5, 22);
            e.write_all(text).unwrap();
            e.into_inner()
        }
        _ => zstd::encode_all(text, 3).unwrap(),
    }
}

const KINDS: [(&str, &str); 3] = [("Gzip", "gzip"), ("Brotli", "br"), ("Zstd", "zstd")];

#[test]
fn both_directions_however_they_are_cut() {
    let text: String = (0..20_000).map(|i| format!("line {i}\n")).collect();
    for (kind, encoding) in KINDS {
        let body = compressed(kind, text.as_bytes());
        for size in [1_000, 4_097, body.len()] {
            let reply = Reply::new(200).header("content-encoding", encoding).header("content-length", "5");
            let t = test(kind, "").upstream_replies(body.chunks(size).fold(reply, |r, c| r.body(c)));
            let r = t.request("POST /").header("content-encoding", &format!("{encoding}, x"));
            let seen = body.chunks(size).fold(r, |r, c| r.body(c)).send();
            let up = seen.upstream();
            assert!(up.body == text && seen.body == text, "{kind} {size}");
            assert_eq!(up.header("content-encoding").as_deref(), Some("x"));
            assert_eq!((seen.header("content-encoding"), seen.header("content-length")), (None, None));
            let trailer = |n: &str| seen.trailer(&format!("x-envoy-decompressor-lib-{n}-bytes"));
            assert_eq!(trailer("compressed"), Some(body.len().to_string()));
            assert_eq!(trailer("uncompressed"), Some(text.len().to_string()));
            let module = kind.to_lowercase();
            for direction in ["request", "response"] {
                let stat = |n: &str| t.stat(&format!("http.test.decompressor.Lib.{module}.{direction}.{n}"));
                assert_eq!((stat("decompressed"), stat("not_decompressed")), (1, 0));
                assert_eq!(stat("total_compressed_bytes"), body.len() as u64);
                assert_eq!(stat("total_uncompressed_bytes"), text.len() as u64);
            }
        }
    }
}

#[test]
fn what_is_accepted_is_said() {
    let accept = |config: &str, sent: &str| {
        let t = test("Gzip", config);
        t.request("GET /")
            .header("accept-encoding", sent)
            .send()
            .upstream()
            .header("accept-encoding")
            .unwrap()
    };
    assert_eq!(accept("", "br;q=0.5, gzip;q=0.1 , x"), "br;q=0.5,x,gzip");
    assert_eq!(accept("", ""), "gzip");
    assert_eq!(accept("request_direction_config: {advertise_accept_encoding: false}", "br"), "br");
    assert_eq!(
        accept(
            "response_direction_config: {common_config: {enabled: {default_value: false, runtime_key: k}}}",
            "br"
        ),
        "br"
    );
}

#[test]
fn what_is_left_alone() {
    let body = compressed("Gzip", b"text");
    let untouched = |config: &str, encoding: &str, cache: &str| {
        let t = test("Gzip", config);
        let r = t.request("POST /").header("content-encoding", encoding).header("cache-control", cache);
        let seen = r.body(&body).send();
        let left = seen.upstream().header("content-encoding").as_deref() == Some(encoding);
        assert_eq!(seen.upstream().body == "text", !left);
        left
    };
    assert!(!untouched("", "GZip", "x"));
    assert!(untouched("", "br", "x") && untouched("", "gzip", "a, no-transform"));
    let ignore = "request_direction_config: {common_config: {ignore_no_transform_header: true}}";
    assert!(!untouched(ignore, "gzip", "no-transform"));
    assert!(untouched(
        "request_direction_config: {common_config: {enabled: {default_value: false, runtime_key: k}}}",
        "gzip",
        "x"
    ));
}

#[test]
fn broken_streams_end_the_exchange() {
    for (kind, encoding) in KINDS {
        let mut body = compressed(kind, &b"some text ".repeat(100));
        body[6..].iter_mut().for_each(|b| *b ^= 0x5a);
        let seen = test(kind, "").request("POST /").header("content-encoding", encoding).body(&body).send();
        assert_eq!((seen.status, &*seen.details), (400, "decompression_failed"), "{kind}");
        let reply = Reply::new(200).header("content-encoding", encoding).body(&body);
        assert!(test(kind, "").upstream_replies(reply).request("GET /").send().broken, "{kind}");
    }
}

/// CVE-2022-29225 and its like.
#[test]
fn bombs() {
    let zeros = vec![0; 30 * 1024 * 1024];
    let bomb = compressed("Gzip", &zeros);
    let seen = test("Gzip", "").request("POST /").header("content-encoding", "gzip").body(&bomb).send();
    assert_eq!(seen.details, "decompression_failed");
    // A window that is larger than anybody has to take: Zstandard says its size in the first bytes.
    let large = [0x28, 0xb5, 0x2f, 0xfd, 0x00, (31 - 10) << 3, 0x01, 0x00, 0x00];
    let seen = test("Zstd", "").request("POST /").header("content-encoding", "zstd").body(large).send();
    assert_eq!(seen.details, "decompression_failed");
}
