//! Clusters from a control plane.

use super::Xds;
use super::apply::{Refused, Seen, gone};
use super::resource::{CLUSTER, ENDPOINTS, SECRET};
use nuncio_core::discovery::{ReloadStats, Subscriber, Update};
use nuncio_core::error::BuildResult;
use nuncio_core::filter::BuildCx;
use nuncio_core::init::Target;
use nuncio_core::log;
use nuncio_engine::revision::unwatched;
use nuncio_engine::{Change, ClusterManager, Revision};
use std::cell::RefCell;
use std::collections::HashSet;
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

impl Subscriber for Cds {
    fn update(&self, u: &Update<'_>, cx: &BuildCx<'_>) -> BuildResult<()> {
        let Some(xds) = self.xds.upgrade() else { return Ok(()) };
        let _paused = xds.pause(&[ENDPOINTS, SECRET]);
        let base = xds.base();
        let there = || {
            let all = self.clusters.list().into_iter().chain(self.clusters.list_warming());
            all.filter(|c| c.revision.version.is_some()).map(|c| c.plan.name.to_string())
        };
        let removed = gone(u, there);
        log!(
            Upstream,
            Info,
            "{}: response indicates {} added/updated cluster(s), {} removed cluster(s); applying changes",
            self.what,
            u.resources.len(),
            removed.len()
        );
        let (mut errors, mut names) = (Refused::default(), HashSet::new());
        let (mut set, mut skipped, mut taken_away) = (0, 0, 0);
        for r in u.resources {
            if !names.insert(&r.name) {
                errors.add(", ", format_args!("{0}: duplicate cluster {0} found", r.name));
                continue;
            }
            if self.seen.is(r) || self.clusters.is_fixed(&r.name) {
                skipped += 1;
                continue;
            }
            let checked = base.as_ref().map_or(Ok(()), |b| b.checker().check(CLUSTER, &r.bytes));
            let done = checked.map_err(Into::into).and_then(|()| {
                self.clusters.set_encoded(r.bytes.clone(), Revision::api(&r.version), cx, unwatched())
            });
            match done {
                Ok(Change::Same) => skipped += 1,
                Ok(Change::Added | Change::Modified) => {
                    set += 1;
                    log!(Upstream, Debug, "{}: add/update cluster '{}'", self.what, r.name);
                }
                Err(e) => {
                    errors.add(", ", format_args!("{}: {e}", r.name));
                    continue;
                }
            }
            self.seen.note(r);
        }
        for name in &removed {
            self.seen.forget(name);
            if !self.clusters.is_fixed(name) && self.clusters.remove(name, unwatched()) {
                taken_away += 1;
                log!(Upstream, Debug, "{}: remove cluster '{name}'", self.what);
            }
        }
        log!(
            Upstream,
            Info,
            "{}: added/updated {set} cluster(s) (skipped {skipped} unmodified cluster(s)); removed {taken_away} cluster(s)",
            self.what
        );
        if set + taken_away > 0 {
            *self.version.borrow_mut() = u.version.into();
        }
        self.ready();
        if !errors.is_empty() {
            return Err(format!("Error adding/updating cluster(s) {}", errors.text()).into());
        }
        if set > 0 {
            self.stats.iter().for_each(ReloadStats::reloaded);
        }
        Ok(())
    }
    fn give_up(&self) {
        self.ready();
    }
}
