//! Limits on what a peer can make us do or keep: Envoy's protocol constraints.
//!
//! Advisories: CVE-2019-9511 to 9518, CVE-2023-44487, CVE-2024-27919, CVE-2024-30255.

use super::frame;
use super::settings::Settings;
use crate::buf::OutBuf;
use std::collections::VecDeque;

/// Counts of one connection.
#[derive(Default)]
pub struct Flood {
    empty_in_row: u32,
    priority: u64,
    window_updates: u64,
    pub opened_streams: u64,
    pub data_sent: u64,
    /// Frames put into the output so far, and how many of them are control frames.
    pub frames: u64,
    pub control: u64,
    /// Those of them that are known to be written.
    frames_written: u64,
    control_written: u64,
    /// Position in the output's stream of bytes, and the counts there.
    marks: VecDeque<(u64, u64, u64)>,
}

/// More marks than this are merged, which counts frames as waiting longer than they do.
const MARKS: usize = 32;

/// What was flooded: Envoy's text and the name of the statistic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    Empty,
    Priority,
    WindowUpdate,
    Outbound,
    OutboundControl,
}

impl Which {
    pub fn text(self) -> &'static str {
        match self {
            Which::Empty => "Too many consecutive frames with an empty payload",
            Which::Priority => "Too many PRIORITY frames",
            Which::WindowUpdate => "Too many WINDOW_UPDATE frames",
            Which::Outbound => "Too many frames in the outbound queue.",
            Which::OutboundControl => "Too many control frames in the outbound queue.",
        }
    }
}

impl Flood {
    /// A frame came in; `empty`: without payload beside padding.
    #[inline]
    pub fn inbound(&mut self, kind: u8, end_stream: bool, empty: bool, s: &Settings) -> Result<(), Which> {
        match kind {
            frame::DATA | frame::HEADERS | frame::CONTINUATION => {
                if !empty || end_stream {
                    self.empty_in_row = 0;
                } else {
                    self.empty_in_row += 1;
                    if self.empty_in_row > s.max_consecutive_empty_frames {
                        return Err(Which::Empty);
                    }
                }
            }
            frame::PRIORITY => {
                self.priority += 1;
                if self.priority > u64::from(s.max_priority_frames_per_stream) * (1 + self.opened_streams) {
                    return Err(Which::Priority);
                }
            }
            frame::WINDOW_UPDATE => {
                self.window_updates += 1;
                let per_data = u64::from(s.max_window_updates_per_data_frame) * self.data_sent;
                if self.window_updates > 5 + 2 * (self.opened_streams + per_data) {
                    return Err(Which::WindowUpdate);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes note of what was written since; cheap enough for every turn.
    pub fn sync(&mut self, out: &OutBuf) {
        if out.is_empty() {
            (self.frames_written, self.control_written) = (self.frames, self.control);
            self.marks.clear();
            return;
        }
        let written = out.written();
        while let Some(&(at, frames, control)) = self.marks.front() {
            if at > written {
                break;
            }
            (self.frames_written, self.control_written) = (frames, control);
            self.marks.pop_front();
        }
        let mark = (written + out.len() as u64, self.frames, self.control);
        let full = self.marks.len() >= MARKS;
        match self.marks.back_mut() {
            Some(last) if last.0 == mark.0 => {}
            Some(last) if full => *last = mark,
            _ => self.marks.push_back(mark),
        }
    }

    /// Checks what waits in the output.
    pub fn outbound(&self, s: &Settings) -> Result<(), Which> {
        if self.frames - self.frames_written > u64::from(s.max_outbound_frames) {
            return Err(Which::Outbound);
        }
        if self.control - self.control_written > u64::from(s.max_outbound_control_frames) {
            return Err(Which::OutboundControl);
        }
        Ok(())
    }
    /// True when the checks need an exact count.
    pub fn is_high(&self, s: &Settings) -> bool {
        self.outbound(s).is_err()
    }
}
