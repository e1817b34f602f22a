//! RFC 7541 appendix C, what decoders must refuse, and encoder against decoder.

use super::*;
use crate::name::Id;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let value = |d: u8| (d as char).to_digit(16).unwrap() as u8;
    digits.chunks(2).map(|p| value(p[0]) << 4 | value(p[1])).collect()
}

fn decode(d: &mut Decoder, block: &[u8]) -> Result<String, DecodeError> {
    let mut all = String::new();
    d.decode(block, true, |f| {
        all += &format!("{}: {}\n", String::from_utf8_lossy(f.name), String::from_utf8_lossy(f.value));
        true
    })
    .map(|()| all)
}

/// Decodes the blocks in turn; each comes with its fields, and the table's size and length afterwards.
fn vectors(limit: usize, blocks: &[(&str, &str, usize, usize)]) {
    let mut d = Decoder::new(limit, 4096);
    for (hex, fields, size, len) in blocks {
        let want: String =
            fields.lines().map(str::trim).filter(|l| !l.is_empty()).map(|l| format!("{l}\n")).collect();
        assert_eq!(decode(&mut d, &bytes(hex)).unwrap(), want);
        assert_eq!((d.table().size(), d.table().len()), (*size, *len), "{hex}");
    }
}

#[test]
fn appendix_c2_single_fields() {
    vectors(
        4096,
        &[
            ("400a637573746f6d2d6b65790d637573746f6d2d686561646572", "custom-key: custom-header", 55, 1),
            ("040c2f73616d706c652f70617468", ":path: /sample/path", 55, 1),
            ("100870617373776f726406736563726574", "password: secret", 55, 1),
            ("82", ":method: GET", 55, 1),
        ],
    );
}

const REQUESTS: [&str; 3] = [
    ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com",
    ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\ncache-control: no-cache",
    ":method: GET\n:scheme: https\n:path: /index.html\n:authority: www.example.com\ncustom-key: custom-value",
];

#[test]
fn appendix_c3_requests() {
    vectors(
        4096,
        &[
            ("828684410f7777772e6578616d706c652e636f6d", REQUESTS[0], 57, 1),
            ("828684be58086e6f2d6361636865", REQUESTS[1], 110, 2),
            ("828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565", REQUESTS[2], 164, 3),
        ],
    );
}

#[test]
fn appendix_c4_requests_huffman() {
    vectors(
        4096,
        &[
            ("828684418cf1e3c2e5f23a6ba0ab90f4ff", REQUESTS[0], 57, 1),
            ("828684be5886a8eb10649cbf", REQUESTS[1], 110, 2),
            ("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf", REQUESTS[2], 164, 3),
        ],
    );
}

const RESPONSES: [&str; 3] = [
    ":status: 302\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\nlocation: https://www.example.com",
    ":status: 307\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\nlocation: https://www.example.com",
    ":status: 200\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:22 GMT\nlocation: https://www.example.com\n\
     content-encoding: gzip\nset-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
];

#[test]
fn appendix_c5_responses_with_eviction() {
    vectors(
        256,
        &[
            (
                "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d54\
             6e1768747470733a2f2f7777772e6578616d706c652e636f6d",
                RESPONSES[0],
                222,
                4,
            ),
            ("4803333037c1c0bf", RESPONSES[1], 222, 4),
            (
                "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f\
             3d4153444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076\
             657273696f6e3d31",
                RESPONSES[2],
                215,
                3,
            ),
        ],
    );
}

#[test]
fn appendix_c6_responses_huffman_with_eviction() {
    vectors(
        256,
        &[
            (
                "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f\
             0b97c8e9ae82ae43d3",
                RESPONSES[0],
                222,
                4,
            ),
            ("4883640effc1c0bf", RESPONSES[1], 222, 4),
            (
                "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335df\
             dfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
                RESPONSES[2],
                215,
                3,
            ),
        ],
    );
}

#[test]
fn refused() {
    let all = [
        ("80", DecodeError::Index),
        ("be", DecodeError::Index),
        ("7f00 00", DecodeError::Index),
        ("ffffffffffff", DecodeError::TooLarge),
        ("82 20", DecodeError::SizeUpdate),
        ("3fe21f", DecodeError::SizeUpdate), // 4097
        ("82 40", DecodeError::Truncated),
        ("00 01", DecodeError::Truncated),
        ("00 0178 7f", DecodeError::Truncated),
        ("00 0178 81ff", DecodeError::Huffman),
        ("00 81ff 0178", DecodeError::Huffman),
        ("00 0178 7f821f", DecodeError::TooLarge), // 4097
    ];
    for (hex, why) in all {
        assert_eq!(decode(&mut Decoder::new(4096, 4096), &bytes(hex)), Err(why), "{hex}");
    }
}

#[test]
fn size_updates() {
    let mut d = Decoder::new(4096, 4096);
    decode(&mut d, &bytes("4001780179")).unwrap();
    assert_eq!(d.table().len(), 1);
    // To nothing and back at once: the entry is gone.
    assert_eq!(decode(&mut d, &bytes("20 3fe11f be")), Err(DecodeError::Index));
    let mut d = Decoder::new(4096, 4096);
    decode(&mut d, &bytes("4001780179")).unwrap();
    // After the limit was lowered and acknowledged, the next block has to say so.
    d.set_limit(64);
    assert_eq!(decode(&mut d, &bytes("82")), Err(DecodeError::SizeUpdate));
    let mut d = Decoder::new(4096, 4096);
    d.set_limit(64);
    assert_eq!(decode(&mut d, &bytes("3f21 82")).unwrap(), ":method: GET\n");
    assert_eq!(decode(&mut d, &bytes("82")).unwrap(), ":method: GET\n");
}

#[test]
fn an_entry_too_large_for_the_table_empties_it() {
    let mut d = Decoder::new(64, 4096);
    decode(&mut d, &bytes("4001780179")).unwrap();
    let mut block = bytes("400178");
    block.push(40);
    block.extend_from_slice(&[b'v'; 40]);
    decode(&mut d, &block).unwrap();
    assert_eq!((d.table().len(), d.table().size()), (0, 0));
}

#[test]
fn a_name_survives_the_eviction_of_its_entry() {
    // The new entry takes its name from the only one there is, which has to go.
    let mut d = Decoder::new(45, 4096);
    decode(&mut d, &bytes("40 04 6e616d65 01 31")).unwrap();
    assert_eq!(decode(&mut d, &bytes("7e 05 3232323232")).unwrap(), "name: 22222\n");
    assert_eq!(decode(&mut d, &bytes("be")).unwrap(), "name: 22222\n");
}

#[test]
fn fragments_of_any_length() {
    let block = bytes("828684418cf1e3c2e5f23a6ba0ab90f4ff408825a849e95ba97d7f8925a849e95bb8e8b4bf0001780179");
    let whole = decode(&mut Decoder::new(4096, 4096), &block).unwrap();
    for step in 1..block.len() {
        let (mut d, mut all) = (Decoder::new(4096, 4096), String::new());
        let parts: Vec<&[u8]> = block.chunks(step).collect();
        for (i, part) in parts.iter().enumerate() {
            d.decode(part, i + 1 == parts.len(), |f| {
                all +=
                    &format!("{}: {}\n", String::from_utf8_lossy(f.name), String::from_utf8_lossy(f.value));
                true
            })
            .unwrap();
        }
        assert_eq!(all, whole, "{step}");
    }
}

fn field(e: &mut Encoder, out: &mut Vec<u8>, name: &str, value: &str) {
    e.field(out, Id::of(name.as_bytes()), name.as_bytes(), value.as_bytes());
}

#[test]
fn repeated_headers_shrink_to_a_byte_each() {
    let (mut e, mut d) = (Encoder::new(4096), Decoder::new(4096, 4096));
    let all = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "example.com"),
        ("user-agent", "test"),
        ("x-own", "value"),
        ("x-envoy-attempt-count", "1"),
    ];
    let want: String = all.iter().map(|(n, v)| format!("{n}: {v}\n")).collect();
    for round in 0..3 {
        let mut out = Vec::new();
        e.begin(&mut out);
        all.iter().for_each(|(n, v)| field(&mut e, &mut out, n, v));
        assert_eq!(decode(&mut d, &out).unwrap(), want);
        assert_eq!(out.len() == all.len(), round > 0, "{round}: {}", out.len());
    }
}

#[test]
fn credentials_are_never_indexed_and_ids_keep_the_table_clean() {
    let mut e = Encoder::new(4096);
    let mut out = Vec::new();
    field(&mut e, &mut out, "authorization", "Basic abc");
    field(&mut e, &mut out, "cookie", "a=b");
    assert_eq!((out[0] & 0xf0, e.table().len()), (0x10, 0));
    for i in 0..100 {
        field(&mut e, &mut out, "x-request-id", &format!("{i}"));
        field(&mut e, &mut out, ":path", &format!("/{i}"));
    }
    assert_eq!(e.table().len(), 1); // the name of x-request-id
}

#[test]
fn encoder_and_decoder_agree_on_random_blocks() {
    let mut seed = 7u64;
    let mut next = |n: u64| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) % n
    };
    for limit in [0, 100, 1000, 4096, 20_000] {
        let (mut e, mut d) = (Encoder::new(limit), Decoder::new(limit.max(4096), 1 << 16));
        e.set_peer_limit(20_000);
        d.set_limit(limit);
        for round in 0..400 {
            if round % 50 == 49 {
                let size = next(limit as u64 + 1) as usize;
                e.set_peer_limit(size);
                e.set_peer_limit(limit);
            }
            let (mut out, mut want) = (Vec::new(), String::new());
            e.begin(&mut out);
            for _ in 0..next(20) {
                let name = match next(4) {
                    0 => ["date", "server", "cookie", ":path", "x-request-id", "etag"][next(6) as usize]
                        .to_string(),
                    1 => format!("x-{}", next(1000)),
                    _ => format!("y-{}", next(8)),
                };
                let value = match next(5) {
                    0 => "v".repeat(next(300) as usize),
                    1 => format!("{}", next(100_000)),
                    _ => format!("{}", next(5)),
                };
                field(&mut e, &mut out, &name, &value);
                want += &format!("{name}: {value}\n");
            }
            assert_eq!(decode(&mut d, &out).unwrap(), want, "limit {limit}, round {round}");
            assert_eq!(e.table().len(), d.table().len());
        }
    }
}
