//! Both roles back to back, and frames by hand.

mod pair;
