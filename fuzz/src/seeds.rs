//! Where mutations begin, and the pieces they insert.

#[path = "../../crates/wire/tests/seeds/h1.rs"]
mod h1;

pub use h1::PIECES as H1_PIECES;
use std::path::Path;

/// In front of what HTTP parsers get: settings, and how it is cut.
fn with_knobs(texts: &[&[u8]]) -> Vec<Vec<u8>> {
    let knobs: [[u8; 2]; 4] = [[0, 0], [0x1c, 6], [0x23, 0xff], [0xff, 2]];
    knobs.iter().flat_map(|k| texts.iter().map(|t| [&k[..], t].concat())).collect()
}

/// Requests of all framings.
pub fn h1_request() -> Vec<Vec<u8>> {
    with_knobs(h1::REQUESTS)
}

/// Responses of all framings.
pub fn h1_response() -> Vec<Vec<u8>> {
    with_knobs(h1::RESPONSES)
}

/// A frame (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// `GET http://a/` and `POST …` as HPACK blocks of static entries and literals.
const GET: &[u8] = b"\x82\x86\x84\x41\x01a";
const POST: &[u8] = b"\x83\x86\x84\x41\x01a\x0f\x0d\x015";
/// A literal that goes into the table, then its entry; a Huffman string; a table size update.
const TABLED: &[u8] = b"\x40\x01x\x03abc\xbe";
const HUFFMAN: &[u8] = b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";

/// Header blocks, each behind its length.
pub fn hpack() -> Vec<Vec<u8>> {
    let block = |b: &[u8]| [&[b.len() as u8], b].concat();
    let all = [GET, POST, TABLED, HUFFMAN, b"\x20\x82", b"\x3f\xe1\x1f\x82", b"\x00\x01a\x01b\x10\x01c\x01d"];
    let mut seeds: Vec<Vec<u8>> = all.iter().map(|b| [vec![1], block(b)].concat()).collect();
    seeds.push([vec![3], all.iter().take(4).flat_map(|b| block(b)).collect()].concat());
    seeds
}

/// A conversation with a bit of everything.
pub fn h2_server() -> Vec<Vec<u8>> {
    let start = [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
        &frame(4, 0, 0, b"\0\x04\0\0\xff\xff\0\x01\0\0\x01\0"),
        &frame(4, 1, 0, b""),
    ]
    .concat();
    let bodies: [Vec<u8>; 5] = [
        frame(1, 5, 1, GET),
        [
            frame(1, 4, 1, POST),
            frame(0, 0, 1, b"hel"),
            frame(0, 9, 1, b"\x02lo\0\0"),
            frame(6, 0, 0, b"12345678"),
        ]
        .concat(),
        [frame(1, 1, 3, &GET[..3]), frame(9, 4, 3, &GET[3..]), frame(8, 0, 0, &1000u32.to_be_bytes())]
            .concat(),
        [
            frame(1, 4, 1, &[b"\x83\x86\x84\x41\x01a", TABLED].concat()),
            frame(1, 5, 1, b"\x40\x02tr\x01v"),
            frame(2, 0, 3, &[0, 0, 0, 1, 9]),
            frame(1, 0x25, 5, &[&[0, 0, 0, 1, 9], HUFFMAN].concat()),
            frame(3, 0, 5, &8u32.to_be_bytes()),
        ]
        .concat(),
        [frame(0xbe, 0, 9, b"grease"), frame(7, 0, 0, &[0; 8]), frame(1, 5, 7, GET)].concat(),
    ];
    let texts: Vec<Vec<u8>> = bodies.iter().map(|b| [&start[..], b].concat()).collect();
    with_knobs(&texts.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

/// Answers to the three requests that are under way.
pub fn h2_client() -> Vec<Vec<u8>> {
    let start = [frame(4, 0, 0, b"\0\x03\0\0\0\x09"), frame(4, 1, 0, b"")].concat();
    let bodies: [Vec<u8>; 4] = [
        frame(1, 5, 1, b"\x88"),
        [
            frame(1, 4, 1, b"\x08\x03103"),
            frame(1, 4, 1, b"\x88\x0f\x0d\x015"),
            frame(0, 0, 1, b"hello"),
            frame(1, 5, 1, TABLED),
        ]
        .concat(),
        [frame(1, 4, 3, b"\x88"), frame(0, 1, 3, b"hello"), frame(3, 0, 5, &7u32.to_be_bytes())].concat(),
        [
            frame(1, 4, 5, b"\x8d"),
            frame(7, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]),
            frame(8, 0, 3, &9u32.to_be_bytes()),
        ]
        .concat(),
    ];
    let texts: Vec<Vec<u8>> = bodies.iter().map(|b| [&start[..], b].concat()).collect();
    with_knobs(&texts.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

/// Frames, heads of frames, header fields.
pub const H2_PIECES: &[&[u8]] = &[
    b"\0",
    b"\x80",
    b"\xff",
    b"\xbe",
    b"\x0f\x0d\x015",
    b"\x0f\x0d\x010",
    b"\x40\x01x\x03abc",
    b"\x00\x01x\x00",
    b"\x3f\xe1\x1f",
    b"\x20",
    b"\x7f\xff\xff\xff\xff\xff\x0f",
    b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x08",
    b"\0\0\0\0\0\0\0\0\x01",
    b"\0\0\0\0\x01\0\0\0\x01",
    b"\0\0\0\x01\x01\0\0\0\x01",
    b"\0\0\0\x09\x04\0\0\0\x01",
    b"\0\0\0\x04\0\0\0\0\0",
    b"\0\0\x04\x08\0\0\0\0\0\x7f\xff\xff\xff",
    b"\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\0",
    b"\0\0\x08\x06\0\0\0\0\0abcdefgh",
    b"\0\0\x05\x02\0\0\0\0\x03\0\0\0\x05\x01",
    b"\0\0\x06\x01\x05\0\0\0\x09\x82\x86\x84\x41\x01a",
];

/// Our own examples and the variants that the schema's tests know, as YAML; JSON, text and binary beside them.
pub fn config() -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files: Vec<_> = ["crates/api/tests/variants", "examples/front-proxy"]
        .iter()
        .flat_map(|folder| std::fs::read_dir(root.join(folder)).into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    files.sort();
    assert!(files.len() > 100, "the configurations were not found");
    let mut seeds: Vec<Vec<u8>> =
        files.iter().filter_map(|f| Some([vec![0], std::fs::read(f).ok()?].concat())).collect();
    seeds.push(br#"?{"node": {"id": "n", "metadata": {"a": [1, -2.5e3, null, true, "x\u00e9"]}}, "stats_flush_interval": "5s", "static_resources": {"clusters": [{"name": "c", "connect_timeout": "0.25s", "type": "STATIC"}]}}"#.to_vec());
    seeds.push(br#"?node { id: "n" metadata { fields { key: "a" value { number_value: -1.5 } } } } stats_flush_interval { seconds: 5 } static_resources { clusters { name: 'c\x41' type: STATIC } }"#.to_vec());
    seeds.push(b"?\x0a\x05\x0a\x01n\x12\0".to_vec());
    for (seed, format) in seeds.iter_mut().rev().zip([3, 2, 1]) {
        seed[0] = format;
    }
    seeds
}

/// What YAML, JSON and protobuf trip over.
pub const CONFIG_PIECES: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b": ",
    b"- ",
    b",",
    b"&a ",
    b"*a",
    b"<<: *a\n",
    b"!!str ",
    b"|\n",
    b">-\n",
    b"'",
    b"\"",
    b"%",
    b"@",
    b"`",
    b"#",
    b"?",
    b"\n",
    b"\t",
    b"\r\n",
    b"  ",
    b"---\n",
    b"...\n",
    b"null",
    b"~",
    b"true",
    b"1e400",
    b"-0",
    b"0x10",
    b".inf",
    b"18446744073709551616",
    b"\xc3\xa9",
    b"\xff",
    b"\0",
    b"\\u0000",
    b"\\ud800",
    b"\"@type\": ",
    b"type.googleapis.com/google.protobuf.Struct",
    b"315576000001s",
    b"[[[[[[[[",
    b"{{{{{{{{",
];

/// Commands with and without parameters, lengths, literals.
pub fn format() -> Vec<Vec<u8>> {
    [
        "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE%\n/a\n\x07b",
        "%REQ(x):5% %RESP(x?y)% %% %TRAILER(t)%\n\r\nforged",
        "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)% %START_TIME(%s.%9f)%\nx",
        "%DYNAMIC_METADATA(a:b:c):3% %FILTER_STATE(k:PLAIN)% %CEL(x)%\nx",
        "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(24)% %UPSTREAM_HOST% %DURATION%\nx",
        "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:ms)% %ENVIRONMENT(HOME):2% %HOSTNAME%\nx",
        "%QUERY_PARAM(a)% %PATH(NQ:ORIG)% %LOCAL_REPLY_BODY% %RESPONSE_FLAGS_LONG%\n/p?a=%0a%0d%00&b",
        "%DOWNSTREAM_PEER_URI_SAN% %DOWNSTREAM_LOCAL_ADDRESS% %CONNECTION_ID% %STREAM_ID%\nx",
    ]
    .iter()
    .map(|s| s.as_bytes().to_vec())
    .collect()
}

/// What the syntax of formats is made of.
pub const FORMAT_PIECES: &[&[u8]] = &[
    b"%",
    b"%%",
    b"(",
    b")",
    b":",
    b"?",
    b":0%",
    b":99999999999999999999%",
    b"()",
    b"%REQ(x)%",
    b"%RESP(",
    b"%START_TIME(%",
    b"%E4n",
    b"%9f",
    b"%Z",
    b"%QUERY_PARAM(a)%",
    b"%PATH(NQ:PATH)%",
    b"\n",
    b"\r",
    b"\0",
    b"\x1b",
    b"\xc3\xa9",
    b"%0a",
    b"*",
    b"%PER_REQUEST_STATE(x)%",
    b"%DYNAMIC_METADATA([\"a\", \"b\"])%",
    b"%BYTES_SENT%",
    b"%TRACE_ID%",
];

/// RE2's syntax.
pub fn regex() -> Vec<Vec<u8>> {
    [
        "^/a/(b|c)+/[^/]*$\n\\1-\\0\n/a/bcb/x",
        "(?i)ab{2,3}?c\\d\\w\\s\\b\n\\\\x\nABBC1a ",
        "(?P<n>[[:alpha:]]+)(?:x*)\\pN\\x{41}\\Q.*\\E\n\\2\nabcx",
        "[a-z&&[^b]]|.{0,1000}\n\\9\nzzz",
        "((((((((((a*)*)*)*)*)*)*)*)*)*)$\n\\0\naaaaaaaaaaaaaaaaaaaaaaaaaaaab",
        "\\C\\A\\z\\pL\\P{Greek}\\077\n\nx\u{e9}",
    ]
    .iter()
    .map(|s| s.as_bytes().to_vec())
    .collect()
}

/// What that syntax is made of.
pub const REGEX_PIECES: &[&[u8]] = &[
    b"(",
    b")",
    b"(?:",
    b"(?i)",
    b"(?P<a>",
    b"[",
    b"]",
    b"[^",
    b"[[:alpha:]]",
    b"\\",
    b"\\p{Greek}",
    b"\\x{10FFFF}",
    b"\\Q",
    b"\\E",
    b"*",
    b"+",
    b"?",
    b"{2,3}",
    b"{1000}",
    b"{1001}",
    b"|",
    b"^",
    b"$",
    b".",
    b"-",
    b"\\d",
    b"\\C",
    b"\\1",
    b"\n",
    b"\xc3\xa9",
    b"\xff",
];
