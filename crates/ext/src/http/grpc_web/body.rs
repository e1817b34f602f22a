//! Bodies between gRPC-Web and gRPC: base64 in both directions, and trailers as the last frame of a body.

use crate::grpc::FRAME_HEAD;
use nuncio_core::base64;
use nuncio_core::body::{Body, BodyError, BodySource, Frame};
use nuncio_core::{LocalReply, StreamShared};
use nuncio_wire::{Chunk, HeaderMap};
use std::task::{Context, Poll, ready};

/// A request whose body is base64.
pub struct DecodedText {
    body: Body,
    /// At most three characters that wait for the rest of their group.
    held: Vec<u8>,
}

impl DecodedText {
    /// Decodes `body`.
    pub fn new(body: Body) -> DecodedText {
        DecodedText { body, held: vec![] }
    }
}

fn refused(details: &'static str) -> BodyError {
    BodyError::Reply(Box::new(LocalReply::new(400, "Bad gRPC-web request, invalid base64 data.", details)))
}

impl BodySource for DecodedText {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        sx: &StreamShared,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        loop {
            match ready!(self.body.poll_frame(cx, sx)) {
                Some(Ok(Frame::Data(data))) => {
                    self.held.extend_from_slice(&data);
                    let rest = self.held.split_off(self.held.len() / 4 * 4);
                    let groups = std::mem::replace(&mut self.held, rest);
                    if groups.is_empty() {
                        continue;
                    }
                    return Poll::Ready(Some(match base64::decode(&groups) {
                        Some(d) if !d.is_empty() => Ok(Frame::Data(Chunk::from(d))),
                        _ => Err(refused("grpc_base_64_decode_failed")),
                    }));
                }
                None if !self.held.is_empty() => {
                    return Poll::Ready(Some(Err(refused("grpc_base_64_decode_failed_bad_size"))));
                }
                other => return Poll::Ready(other),
            }
        }
    }
    fn is_end(&self) -> bool {
        self.held.is_empty() && self.body.is_end()
    }
}

/// A response whose trailers become a frame, and which may be base64: each frame of gRPC by itself.
pub struct EncodedResponse<F> {
    body: Body,
    text: bool,
    /// Told of the trailers.
    trailers: F,
    /// Bytes of the frame that are still to come; its head counts.
    left: u64,
    head: Vec<u8>,
    /// At most two bytes that wait for the rest of their group.
    held: Vec<u8>,
    over: bool,
}

impl<F: Fn(&HeaderMap)> EncodedResponse<F> {
    /// Encodes `body`.
    pub fn new(body: Body, text: bool, trailers: F) -> EncodedResponse<F> {
        EncodedResponse { body, text, trailers, left: 0, head: vec![], held: vec![], over: false }
    }
    /// Encodes as much of some frames as is there; padding only stands at the end of each.
    fn encode(&mut self, mut data: &[u8]) -> String {
        let mut out = String::new();
        while !data.is_empty() {
            if self.left == 0 {
                self.head.push(data[0]);
                self.held.push(data[0]);
                data = &data[1..];
                if let [_, a, b, c, d] = self.head[..] {
                    self.left = u64::from(u32::from_be_bytes([a, b, c, d]));
                    self.head.clear();
                    if self.left == 0 {
                        self.flush(&mut out);
                    }
                }
                continue;
            }
            let n = data.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
            self.held.extend_from_slice(&data[..n]);
            self.left -= n as u64;
            data = &data[n..];
            if self.left == 0 {
                self.flush(&mut out);
            }
        }
        // Whole groups of what is not at its end yet.
        let rest = self.held.split_off(self.held.len() / 3 * 3);
        out.push_str(&base64::encode(&self.held));
        self.held = rest;
        out
    }
    fn flush(&mut self, out: &mut String) {
        out.push_str(&base64::encode(&self.held));
        self.held.clear();
    }
    fn trailer_frame(&self, trailers: &HeaderMap) -> Chunk {
        let mut lines = vec![];
        for h in trailers.iter() {
            lines.extend_from_slice(h.name);
            lines.push(b':');
            lines.extend_from_slice(h.value);
            lines.extend_from_slice(b"\r\n");
        }
        let mut frame = Vec::with_capacity(FRAME_HEAD + lines.len());
        frame.push(0x80);
        frame.extend_from_slice(&(lines.len() as u32).to_be_bytes());
        frame.extend_from_slice(&lines);
        if self.text { Chunk::from(base64::encode(&frame)) } else { Chunk::from(frame) }
    }
}

impl<F: Fn(&HeaderMap)> BodySource for EncodedResponse<F> {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        sx: &StreamShared,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        loop {
            if self.over {
                return Poll::Ready(None);
            }
            match ready!(self.body.poll_frame(cx, sx)) {
                Some(Ok(Frame::Data(data))) if self.text => {
                    let text = self.encode(&data);
                    if text.is_empty() {
                        continue;
                    }
                    return Poll::Ready(Some(Ok(Frame::Data(Chunk::from(text)))));
                }
                Some(Ok(Frame::Trailers(t))) => {
                    self.over = true;
                    (self.trailers)(&t);
                    return Poll::Ready(Some(Ok(Frame::Data(self.trailer_frame(&t)))));
                }
                other => return Poll::Ready(other),
            }
        }
    }
    fn is_end(&self) -> bool {
        self.over || self.body.is_end()
    }
}

/// No data, then trailers.
pub struct OnlyTrailers(pub Option<Box<HeaderMap>>);

impl BodySource for OnlyTrailers {
    fn poll_frame(
        &mut self,
        _: &mut Context<'_>,
        _: &StreamShared,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        Poll::Ready(self.0.take().map(|t| Ok(Frame::Trailers(t))))
    }
    fn is_end(&self) -> bool {
        self.0.is_none()
    }
}
