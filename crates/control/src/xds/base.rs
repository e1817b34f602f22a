//! What builders need for as long as the server runs.

use super::resource::Checker;
use crate::bootstrap::Node;
use crate::server::{Facts, Made};
use nuncio_core::filter::BuildCx;
use nuncio_core::init::Init;
use nuncio_core::stats::Scope;
use std::sync::Arc;

/// See the module.
pub struct Base {
    /// What this binary is made of.
    pub made: Arc<Made>,
    /// All stats.
    pub root: Scope,
    /// The node.
    pub node: Node,
    /// What builders may ask of the server.
    pub facts: Facts,
    /// What the start waits for.
    pub init: Init,
    /// Number of workers.
    pub workers: usize,
    /// `--reject-unknown-dynamic-fields`
    pub reject_unknown: bool,
    /// `--ignore-unknown-dynamic-fields`
    pub ignore_unknown: bool,
}

impl Base {
    /// A context for building.
    pub fn cx(&self) -> BuildCx<'_> {
        BuildCx {
            registry: &self.made.registry,
            scope: &self.root,
            name: "",
            node: &self.node.info,
            server: &self.facts,
            init: &self.init,
            validate_only: false,
        }
    }
    /// How resources are checked.
    pub fn checker(&self) -> Checker<'_> {
        Checker {
            coverage: &self.made.coverage,
            reject_unknown: self.reject_unknown,
            ignore_unknown: self.ignore_unknown,
        }
    }
}
