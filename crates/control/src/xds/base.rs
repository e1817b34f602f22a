//! What builders need for as long as the server runs.

use super::resource::Checker;
use crate::bootstrap::Node;
use crate::remarks::Remarks;
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
    /// Mentions and counts what is right but worth a word.
    pub remarks: Remarks,
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
        Checker { coverage: &self.made.coverage, reject_unknown: self.reject_unknown, remarks: &self.remarks }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::Base;
    use crate::bootstrap;
    use crate::options::Options;
    use crate::remarks::Remarks;
    use crate::server::stats::ServerStats;
    use crate::server::{Facts, Made};
    use crate::xds::Xds;
    use nuncio_core::init::Init;
    use nuncio_core::stats::Store;
    use std::rc::Rc;
    use std::sync::Arc;

    /// Of a server without extensions, clusters or control plane.
    pub fn base(store: &Store) -> Rc<Base> {
        let made = Arc::new(Made::new());
        let node = bootstrap::node(None, &Options::default(), &made.registry);
        let root = store.root();
        let discovery = Xds::new(None, &node.message, &root, false);
        let runtime = crate::server::runtime::Layers::new(None, &root).expect("no layers");
        let base = Rc::new(Base {
            made,
            facts: Facts {
                clusters: nuncio_engine::ClusterManager::new(&root),
                runtime: runtime.current().clone(),
                state: Arc::default(),
                secrets: Rc::default(),
                discovery: discovery.clone(),
            },
            root,
            node,
            init: Init::default(),
            workers: 1,
            reject_unknown: false,
            remarks: Remarks::new(ServerStats::new(&store.root().scope("server")), &Options::default()),
        });
        discovery.set_base(&base);
        base
    }
}
