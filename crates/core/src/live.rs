//! How a worker holds what main may replace: reading costs a few nanoseconds, no lock, no shared counter.

#![expect(
    clippy::redundant_allocation,
    reason = "readers count on their own worker; the Arc goes back to main whole"
)]

use crate::worker;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// The current value of a plan, on one worker. A reader takes an `Rc` and keeps a consistent view.
pub struct Live<T: Send + Sync + 'static>(Rc<RefCell<Rc<Arc<T>>>>);

impl<T: Send + Sync + 'static> Clone for Live<T> {
    fn clone(&self) -> Live<T> {
        Live(self.0.clone())
    }
}

impl<T: Send + Sync + 'static> Live<T> {
    /// A cell that holds `v`.
    pub fn new(v: Arc<T>) -> Live<T> {
        Live(Rc::new(RefCell::new(Rc::new(v))))
    }
    /// The current value.
    pub fn get(&self) -> Rc<Arc<T>> {
        self.0.borrow().clone()
    }
    /// Replaces the value; the old one goes to main, which alone frees plans (freeing a large table stalls requests).
    pub fn set(&self, v: Arc<T>) {
        let old = self.0.replace(Rc::new(v)); // the borrow ends here: dropping may read the cell
        match Rc::try_unwrap(old) {
            Ok(old) => worker::retire(old),
            // A stream still reads it; when it lets go it frees a reference, not the plan: main holds one until `done`.
            Err(shared) => drop(shared),
        }
    }
}
