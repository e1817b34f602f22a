//! A hierarchical timing wheel (Varghese and Lauck, SOSP 1987): six levels of 64 slots, ticks of one millisecond.
//!
//! A timer lies in the slot of the level at which its tick first differs from the current one, and moves down a level
//! when time reaches its slot. Slots are circular lists threaded through a slab, so inserting and cancelling touch a
//! few words. Extending a timer leaves it where it is: the slot's turn comes too early, and it is put where it
//! belongs then (idle timers are extended with every request and hardly ever reach their slot).
//!
//! Wakers are foreign code: they are woken and dropped only when the wheel is no longer borrowed.

use super::{Scale, ScaleMinimum, TimerKind};
use std::cell::RefCell;
use std::task::Waker;
use std::time::{Duration, Instant};

const LEVELS: usize = 6;
const SLOTS: usize = 64;
const BITS: u32 = 6;
const NIL: u32 = u32::MAX;
/// Not in any slot: the timer has fired.
const FIRED: u16 = u16::MAX;
/// An empty wheel gives its slab back when it grew beyond this many entries.
const KEEP: usize = 1024;

/// One timer's place in the slab.
struct Entry {
    prev: u32,
    next: u32,
    /// `level * 64 + slot`, or [`FIRED`]. For a free entry `next` is the free list.
    place: u16,
    kind: TimerKind,
    /// Tick at which it fires, scaled.
    when: u64,
    /// What the caller asked for, unscaled.
    span: Span,
    waker: Option<Waker>,
}

/// When a timer was started and when it is due, in ticks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Span {
    /// Rounded down.
    pub start: u64,
    /// Rounded up.
    pub end: u64,
}

pub(super) struct Wheel {
    base: Option<Instant>,
    /// Ticks up to this one have been dealt with.
    elapsed: u64,
    heads: [[u32; SLOTS]; LEVELS],
    occupied: [u64; LEVELS],
    slab: Vec<Entry>,
    free: u32,
    live: usize,
    scales: [Scale; TimerKind::COUNT],
    /// The tick the driver sleeps until; `u64::MAX` when it waits for the first timer.
    pub programmed: u64,
    pub driver: Option<Waker>,
    /// Memory for the wakers of one turn.
    pub spare: Vec<Waker>,
}

thread_local!(static WHEEL: RefCell<Wheel> = const { RefCell::new(Wheel::new()) });

/// Borrows this thread's wheel. `f` must not wake or drop wakers.
pub(super) fn with<R>(f: impl FnOnce(&mut Wheel) -> R) -> R {
    WHEEL.with(|w| f(&mut w.borrow_mut()))
}

/// As [`with`], for destructors that may run while the thread ends.
pub(super) fn try_with<R>(f: impl FnOnce(&mut Wheel) -> R) -> Option<R> {
    WHEEL.try_with(|w| f(&mut w.borrow_mut())).ok()
}

impl Wheel {
    const fn new() -> Wheel {
        Wheel {
            base: None,
            elapsed: 0,
            heads: [[NIL; SLOTS]; LEVELS],
            occupied: [0; LEVELS],
            slab: Vec::new(),
            free: NIL,
            live: 0,
            scales: [Scale::NONE; TimerKind::COUNT],
            programmed: u64::MAX,
            driver: None,
            spare: Vec::new(),
        }
    }

    /// Number of timers that exist (those that have fired and are still held included).
    pub fn live(&self) -> usize {
        self.live
    }
    /// Starts the count of ticks anew; only for an empty wheel.
    pub fn rebase(&mut self, base: Instant) {
        debug_assert_eq!(self.live, 0, "timers exist from before the clock was replaced");
        (self.base, self.elapsed, self.programmed) = (Some(base), 0, u64::MAX);
    }
    /// The span of a timer that starts `now` and takes `after`.
    pub fn span(&mut self, now: Instant, after: Duration) -> Span {
        let since = now.saturating_duration_since(*self.base.get_or_insert(now));
        let end = since.saturating_add(after);
        Span { start: floor_ms(since), end: ceil_ms(end) }
    }
    /// The last whole tick at `now`.
    pub fn tick_at(&mut self, now: Instant) -> u64 {
        floor_ms(now.saturating_duration_since(*self.base.get_or_insert(now)))
    }
    /// The instant of a tick; `None` beyond what the platform's clock can express.
    pub fn instant_of(&self, tick: u64) -> Option<Instant> {
        self.base?.checked_add(Duration::from_millis(tick))
    }

    /// Adds a timer. When it comes first of all, the driver's waker is returned, to be woken.
    pub fn insert(&mut self, kind: TimerKind, span: Span, waker: Waker) -> (u32, Option<Waker>) {
        if self.live == 0 {
            // Nothing waits, so the ticks that passed meanwhile need no turn.
            self.elapsed = self.elapsed.max(span.start.saturating_sub(1));
        }
        self.live += 1;
        let e = Entry {
            prev: NIL,
            next: NIL,
            place: FIRED,
            kind,
            when: self.scaled(kind, span),
            span,
            waker: Some(waker),
        };
        let key = if self.free == NIL {
            self.slab.push(e);
            (self.slab.len() - 1) as u32
        } else {
            let key = self.free;
            self.free = self.slab[key as usize].next;
            self.slab[key as usize] = e;
            key
        };
        self.link(key);
        (key, self.driver_if_first(key))
    }
    fn driver_if_first(&mut self, key: u32) -> Option<Waker> {
        let first = self.slab[key as usize].when < self.programmed;
        first.then(|| self.driver.take()).flatten()
    }
    /// Takes a timer out and frees its place; its waker is for the caller to drop.
    pub fn remove(&mut self, key: u32) -> Option<Waker> {
        self.unlink(key);
        let waker = self.slab[key as usize].waker.take();
        self.slab[key as usize].next = self.free;
        self.free = key;
        self.live -= 1;
        if self.live == 0 && self.slab.len() > KEEP {
            (self.slab, self.free) = (Vec::new(), NIL);
        }
        waker
    }
    /// Gives a timer a new span; returns the driver's waker as [`insert`](Self::insert) does.
    pub fn reset(&mut self, key: u32, span: Span) -> Option<Waker> {
        let kind = self.slab[key as usize].kind;
        let when = self.scaled(kind, span);
        let e = &mut self.slab[key as usize];
        let later = e.place != FIRED && when >= e.when;
        (e.span, e.when) = (span, when);
        if later {
            return None;
        }
        self.unlink(key);
        self.link(key);
        self.driver_if_first(key)
    }
    /// Whether the timer has fired; otherwise remembers whom to wake, and returns the waker this replaces.
    pub fn poll(&mut self, key: u32, waker: &Waker) -> Result<(), Option<Waker>> {
        let e = &mut self.slab[key as usize];
        if e.place == FIRED {
            return Ok(());
        }
        match &e.waker {
            Some(w) if w.will_wake(waker) => Err(None),
            _ => Err(e.waker.replace(waker.clone())),
        }
    }
    pub fn fired(&self, key: u32) -> bool {
        self.slab[key as usize].place == FIRED
    }

    fn scaled(&self, kind: TimerKind, span: Span) -> u64 {
        let s = &self.scales[kind as usize];
        if s.factor >= 1.0 {
            return span.end;
        }
        let full = span.end - span.start;
        let min = match s.min {
            ScaleMinimum::Duration(d) => ceil_ms(d),
            ScaleMinimum::Fraction(f) => (full as f64 * f.clamp(0.0, 1.0)).ceil() as u64,
        };
        let min = min.min(full);
        span.start + min + ((full - min) as f64 * s.factor.max(0.0)).ceil() as u64
    }
    /// Sets a scale; returns the driver's waker as [`insert`](Self::insert) does.
    pub fn set_scale(&mut self, kind: TimerKind, scale: Scale) -> Option<Waker> {
        if kind == TimerKind::Other || self.scales[kind as usize] == scale {
            return None;
        }
        self.scales[kind as usize] = scale;
        let mut driver = None;
        for key in 0..self.slab.len() as u32 {
            let e = &self.slab[key as usize];
            if e.kind == kind && e.place != FIRED {
                driver = self.reset(key, e.span).or(driver);
            }
        }
        driver
    }

    fn link(&mut self, key: u32) {
        let when = self.slab[key as usize].when;
        // A tick that is over already is due with the next one.
        let when = when.max(self.elapsed + 1);
        let differ = (self.elapsed ^ when) | (SLOTS as u64 - 1);
        let level = (((63 - differ.leading_zeros()) / BITS) as usize).min(LEVELS - 1);
        let slot = (when >> (level as u32 * BITS)) as usize & (SLOTS - 1);
        let head = self.heads[level][slot];
        if head == NIL {
            let e = &mut self.slab[key as usize];
            (e.prev, e.next) = (key, key);
            self.heads[level][slot] = key;
            self.occupied[level] |= 1 << slot;
        } else {
            let tail = self.slab[head as usize].prev;
            let e = &mut self.slab[key as usize];
            (e.prev, e.next) = (tail, head);
            self.slab[tail as usize].next = key;
            self.slab[head as usize].prev = key;
        }
        self.slab[key as usize].place = (level * SLOTS + slot) as u16;
    }
    fn unlink(&mut self, key: u32) {
        let e = &mut self.slab[key as usize];
        if e.place == FIRED {
            return;
        }
        let (prev, next, place) = (e.prev, e.next, e.place as usize);
        e.place = FIRED;
        let (level, slot) = (place / SLOTS, place % SLOTS);
        if next == key {
            self.heads[level][slot] = NIL;
            self.occupied[level] &= !(1 << slot);
            return;
        }
        self.slab[prev as usize].next = next;
        self.slab[next as usize].prev = prev;
        if self.heads[level][slot] == key {
            self.heads[level][slot] = next;
        }
    }

    /// The next slot whose turn comes: its tick, level and slot.
    fn next_slot(&self) -> Option<(u64, usize, usize)> {
        let level = self.occupied.iter().position(|o| *o != 0)?;
        let shift = level as u32 * BITS;
        let current = (self.elapsed >> shift) as u32 & (SLOTS as u32 - 1);
        let ahead = self.occupied[level].rotate_right(current).trailing_zeros();
        let slot = (current + ahead) as usize & (SLOTS - 1);
        let round = self.elapsed >> (shift + BITS) << (shift + BITS);
        let mut tick = round + ((slot as u64) << shift);
        if tick <= self.elapsed {
            tick += 1 << (shift + BITS); // only the top level wraps
        }
        Some((tick, level, slot))
    }
    /// The tick at which something is to be done next.
    pub fn next_tick(&self) -> Option<u64> {
        self.next_slot().map(|(tick, ..)| tick)
    }
    /// Moves time to `tick`; the wakers of the timers that are due are appended to `woken`, in order of their ticks.
    pub fn advance(&mut self, tick: u64, woken: &mut Vec<Waker>) {
        while let Some((at, level, slot)) = self.next_slot() {
            if at > tick {
                break;
            }
            self.elapsed = at;
            // Entries that go on are linked into other slots, or into this one behind the last that is looked at.
            let (first, last) = (self.heads[level][slot], self.slab[self.heads[level][slot] as usize].prev);
            let mut key = first;
            loop {
                let next = self.slab[key as usize].next;
                self.unlink(key);
                if self.slab[key as usize].when <= at {
                    woken.extend(self.slab[key as usize].waker.take());
                } else {
                    self.link(key);
                }
                if key == last {
                    break;
                }
                key = next;
            }
        }
        self.elapsed = self.elapsed.max(tick);
    }
}

fn floor_ms(d: Duration) -> u64 {
    d.as_secs().saturating_mul(1000).saturating_add(u64::from(d.subsec_millis()))
}
fn ceil_ms(d: Duration) -> u64 {
    d.as_secs().saturating_mul(1000).saturating_add(u64::from(d.subsec_nanos().div_ceil(1_000_000)))
}
