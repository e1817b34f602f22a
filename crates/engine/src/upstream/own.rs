//! Clusters that nobody sees but the one client they were made for (the channels of `google_grpc`): they live in a manager of
//! their own, whose stats are in a store that nobody reads.

use super::client::Client;
use super::manager::ClusterManager;
use crate::Revision;
use crate::revision::unwatched;
use nuncio_api::envoy::config::cluster::v3 as pb;
use nuncio_core::body::Body;
use nuncio_core::error::BuildResult;
use nuncio_core::filter::BuildCx;
use nuncio_core::stats::{Scope, Store};
use nuncio_core::upstreams::{Call, CallOptions, ClientOptions, HttpClient};
use nuncio_wire::RequestHead;
use prost::Message;
use std::cell::{Cell, RefCell};
use std::sync::{Arc, Weak};

/// See the module.
pub(super) struct OwnClusters {
    /// What they are in.
    pub manager: ClusterManager,
    scope: Scope,
    /// Each with what it was made of, for as long as a client has it.
    all: RefCell<Vec<(Vec<u8>, Weak<Lease>)>>,
    next: Cell<u64>,
}

/// The name of a cluster of one's own. A byte in it cannot stand in a name of the configuration.
struct Lease(String);

struct OwnClient {
    lease: Arc<Lease>,
    client: Client,
}

impl OwnClusters {
    pub fn new() -> OwnClusters {
        let scope = Store::new().root();
        let manager = ClusterManager::new(&scope);
        OwnClusters { manager, scope, all: RefCell::default(), next: Cell::new(0) }
    }
    /// A client for this cluster, which is made unless it is there.
    pub fn client(&self, mut cluster: pb::Cluster, cx: &BuildCx<'_>) -> BuildResult<Arc<dyn HttpClient>> {
        self.sweep();
        let cx = &BuildCx { scope: &self.scope, ..*cx };
        let key = cluster.encode_to_vec();
        let known = self.all.borrow().iter().find(|(k, _)| *k == key).and_then(|(_, l)| l.upgrade());
        let lease = match known {
            Some(lease) => lease,
            None => {
                cluster.name = format!("\u{0}{}", self.next.replace(self.next.get() + 1));
                if let Some(a) = &mut cluster.load_assignment {
                    a.cluster_name.clone_from(&cluster.name);
                }
                self.manager.set(&cluster, Revision::fixed(), cx, unwatched())?;
                let lease = Arc::new(Lease(cluster.name));
                self.all.borrow_mut().push((key, Arc::downgrade(&lease)));
                self.manager.begin_those_here();
                lease
            }
        };
        let options = ClientOptions { envoy_headers: false, ..ClientOptions::new(&lease.0) };
        let client = Client::new(&options, &self.scope, cx)?;
        Ok(Arc::new(OwnClient { lease, client }))
    }
    /// Takes away clusters whose clients are gone.
    fn sweep(&self) {
        let (mut all, manager) = (self.all.borrow_mut(), &self.manager);
        all.retain(|(_, lease)| lease.strong_count() > 0);
        let kept: Vec<_> = all.iter().filter_map(|(_, l)| l.upgrade()).collect();
        let gone = manager.list().into_iter().filter(|c| kept.iter().all(|k| *k.0 != *c.plan.name));
        for c in gone {
            manager.remove(&c.plan.name, unwatched());
        }
    }
}

impl HttpClient for OwnClient {
    fn cluster(&self) -> &str {
        &self.lease.0
    }
    fn call(&self, head: RequestHead, body: Body, options: CallOptions) -> Call {
        self.client.call(head, body, options)
    }
}
