//! Cuts a head into lines.

use super::error::Cause;
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

impl Lines {
    /// A new head begins.
    pub(super) fn restart(&mut self) {
        (self.scanned, self.used) = (0, 0);
    }
    /// True when the beginning of a line waits for its end.
    pub(super) fn is_inside_line(&self) -> bool {
        self.scanned > 0
    }
    /// The first line of `data` without its end, and its length with it; `None` when its end is not there yet.
    /// An error when the head would be larger than `limit`.
    pub(super) fn next<'a>(
        &mut self,
        data: &'a [u8],
        limit: usize,
    ) -> Result<Option<(&'a [u8], usize)>, Cause> {
        let found = memchr(b'\n', &data[self.scanned..]);
        #[cfg(test)]
        {
            self.work += found.map_or(data.len() - self.scanned, |i| i + 1);
        }
        let Some(i) = found else {
            self.scanned = data.len();
            return if self.used + data.len() > limit { Err(Cause::TooLarge) } else { Ok(None) };
        };
        let end = self.scanned + i;
        self.scanned = 0;
        self.used += end + 1;
        if self.used > limit {
            return Err(Cause::TooLarge);
        }
        let line = data[..end].strip_suffix(b"\r").unwrap_or(&data[..end]);
        Ok(Some((line, end + 1)))
    }
}
