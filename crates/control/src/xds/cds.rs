//! Clusters from a control plane.

use super::apply::{InPieces, Piece, Refused, Seen, gone};
use super::base::Base;
use super::resource::{CLUSTER, ENDPOINTS, SECRET};
use super::{Paused, Xds};
use nuncio_core::LocalBoxFuture;
use nuncio_core::discovery::{ReloadStats, Resource, Subscriber, Update};
use nuncio_core::error::BuildResult;
use nuncio_core::filter::BuildCx;
use nuncio_core::init::Target;
use nuncio_core::log;
use nuncio_engine::revision::unwatched;
use nuncio_engine::{Change, ClusterManager, Revision};
use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};
use std::rc::{Rc, Weak};
use std::sync::Arc;

/// See the module.
pub struct Cds {
    /// For the log.
    what: &'static str,
    clusters: ClusterManager,
    xds: Weak<Xds>,
    stats: Option<ReloadStats>,
    seen: Seen,
    waiting: RefCell<Option<Target>>,
    version: RefCell<Arc<str>>,
}

impl Cds {
    /// Changes these clusters; `waiting` ends with the first response.
    pub fn new(clusters: &ClusterManager, xds: &Rc<Xds>, stats: ReloadStats, waiting: Target) -> Rc<Cds> {
        Rc::new(Cds {
            what: "cds",
            stats: Some(stats),
            waiting: RefCell::new(Some(waiting)),
            ..Cds::on_demand(clusters, Rc::downgrade(xds))
        })
    }
    /// Changes these clusters, nobody waits for it.
    pub(super) fn on_demand(clusters: &ClusterManager, xds: Weak<Xds>) -> Cds {
        Cds {
            what: "odcds",
            clusters: clusters.clone(),
            xds,
            stats: None,
            seen: Seen::default(),
            waiting: RefCell::default(),
            version: RefCell::new("".into()),
        }
    }
    /// Of the last response that changed anything.
    pub fn version(&self) -> Arc<str> {
        self.version.borrow().clone()
    }
    fn ready(&self) {
        let waiting = self.waiting.take();
        drop(waiting);
    }
}

/// A response on its way into use.
struct Applying<'a> {
    cds: &'a Cds,
    cx: &'a BuildCx<'a>,
    base: Option<Rc<Base>>,
    removed: BTreeSet<String>,
    names: HashSet<&'a str>,
    errors: Refused,
    set: usize,
    skipped: usize,
    taken_away: usize,
    _paused: Paused,
}

impl<'a> Applying<'a> {
    fn begin(cds: &'a Cds, u: &'a Update<'_>, cx: &'a BuildCx<'a>) -> Option<Applying<'a>> {
        let xds = cds.xds.upgrade()?;
        let there = || {
            let all = cds.clusters.list().into_iter().chain(cds.clusters.list_warming());
            all.filter(|c| c.revision.version.is_some()).map(|c| c.plan.name.to_string())
        };
        let removed = gone(u, there);
        log!(
            Upstream,
            Info,
            "{}: response indicates {} added/updated cluster(s), {} removed cluster(s); applying changes",
            cds.what,
            u.resources.len(),
            removed.len()
        );
        Some(Applying {
            cds,
            cx,
            base: xds.base(),
            removed,
            names: HashSet::new(),
            errors: Refused::default(),
            set: 0,
            skipped: 0,
            taken_away: 0,
            _paused: xds.pause(&[ENDPOINTS, SECRET]),
        })
    }
    fn set(&mut self, r: &'a Resource) {
        let cds = self.cds;
        if !self.names.insert(&r.name) {
            self.errors.add(", ", format_args!("{0}: duplicate cluster {0} found", r.name));
            return;
        }
        if cds.seen.is(r) || cds.clusters.is_fixed(&r.name) {
            self.skipped += 1;
            return;
        }
        let checked = self.base.as_ref().map_or(Ok(()), |b| b.checker().check(CLUSTER, &r.bytes));
        let done = checked.map_err(Into::into).and_then(|()| {
            cds.clusters.set_encoded(r.bytes.clone(), Revision::api(&r.version), self.cx, unwatched())
        });
        match done {
            Ok(Change::Same) => self.skipped += 1,
            Ok(Change::Added | Change::Modified) => {
                self.set += 1;
                log!(Upstream, Debug, "{}: add/update cluster '{}'", cds.what, r.name);
            }
            Err(e) => {
                self.errors.add(", ", format_args!("{}: {e}", r.name));
                return;
            }
        }
        cds.seen.note(r);
    }
    fn remove(&mut self, name: &str) {
        let cds = self.cds;
        cds.seen.forget(name);
        if !cds.clusters.is_fixed(name) && cds.clusters.remove(name, unwatched()) {
            self.taken_away += 1;
            log!(Upstream, Debug, "{}: remove cluster '{name}'", cds.what);
        }
    }
    fn finish(self, u: &Update<'_>) -> BuildResult<()> {
        let (cds, set, taken_away) = (self.cds, self.set, self.taken_away);
        log!(
            Upstream,
            Info,
            "{}: added/updated {set} cluster(s) (skipped {} unmodified cluster(s)); removed {taken_away} cluster(s)",
            cds.what,
            self.skipped
        );
        if set + taken_away > 0 {
            *cds.version.borrow_mut() = u.version.into();
        }
        cds.ready();
        if !self.errors.is_empty() {
            return Err(format!("Error adding/updating cluster(s) {}", self.errors.text()).into());
        }
        if set > 0 {
            cds.stats.iter().for_each(ReloadStats::reloaded);
        }
        Ok(())
    }
}

impl Subscriber for Cds {
    fn update(&self, u: &Update<'_>, cx: &BuildCx<'_>) -> BuildResult<()> {
        let Some(mut applying) = Applying::begin(self, u, cx) else { return Ok(()) };
        u.resources.iter().for_each(|r| applying.set(r));
        std::mem::take(&mut applying.removed).iter().for_each(|name| applying.remove(name));
        applying.finish(u)
    }
    fn give_up(&self) {
        self.ready();
    }
}

impl InPieces for Cds {
    fn apply<'a>(&'a self, u: &'a Update<'a>, cx: &'a BuildCx<'a>) -> LocalBoxFuture<'a, BuildResult<()>> {
        Box::pin(async move {
            let mut piece = Piece::begin();
            let Some(mut applying) = Applying::begin(self, u, cx) else { return Ok(()) };
            for r in u.resources {
                applying.set(r);
                piece.pause().await;
            }
            for name in std::mem::take(&mut applying.removed) {
                applying.remove(&name);
                piece.pause().await;
            }
            applying.finish(u)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xds::base::tests::base;
    use crate::xds::resource::type_url;
    use nuncio_api::envoy::config::cluster::v3::Cluster;
    use nuncio_core::discovery::Removed;
    use nuncio_core::stats::Store;
    use prost::Message;
    use std::cell::Cell;

    #[test]
    fn others_have_their_turn_while_a_huge_response_is_applied() {
        let store = Store::new();
        let base = base(&store);
        let cds = Cds::on_demand(&base.facts.clusters, Rc::downgrade(&base.facts.discovery));
        let resource = |i: usize| Resource {
            name: format!("c{i}"),
            version: "1".into(),
            type_url: type_url(CLUSTER),
            bytes: Cluster { name: format!("c{i}"), ..Cluster::default() }.encode_to_vec().into(),
        };
        let all: Vec<_> = (0..2000).map(resource).collect();
        let turns = Rc::new(Cell::new(0));
        let counting = turns.clone();
        let work = async {
            let beside = tokio::task::spawn_local(async move {
                loop {
                    counting.set(counting.get() + 1);
                    tokio::task::yield_now().await;
                }
            });
            let u = Update { resources: &all, removed: Removed::Named(&[]), version: "1" };
            cds.apply(&u, &base.cx()).await.expect("they are right");
            let during = turns.get();
            assert!(during > 2, "{during} turns of others while 2,000 clusters were added");
            assert_eq!(base.facts.clusters.list().len(), 2000);
            // What is gone is taken away in pieces, too, and what is wrong is named.
            let bad = Resource { bytes: bytes::Bytes::from_static(b"\xff"), ..resource(0) };
            let rest = [bad, resource(1)];
            let u = Update { resources: &rest, removed: Removed::Others, version: "2" };
            let why = cds.apply(&u, &base.cx()).await.expect_err("one is no cluster");
            assert!(why.0.starts_with("Error adding/updating cluster(s) c0: "), "{why}");
            assert_eq!(base.facts.clusters.list().len(), 2, "the last good one of c0 stays");
            assert!(turns.get() > during);
            assert_eq!(&*cds.version(), "2");
            beside.abort();
        };
        let mut rt = tokio::runtime::Builder::new_current_thread();
        rt.enable_all();
        rt.build_local(tokio::runtime::LocalOptions::default()).expect("a runtime").block_on(work);
    }
}
