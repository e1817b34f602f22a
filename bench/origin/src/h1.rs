//! HTTP/1.1, just enough to count requests: heads, bodies by content-length, `connection: close`.

use memchr::memmem;

/// The answers, each with and without `connection: close`.
pub struct Answers {
    small: [Vec<u8>; 2],
    big: [Vec<u8>; 2],
}

impl Answers {
    pub fn new() -> Self {
        let pair = |size| [answer(size, false), answer(size, true)];
        Self { small: pair(1024), big: pair(1024 * 1024) }
    }
}

fn answer(size: usize, close: bool) -> Vec<u8> {
    let connection = if close { "connection: close\r\n" } else { "" };
    let mut bytes = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {size}\r\n\
         date: Sat, 21 Nov 2026 04:00:00 GMT\r\ncache-control: private, max-age=0\r\n\
         etag: \"5f-0123456789abcdef\"\r\nserver: origin\r\n{connection}\r\n"
    )
    .into_bytes();
    bytes.resize(bytes.len() + size, b'x');
    bytes
}

#[derive(Default)]
pub struct H1 {
    /// Bytes of a request body still to skip.
    body: usize,
}

impl H1 {
    /// Answers every whole request in `input`; true when the connection is to be closed afterwards.
    pub fn feed(&mut self, input: &mut Vec<u8>, answers: &Answers, output: &mut Vec<u8>) -> bool {
        let mut at = 0;
        let mut close = false;
        loop {
            let skip = self.body.min(input.len() - at);
            at += skip;
            self.body -= skip;
            let Some(end) = memmem::find(&input[at..], b"\r\n\r\n") else { break };
            let head = &input[at..at + end + 2];
            at += end + 4;
            self.body = content_length(head);
            close |= value(head, b"connection").is_some_and(|v| v.eq_ignore_ascii_case(b"close"));
            let path = head.iter().position(|&b| b == b' ').map_or(&head[..0], |space| &head[space + 1..]);
            let kind = if path.starts_with(b"/big") { &answers.big } else { &answers.small };
            output.extend_from_slice(&kind[usize::from(close)]);
        }
        input.drain(..at);
        close
    }
}

fn content_length(head: &[u8]) -> usize {
    let text = value(head, b"content-length").and_then(|v| std::str::from_utf8(v).ok());
    text.and_then(|v| v.parse().ok()).unwrap_or(0)
}

/// The value of the first header called `name` (in lower case).
fn value<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    head.split(|&b| b == b'\n').skip(1).find_map(|line| {
        let (key, value) = line.split_at_checked(name.len())?;
        let value = key.eq_ignore_ascii_case(name).then(|| value.strip_prefix(b":"))??;
        Some(value.trim_ascii())
    })
}
