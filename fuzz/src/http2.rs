//! HTTP/2: whatever the peer's frames are, memory stays bounded and only whole frames are sent.

use nuncio_wire::h2::{Connection, ErrorCode, Event, Settings, StreamId};
use nuncio_wire::{Chunk, HeaderMap, ReadBuf, RequestHead, ResponseHead, Version, name};

fn settings(knobs: u8) -> Settings {
    let on = |bit: u8| knobs & (1 << bit) != 0;
    Settings {
        max_concurrent_streams: if on(0) { 3 } else { 100 },
        initial_window_size: if on(1) { 65_535 } else { 1 << 20 },
        connection_window: if on(1) { 65_535 } else { 2 << 20 },
        enable_connect_protocol: on(2),
        max_headers_bytes: if on(3) { 200 } else { 60 * 1024 },
        stream_error_on_invalid_messaging: on(4),
        max_outbound_frames: 200,
        max_outbound_control_frames: 50,
        ..Settings::default()
    }
}

/// A connection and what its owner would do.
struct Peer {
    connection: Connection,
    /// Streams that said they were not to be answered at once.
    knobs: u8,
    /// Everything written, when the peer reads at all.
    written: Vec<u8>,
}

/// Frames as a listener reads them (the preface is part of the seeds).
pub fn h2_server(data: &[u8]) {
    let Some((&[knobs, step], bytes)) = data.split_first_chunk() else { return };
    Peer { connection: Connection::server(settings(knobs).into()), knobs, written: Vec::new() }
        .run(bytes, step);
}

/// Frames as a cluster's connection reads them, with three requests under way.
pub fn h2_client(data: &[u8]) {
    let Some((&[knobs, step], bytes)) = data.split_first_chunk() else { return };
    let mut connection = Connection::client(settings(knobs).into());
    let mut head = RequestHead { headers: HeaderMap::new(), version: Version::Http2 };
    for (name, value) in [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")] {
        head.headers.append(name, value.as_bytes());
    }
    for token in 0..3 {
        if let Ok(id) = connection.open(&head, token != 1, token) {
            connection.send_data(id, &mut Chunk::from("body"), false);
        }
    }
    Peer { connection, knobs, written: Vec::new() }.run(bytes, step);
}

impl Peer {
    fn run(mut self, bytes: &[u8], step: u8) {
        let mut buf = ReadBuf::new();
        let step = if step == 0 { bytes.len().max(1) } else { step as usize };
        for piece in bytes.chunks(step) {
            buf.extend(piece);
            loop {
                match self.connection.read(&mut buf) {
                    Ok(Some(event)) => self.act(event),
                    Ok(None) => break,
                    Err(_) => return self.finish(),
                }
            }
            while let Some((id, _)) = self.connection.writable() {
                self.connection.send_data(id, &mut Chunk::from("more"), true);
            }
            // Bit 5: a peer that never reads what we write.
            if self.knobs & 0x20 == 0 {
                self.write();
            }
            self.bounded();
        }
        self.finish();
    }

    /// As the engine would: answers, hands bodies on, sometimes gives up.
    fn act(&mut self, event: Event) {
        let c = &mut self.connection;
        match event {
            Event::Request { id, head, end } => {
                check(&head.headers);
                assert!(!head.method().is_empty());
                c.set_token(id, id.0);
                match id.0 / 2 % 4 {
                    0 if end => {
                        let _ = c.send_response(id, &ResponseHead::new(204), true);
                    }
                    1 => {
                        let _ = c.send_response(id, &ResponseHead::new(200), false);
                        c.send_data(id, &mut Chunk::from(vec![b'x'; 3_000]), true);
                    }
                    2 => c.reset(id, ErrorCode::CANCEL),
                    // Left waiting.
                    _ => {}
                }
            }
            Event::Data { id, data, end, .. } => {
                if id.0 % 3 != 0 {
                    c.release(id, data.len());
                }
                if end {
                    let _ = c.send_response(id, &ResponseHead::new(200), true);
                }
            }
            Event::Trailers { map, .. } => check(&map),
            Event::Response { head, .. } => {
                check(&head.headers);
                assert!((100..1000).contains(&head.status));
            }
            _ => {}
        }
    }

    /// However much a peer sends: what we remember of it, and what waits for it, has a limit.
    fn bounded(&mut self) {
        assert!(self.connection.streams() <= 100, "{} streams", self.connection.streams());
        assert!(self.connection.slots() <= 100 + 2_000, "{} slots", self.connection.slots());
        let waiting = self.connection.out().len();
        assert!(waiting <= 2 << 20, "{waiting} bytes wait");
    }

    fn write(&mut self) {
        let out = self.connection.out();
        while !out.is_empty() {
            let n = out.front().len();
            self.written.extend_from_slice(out.front());
            out.advance(n);
        }
    }

    /// All that was written is whole frames, none longer than the peer allowed at first.
    fn finish(mut self) {
        self.bounded();
        self.write();
        let mut rest = &self.written[..];
        rest = rest.strip_prefix(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap_or(rest);
        while let Some((head, tail)) = rest.split_first_chunk::<9>() {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            assert!(
                length <= 16_384 && length <= tail.len(),
                "a frame of {length} bytes, {} follow",
                tail.len()
            );
            rest = &tail[length..];
        }
        assert!(rest.is_empty(), "half a frame head was sent");
        let ids: Vec<StreamId> = self.connection.each().map(|(id, _)| id).collect();
        for id in ids {
            self.connection.reset(id, ErrorCode::CANCEL);
        }
        assert_eq!(self.connection.streams(), 0);
    }
}

/// Nothing that is handed on can be read as two messages.
fn check(headers: &HeaderMap) {
    for h in headers.iter() {
        assert!(!h.value.iter().any(|c| matches!(c, b'\r' | b'\n' | 0)), "{headers:?}");
        assert!(!h.name.is_empty() && !h.name.iter().any(u8::is_ascii_uppercase), "{headers:?}");
    }
    assert!(headers.get_all(name::CONTENT_LENGTH).count() <= 1, "{headers:?}");
    assert!(!headers.contains(name::TRANSFER_ENCODING), "{headers:?}");
}
