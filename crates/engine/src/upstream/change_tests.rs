//! What it costs when a host comes or goes, among many clusters: counted.

use super::host::{Host, Wanted};
use super::lb::set::BUILT;
use super::local::Clusters;
use super::manager::ClusterManager;
use super::simulation::world::{parsed, with_cx};
use nuncio_api::envoy::config::cluster::v3 as pb;
use nuncio_core::Registry;
use nuncio_core::info::HostInfo;
use nuncio_core::stats::Store;
use nuncio_core::worker::Workers;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::sync::oneshot;

const CLUSTERS: usize = 200;
const HOSTS: usize = 10;

fn name(i: usize) -> String {
    format!("c{i}")
}

/// A cluster of ten hosts, as text.
fn cluster(i: usize) -> String {
    let host = |h: usize| {
        let port = 1 + i * HOSTS + h;
        format!("{{endpoint: {{address: {{socket_address: {{address: 10.0.0.1, port_value: {port}}}}}}}}}")
    };
    let hosts: Vec<_> = (0..HOSTS).map(host).collect();
    format!(
        "{{name: {0}, type: STATIC, lb_policy: RING_HASH, load_assignment: {{cluster_name: {0}, \
         endpoints: [{{lb_endpoints: [{1}]}}]}}}}",
        name(i),
        hosts.join(", ")
    )
}

/// Where each worker's sets of hosts are in memory, cluster by cluster.
async fn sets(workers: &Workers) -> Vec<Vec<usize>> {
    let (tell, seen) = mpsc::channel();
    let (done, all) = oneshot::channel();
    let look = move |worker: usize| {
        let here = Clusters::here();
        let set = |i| here.get(&name(i)).map_or(0, |c| Arc::as_ptr(&c.host_set()).addr());
        tell.send((worker, (0..CLUSTERS).map(set).collect())).expect("somebody waits");
    };
    workers.run_on_all(look, move || done.send(()).expect("somebody waits"));
    all.await.expect("all have looked");
    let mut sets: Vec<(usize, Vec<usize>)> = seen.try_iter().collect();
    sets.sort_unstable();
    sets.into_iter().map(|(_, sets)| sets).collect()
}

#[test]
fn a_host_more_or_less_costs_its_cluster_alone() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
    runtime.expect("a runtime").block_on(async {
        let store = Store::new();
        let (workers, jobs) = Workers::start(2, &store, |_| {}).expect("two workers");
        tokio::task::spawn_local(jobs.run());
        let (root, registry, workers) = (store.root(), Registry::default(), Rc::new(workers));
        let manager = ClusterManager::new(&root);
        with_cx(&registry, &root, |cx| {
            for i in 0..CLUSTERS {
                manager.add(&parsed::<pb::Cluster>(&cluster(i)), cx).expect("a cluster");
            }
        });
        manager.initialize().await;
        manager.publish(&workers);
        let mut before = sets(&workers).await;
        assert!(before.iter().flatten().all(|set| *set != 0));

        let entry = manager.list().into_iter().find(|c| *c.plan.name == *name(7)).expect("it is there");
        let there = entry.hosts().hosts.clone();
        let address = Some(std::net::SocketAddr::from(([10, 0, 0, 2], 1)).into());
        let info = Arc::new(HostInfo { address, ..HostInfo::default() });
        let comes = Arc::new(Host::new(Wanted { info, weight: 1, ..Wanted::default() }));
        let more = [&there[..], &[comes]].concat();
        for hosts in [more, there.clone(), there[1..].to_vec()] {
            BUILT.take();
            manager.set_hosts(&entry, hosts.clone());
            assert_eq!(BUILT.take(), (1, hosts.len()), "one set is made, of the hosts of one cluster");
            // Those that stay are the same, with their counters and connections.
            assert!(there[1..].iter().all(|h| entry.hosts().hosts.iter().any(|o| Arc::ptr_eq(o, h))));
            let after = sets(&workers).await;
            for (worker, (before, after)) in before.iter().zip(&after).enumerate() {
                let other: Vec<_> = (0..CLUSTERS).filter(|i| before[*i] != after[*i]).collect();
                assert_eq!(other, [7], "worker {worker}: one set is another");
            }
            before = after;
        }
        assert!(workers.end(Duration::from_secs(10)));
    });
}
