//! How many requests of one connection may begin before other connections have their turn
//! (`http.max_requests_per_io_cycle`; CVE-2023-44487): what a client sends in one go and takes back at once costs little.

use std::collections::VecDeque;

/// The requests of a connection that wait for their turn; `T` is what is needed to begin one. Small without a limit.
pub struct Cycle<T>(Option<Box<Limited<T>>>);

struct Limited<T> {
    most: usize,
    begun: usize,
    waiting: VecDeque<T>,
}

impl<T> Cycle<T> {
    /// With so many requests a cycle; `u32::MAX` is no limit.
    pub fn new(most: u64) -> Cycle<T> {
        let limited = |most| Box::new(Limited { most, begun: 0, waiting: VecDeque::new() });
        Cycle((most < u64::from(u32::MAX)).then(|| limited(most as usize)))
    }
    /// A cycle begins: those whose turn it is begin, at least one, and all that are of no use any more.
    pub fn next(&mut self, mut begin: impl FnMut(T), is_over: impl Fn(&T) -> bool) {
        let Some(c) = &mut self.0 else { return };
        c.begun = 0;
        for request in std::mem::take(&mut c.waiting) {
            if is_over(&request) {
                begin(request);
            } else if c.begun < c.most.max(1) {
                c.begun += 1;
                begin(request);
            } else {
                c.waiting.push_back(request);
            }
        }
    }
    /// Whether some wait for the next cycle.
    pub fn waits(&self) -> bool {
        self.0.as_ref().is_some_and(|c| !c.waiting.is_empty())
    }
    /// Whether one that comes now has to wait; otherwise it is counted. They begin in their order.
    pub fn is_over(&mut self) -> bool {
        let Some(c) = &mut self.0 else { return false };
        if !c.waiting.is_empty() || c.begun >= c.most {
            return true;
        }
        c.begun += 1;
        false
    }
    /// Begins in a later cycle; without a limit nothing is put off.
    pub fn put_off(&mut self, request: T) {
        if let Some(c) = &mut self.0 {
            c.waiting.push_back(request);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn so_many_begin_in_a_cycle_and_the_others_later() {
        let begun = RefCell::new(vec![]);
        let come = |c: &mut Cycle<u32>, n| match c.is_over() {
            true => c.put_off(n),
            false => begun.borrow_mut().push(n),
        };
        let next =
            |c: &mut Cycle<u32>, over: &[u32]| c.next(|n| begun.borrow_mut().push(n), |n| over.contains(n));
        let mut c = Cycle::new(2);
        next(&mut c, &[]);
        (0..7).for_each(|n| come(&mut c, n));
        assert_eq!(*begun.borrow(), [0, 1]);
        next(&mut c, &[4]);
        assert_eq!(*begun.borrow(), [0, 1, 2, 3, 4], "what is over does not count");
        come(&mut c, 7);
        assert_eq!(begun.borrow().len(), 5, "not before those that wait");
        next(&mut c, &[]);
        assert!(c.waits() == (begun.borrow().len() < 8));
        next(&mut c, &[]);
        assert_eq!(*begun.borrow(), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert!(!c.waits());

        // Without a limit nothing waits; with none at all one begins a cycle.
        let mut c = Cycle::<u32>::new(u32::MAX.into());
        assert!((0..100).all(|_| !c.is_over()));
        let mut c = Cycle::new(0);
        next(&mut c, &[]);
        begun.borrow_mut().clear();
        (0..2).for_each(|n| come(&mut c, n));
        assert!(begun.borrow().is_empty());
        next(&mut c, &[]);
        assert_eq!(*begun.borrow(), [0]);
    }
}
