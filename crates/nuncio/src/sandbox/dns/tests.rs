use super::message::{Transport, answer};
use super::*;

const A: u16 = 1;
const AAAA: u16 = 28;

/// A query with id 0xbeef and RD; `udp_size` adds an OPT record.
fn query(name: &str, kind: u16, udp_size: Option<u16>) -> Vec<u8> {
    let mut out = vec![0xbe, 0xef, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(udp_size.is_some())];
    for label in name.split('.').filter(|l| !l.is_empty()) {
        out.push(label.len() as u8);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&[0, 1]);
    if let Some(size) = udp_size {
        out.extend_from_slice(&[0, 0, 41]);
        out.extend_from_slice(&size.to_be_bytes());
        out.extend_from_slice(&[0, 0, 0, 0, 0, 0]);
    }
    out
}

fn zone() -> Zone {
    let zone = Zone::default();
    zone.set("service1", vec![Ipv4Addr::new(127, 0, 1, 21), Ipv4Addr::new(127, 0, 1, 22)]);
    zone.set("empty", vec![]);
    zone.set("many", (21..=120).map(|n| Ipv4Addr::new(127, 0, 1, n)).collect());
    zone
}

fn udp(message: &[u8]) -> Vec<u8> {
    answer(message, &zone(), Transport::Udp).expect("an answer")
}

/// Flags (with code), and the four counts.
fn header(message: &[u8]) -> ([u8; 2], [u16; 4]) {
    let count = |i: usize| u16::from_be_bytes([message[4 + 2 * i], message[5 + 2 * i]]);
    ([message[2], message[3]], [count(0), count(1), count(2), count(3)])
}

#[test]
fn addresses_of_a_name() {
    let mut expected = vec![0xbe, 0xef, 0x85, 0x80, 0, 1, 0, 2, 0, 0, 0, 0];
    expected.extend_from_slice(b"\x08service1\x00\x00\x01\x00\x01");
    expected.extend_from_slice(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x01\x00\x04\x7f\x00\x01\x15");
    expected.extend_from_slice(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x01\x00\x04\x7f\x00\x01\x16");
    assert_eq!(udp(&query("service1", A, None)), expected);
}

#[test]
fn case_is_ignored_and_repeated() {
    let reply = udp(&query("SerVice1", A, None));
    assert_eq!(header(&reply), ([0x85, 0x80], [1, 2, 0, 0]));
    assert!(reply.windows(8).any(|w| w == b"SerVice1"));
}

#[test]
fn no_data_is_not_no_name() {
    assert_eq!(header(&udp(&query("service1", AAAA, None))), ([0x85, 0x80], [1, 0, 0, 0]));
    assert_eq!(header(&udp(&query("empty", A, None))), ([0x85, 0x80], [1, 0, 0, 0]));
    assert_eq!(header(&udp(&query("service1.example.com", A, None))), ([0x85, 0x83], [1, 0, 0, 0]));
    assert_eq!(header(&udp(&query(".", A, None))), ([0x85, 0x83], [1, 0, 0, 0]));
}

#[test]
fn long_answers_are_truncated_unless_there_is_room() {
    let truncated = ([0x87, 0x80], [1, 0, 0, 0]);
    assert_eq!(header(&udp(&query("many", A, None))), truncated);
    let small = udp(&query("many", A, Some(1232)));
    assert_eq!(header(&small), ([0x87, 0x80], [1, 0, 0, 1]));
    let large = udp(&query("many", A, Some(4096)));
    assert_eq!(header(&large), ([0x85, 0x80], [1, 100, 0, 1]));
    assert!(large.len() <= 4096);
    assert_eq!(&large[large.len() - 11..], [0, 0, 41, 0x10, 0, 0, 0, 0, 0, 0, 0]);
    let tcp = answer(&query("many", A, None), &zone(), Transport::Tcp).expect("an answer");
    assert_eq!(header(&tcp), ([0x85, 0x80], [1, 100, 0, 0]));
}

#[test]
fn what_is_no_query_is_refused_or_ignored() {
    let good = query("service1", A, Some(512));
    // Too short for an id, or an answer: silence, or two servers could talk for ever.
    assert_eq!(answer(&good[..11], &zone(), Transport::Udp), None);
    let mut response = good.clone();
    response[2] |= 0x80;
    assert_eq!(answer(&response, &zone(), Transport::Udp), None);
    // Cut anywhere behind the header.
    for end in 12..good.len() {
        let reply = answer(&good[..end], &zone(), Transport::Udp).expect("a refusal");
        assert_eq!(header(&reply), ([0x85, 0x81], [0, 0, 0, 0]), "cut at {end}");
    }
    // A pointer where the first name must be; an update instead of a query; CHAOS instead of Internet.
    let mut pointer = good.clone();
    pointer[12] = 0xc0;
    assert_eq!(header(&udp(&pointer)).0, [0x85, 0x81]);
    let mut update = good.clone();
    update[2] = 5 << 3;
    assert_eq!(header(&udp(&update)).0, [0x84, 0x84]);
    let mut chaos = query("service1", A, None);
    let last = chaos.len() - 1;
    chaos[last] = 3;
    assert_eq!(header(&udp(&chaos)).0, [0x85, 0x85]);
}

#[tokio::test]
async fn both_transports_see_a_change_at_once() {
    let zone = zone();
    // A port that is free for both is found by trying.
    let (address, _server) = loop {
        let free =
            std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket").local_addr().expect("its address");
        if let Ok(server) = Server::start(free, zone.clone()).await {
            break (free, server);
        }
    };
    let udp = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let mut tcp = TcpStream::connect(address).await.expect("a connection");
    let mut buffer = [0; 4096];
    for count in [2, 3] {
        zone.set("service1", vec![Ipv4Addr::LOCALHOST; count]);
        let question = query("service1", A, None);
        udp.send_to(&question, address).await.expect("sent");
        let (length, _) = udp.recv_from(&mut buffer).await.expect("an answer");
        assert_eq!(header(&buffer[..length]).1[1], count as u16);

        let mut framed = (question.len() as u16).to_be_bytes().to_vec();
        framed.extend_from_slice(&question);
        tcp.write_all(&framed).await.expect("sent");
        let length = usize::from(tcp.read_u16().await.expect("a length"));
        tcp.read_exact(&mut buffer[..length]).await.expect("an answer");
        assert_eq!(header(&buffer[..length]).1[1], count as u16);
    }
}
