//! What the repository says about itself, for the guards in `tests/`.
//!
//! * [`metadata`] – the workspace's crates and what they depend on, as cargo sees them.
//! * [`floors`] – which crate may see which.
//! * [`plots`] – the simulation of a cluster, drawn.
//! * [`sizes`] – how long the source files are.
//! * [`tree`] – the repository's files.

pub mod floors;
pub mod metadata;
pub mod plots;
pub mod sizes;
pub mod tree;
