//! Cuts a head into lines.

use super::error::Cause;
use crate::chars::find_control;
use memchr::memchr;

/// Finds line ends and remembers how far it has looked, so that a head that comes byte by byte costs no more than
/// one that comes at once.
#[derive(Default, Debug)]
pub(super) struct Lines {
    /// Bytes of the unfinished line that have no LF.
    scanned: usize,
    /// Bytes of this head in finished lines.
    used: usize,
    /// Bytes ever looked at; a test holds it against the length of the input.
    #[cfg(test)]
    pub(super) work: usize,
}

/// A line of a head.
pub(super) struct Cut<'a> {
    /// Without its end.
    pub text: &'a [u8],
    /// Its length with its end.
    pub len: usize,
    /// The line with its end, when that is CRLF and it is known that no other control character is in it, not even a tab.
    pub clean: Option<&'a [u8]>,
}

impl Lines {
    /// A new head begins.
    pub(super) fn restart(&mut self) {
        (self.scanned, self.used) = (0, 0);
    }
    /// True when the beginning of a line waits for its end.
    pub(super) fn is_inside_line(&self) -> bool {
        self.scanned > 0
    }
    /// The first line of `data`; `None` when its end is not there yet. An error when the head would be larger than
    /// `limit`.
    #[inline(always)]
    pub(super) fn next<'a>(&mut self, data: &'a [u8], limit: usize) -> Result<Option<Cut<'a>>, Cause> {
        // A line's end and what must not be in it are looked for at once.
        if self.scanned == 0
            && let Some(end) = find_control(data)
            && let [b'\r', b'\n', ..] = data[end..]
        {
            #[cfg(test)]
            {
                self.work += end + 2;
            }
            self.used += end + 2;
            return match self.used > limit {
                true => Err(Cause::TooLarge),
                false => Ok(Some(Cut { text: &data[..end], len: end + 2, clean: Some(&data[..end + 2]) })),
            };
        }
        self.any(data, limit)
    }
    /// As [`next`](Self::next), of a line that came in parts, has another end, or something else in it.
    #[inline(never)]
    fn any<'a>(&mut self, data: &'a [u8], limit: usize) -> Result<Option<Cut<'a>>, Cause> {
        let found = memchr(b'\n', &data[self.scanned..]).map(|i| self.scanned + i);
        #[cfg(test)]
        {
            self.work += found.map_or(data.len(), |i| i + 1) - self.scanned;
        }
        let Some(end) = found else {
            self.scanned = data.len();
            return if self.used + data.len() > limit { Err(Cause::TooLarge) } else { Ok(None) };
        };
        self.scanned = 0;
        self.used += end + 1;
        if self.used > limit {
            return Err(Cause::TooLarge);
        }
        let text = data[..end].strip_suffix(b"\r").unwrap_or(&data[..end]);
        Ok(Some(Cut { text, len: end + 1, clean: None }))
    }
}
