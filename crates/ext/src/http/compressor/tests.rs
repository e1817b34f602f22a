use crate::testing::filters;
use nuncio_testkit::FilterTest;
use nuncio_testkit::filter_test::{Reply, Seen};
use std::io::Read;

const TYPE: &str = "'@type': type.googleapis.com/envoy.extensions.filters.http.compressor.v3";

fn library(kind: &str, config: &str) -> String {
    let (module, message) = (kind.to_lowercase(), kind);
    format!(
        "compressor_library: {{name: lib, typed_config: {{'@type': type.googleapis.com/envoy.extensions.compression.{module}.compressor.v3.{message}, {config}}}}}"
    )
}

fn filter(config: &str) -> String {
    format!("- {{name: c, typed_config: {{{TYPE}.Compressor, {config}}}}}")
}

fn gzip(config: &str) -> FilterTest {
    filters(&filter(&format!("{}, response_direction_config: {{{config}}}", library("Gzip", ""))))
}

const TEXT: &str = "a text that is long enough to be compressed, is long enough to be compressed";

fn reply() -> Reply {
    Reply::new(200).header("content-type", "text/plain; x=y").header("content-length", "76")
}

fn get(t: &FilterTest, accept: &str) -> Seen {
    t.request("GET /").header("accept-encoding", accept).send()
}

fn stat(t: &FilterTest, name: &str) -> u64 {
    t.stat(&format!("http.test.compressor.lib.gzip.{name}"))
}

/// Bodies of tests are texts, in which bytes that are not UTF-8 are lost: what is compressed is looked at beside the chain.
fn decoded(library: &crate::compression::Library, pieces: &[&str]) -> Vec<u8> {
    let mut e = library.encoder().unwrap();
    let mut all: Vec<u8> = pieces.iter().flat_map(|p| e.more(p.as_bytes()).unwrap()).collect();
    all.extend(e.end(b"end").unwrap());
    assert!(e.end(b"").unwrap().is_empty() && e.more(b"").unwrap().is_empty());
    let mut out = vec![];
    match library.encoding() {
        "gzip" => flate2::read::GzDecoder::new(&*all).read_to_end(&mut out).unwrap(),
        "br" => brotli::Decompressor::new(&*all, 4096).read_to_end(&mut out).unwrap(),
        _ => zstd::Decoder::new(&*all).unwrap().read_to_end(&mut out).unwrap(),
    };
    out
}

#[test]
fn libraries() {
    use nuncio_api::envoy::config::core::v3::TypedExtensionConfig;
    use nuncio_api::load::{Format, UnknownFields, parse_message};
    for (kind, config) in [
        ("Gzip", ""),
        ("Gzip", "compression_level: BEST_COMPRESSION, window_bits: 12"),
        ("Brotli", ""),
        ("Brotli", "quality: 11, encoder_mode: TEXT, window_bits: 22, input_block_bits: 16"),
        ("Zstd", ""),
        ("Zstd", "compression_level: 19, enable_checksum: true, strategy: BTULTRA"),
    ] {
        let yaml = library(kind, config);
        let yaml = yaml.strip_prefix("compressor_library: ").unwrap();
        let parsed =
            parse_message::<TypedExtensionConfig>(yaml.as_bytes(), Format::Yaml, "t", UnknownFields::Refuse);
        let library =
            crate::compression::Library::new(&parsed.unwrap_or_else(|e| panic!("{e:?}")).message).unwrap();
        let text = decoded(&library, &[TEXT, "", TEXT]);
        assert_eq!(String::from_utf8(text).unwrap(), format!("{TEXT}{TEXT}end"), "{yaml}");
    }
}

#[test]
fn a_response_is_compressed() {
    let t = gzip("").upstream_replies(reply().header("etag", "\"e\"").body(TEXT));
    let seen = get(&t, "gzip");
    assert_eq!(seen.header("content-encoding").as_deref(), Some("gzip"));
    assert_eq!(seen.header("vary").as_deref(), Some("Accept-Encoding"));
    assert_eq!((seen.header("content-length"), seen.header("etag")), (None, None));
    assert!(!seen.body.contains(TEXT) && seen.upstream().header("accept-encoding").is_some());
    assert_eq!((stat(&t, "response.compressed"), stat(&t, "header_compressor_used")), (1, 1));
    let bytes = ["response.total_uncompressed_bytes", "response.total_compressed_bytes"].map(|n| stat(&t, n));
    assert!(bytes[0] == 76 && bytes[1] > 20 && bytes[1] < 76, "{bytes:?}");
}

#[test]
fn trailers_and_several_pieces() {
    let t = gzip("").upstream_replies(Reply::new(200).body(TEXT).body(TEXT).trailer("a", "b"));
    let seen = get(&t, "gzip");
    assert_eq!((seen.trailer("a").as_deref(), seen.broken), (Some("b"), false));
    assert_eq!(stat(&t, "response.total_uncompressed_bytes"), 152);
}

#[test]
fn what_the_client_does_not_accept() {
    let t = gzip("").upstream_replies(reply().body(TEXT));
    for accept in ["br", "identity", "gzip;q=0"] {
        let seen = get(&t, accept);
        assert_eq!((seen.body.as_str(), seen.header("content-encoding")), (TEXT, None));
        assert_eq!(seen.header("vary").as_deref(), Some("Accept-Encoding"));
    }
    t.request("GET /").send();
    get(&t, "*");
    let stats =
        ["header_not_valid", "header_identity", "no_accept_header", "header_wildcard"].map(|n| stat(&t, n));
    assert_eq!(stats, [2, 1, 1, 1]);
    assert_eq!((stat(&t, "response.not_compressed"), stat(&t, "response.compressed")), (4, 1));
}

#[test]
fn what_is_left_alone() {
    let t = gzip("uncompressible_response_codes: [404], disable_on_etag_header: true");
    let untouched = |r: Reply| {
        t.replies(r);
        let seen = get(&t, "gzip");
        seen.header("content-encoding").as_deref() != Some("gzip") && seen.header("vary").is_none()
    };
    assert!(!untouched(Reply::new(200).body(TEXT)));
    assert!(untouched(Reply::new(200).header("content-length", "29").body(TEXT)));
    assert!(untouched(Reply::new(200).header("content-type", "image/png").body(TEXT)));
    assert!(untouched(Reply::new(200).header("cache-control", "a, No-Transform").body(TEXT)));
    assert!(untouched(Reply::new(200).header("content-encoding", "br").body(TEXT)));
    assert!(untouched(Reply::new(200).header("etag", "\"e\"").body(TEXT)));
    assert!(untouched(Reply::new(404).body(TEXT)));
    assert_eq!((stat(&t, "not_compressed_etag"), stat(&t, "response.content_length_too_small")), (1, 1));
    assert_eq!(stat(&t, "response.not_compressed"), 6);
}

#[test]
fn tags() {
    let tag = |config: &str, tag: &str| {
        let t = gzip(config).upstream_replies(reply().header("etag", tag).header("vary", "x").body(TEXT));
        let seen = get(&t, "gzip");
        assert_eq!(seen.header("vary").as_deref(), Some("x, Accept-Encoding"));
        seen.header("etag")
    };
    assert_eq!((tag("", "\"a\""), tag("", "W/\"a\"").as_deref()), (None, Some("W/\"a\"")));
    assert_eq!(tag("weaken_etag_on_compress: true", "\"a\"").as_deref(), Some("W/\"a\""));
}

#[test]
fn the_status_header() {
    let t = gzip(
        "status_header_enabled: true, uncompressible_response_codes: [404], disable_on_etag_header: true",
    );
    let said = |r: Reply| {
        t.replies(r);
        get(&t, "gzip").header("x-envoy-compression-status").unwrap_or_default()
    };
    assert_eq!(said(reply().body(TEXT)), "gzip;Compressed;OriginalLength=76");
    assert_eq!(said(Reply::new(200).header("content-length", "9").body(TEXT)), "gzip;ContentLengthTooSmall");
    assert_eq!(
        said(Reply::new(200).header("content-type", "image/png").body(TEXT)),
        "gzip;ContentTypeNotAllowed"
    );
    assert_eq!(said(reply().header("etag", "\"e\"").body(TEXT)), "gzip;EtagNotAllowed");
    assert_eq!(said(Reply::new(404).body(TEXT)), "gzip;StatusCodeNotAllowed");
    assert_eq!(said(Reply::new(200).header("content-encoding", "x").body(TEXT)), "");
}

#[test]
fn of_several_the_clients_weights_decide() {
    let one = |name: &str, lib: &str| {
        format!("- {{name: {name}, typed_config: {{{TYPE}.Compressor, {}}}}}\n", library(lib, ""))
    };
    let t =
        filters(&format!("{}{}", one("a", "Gzip"), one("b", "Brotli"))).upstream_replies(reply().body(TEXT));
    let encoding = |accept: &str| get(&t, accept).header("content-encoding").unwrap_or_default();
    assert_eq!(
        [encoding("gzip;q=0.1, br"), encoding("gzip, br;q=0.1"), encoding("*")],
        ["br", "gzip", "gzip"]
    );
    let shadowed =
        |lib: &str| t.stat(&format!("http.test.compressor.lib.{lib}.header_compressor_overshadowed"));
    // Who comes second looks at a response that is compressed already.
    assert_eq!((shadowed("brotli"), t.stat("http.test.compressor.lib.gzip.compressed")), (1, 2));
}

#[test]
fn requests() {
    let t = filters(&filter(&format!(
        "{}, request_direction_config: {{common_config: {{min_content_length: 70}}}}",
        library("Zstd", "")
    )));
    let send = |length: &str| {
        t.request("POST /")
            .header("content-type", "text/html")
            .header("content-length", length)
            .body(TEXT)
            .send()
    };
    let seen = send("76");
    let up = seen.upstream();
    assert_eq!((up.header("content-encoding").as_deref(), up.header("content-length")), (Some("zstd"), None));
    assert!(!up.body.contains(TEXT));
    assert_eq!(send("69").upstream().body, TEXT);
    let stat = |n: &str| t.stat(&format!("http.test.compressor.lib.zstd.request.{n}"));
    assert_eq!((stat("compressed"), stat("not_compressed"), stat("content_length_too_small")), (1, 1, 1));
}

#[test]
fn switches_and_routes() {
    let route = |path: &str, c: &str| {
        format!(
            "{{match: {{prefix: {path}}}, route: {{cluster: c}}, typed_per_filter_config: {{c: {{{TYPE}.CompressorPerRoute, {c}}}}}}}"
        )
    };
    let routes = [
        route("/off", "disabled: true"),
        route("/on", "overrides: {response_direction_config: {remove_accept_encoding_header: true}}"),
        route("/br", &format!("overrides: {{{}, response_direction_config: {{}}}}", library("Brotli", ""))),
        "{match: {prefix: /}, route: {cluster: c}}".to_owned(),
    ];
    let t = gzip("common_config: {enabled: {default_value: false, runtime_key: k}}")
        .route_config(&format!(
            "virtual_hosts: [{{name: v, domains: ['*'], routes: [{}]}}]",
            routes.join(", ")
        ))
        .upstream_replies(reply().body(TEXT));
    let send = |path: &str| {
        let seen = t.request(&format!("GET {path}")).header("accept-encoding", "gzip, br;q=0.9").send();
        (
            seen.header("content-encoding").unwrap_or_default(),
            seen.upstream().header("accept-encoding").is_some(),
        )
    };
    assert_eq!((send("/"), send("/on")), (("".into(), true), ("gzip".into(), false)));
    assert_eq!(send("/br"), ("br".into(), true));
    t.runtime("k", "true");
    assert_eq!((send("/"), send("/off")), (("gzip".into(), true), ("".into(), true)));
}

#[test]
fn refusals() {
    let other = "compressor_library: {name: q, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors}}";
    assert_eq!(
        filters(&filter(other)).refusal(),
        "Didn't find a registered implementation for type: 'envoy.extensions.filters.http.cors.v3.Cors'"
    );
}
