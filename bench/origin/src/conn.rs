//! One connection: reads, hands the bytes to the protocol that the first of them announce, writes what it says.

use crate::h1::{Answers, H1};
use crate::h2::{self, H2};
use mio::net::TcpStream;
use std::io::{ErrorKind, Read, Write};

/// Bytes read at once; a request fits in many times over.
const READ: usize = 16 * 1024;

enum Protocol {
    Unknown,
    H1(H1),
    H2(H2),
}

pub struct Conn {
    stream: TcpStream,
    protocol: Protocol,
    input: Vec<u8>,
    output: Vec<u8>,
    /// How much of `output` is written.
    written: usize,
    /// Close once `output` is written.
    closing: bool,
}

impl Conn {
    pub fn new(stream: TcpStream) -> Self {
        let (input, output) = (Vec::new(), Vec::new());
        Self { stream, protocol: Protocol::Unknown, input, output, written: 0, closing: false }
    }

    /// Reads and writes all that is possible. False when the connection is over.
    pub fn ready(&mut self, answers: &Answers) -> bool {
        self.flush() && self.read(answers) && self.flush()
    }

    fn read(&mut self, answers: &Answers) -> bool {
        loop {
            let start = self.input.len();
            self.input.resize(start + READ, 0);
            let read = self.stream.read(&mut self.input[start..]);
            self.input.truncate(start + *read.as_ref().unwrap_or(&0));
            let full = match read {
                Ok(0) => return false,
                Ok(size) => size == READ,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return false,
            };
            if !self.feed(answers) {
                return false;
            }
            if !full {
                return true;
            }
        }
    }

    fn feed(&mut self, answers: &Answers) -> bool {
        if let Protocol::Unknown = self.protocol {
            let known = self.input.len().min(h2::PREFACE.len());
            if self.input[..known] != h2::PREFACE[..known] {
                self.protocol = Protocol::H1(H1::default());
            } else if known == h2::PREFACE.len() {
                self.input.drain(..known);
                self.protocol = Protocol::H2(H2::new(&mut self.output));
            } else {
                return true;
            }
        }
        match &mut self.protocol {
            Protocol::Unknown => true,
            Protocol::H1(h1) => {
                self.closing |= h1.feed(&mut self.input, answers, &mut self.output);
                true
            }
            Protocol::H2(h2) => h2.feed(&mut self.input, &mut self.output),
        }
    }

    fn flush(&mut self) -> bool {
        while self.written < self.output.len() {
            match self.stream.write(&self.output[self.written..]) {
                Ok(size) => self.written += size,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        self.output.clear();
        self.written = 0;
        !self.closing
    }
}
