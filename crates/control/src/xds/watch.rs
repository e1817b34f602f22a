//! One subscription, whatever brings its resources: it counts, gives up waiting, checks, and knows what is the same.

use super::apply::InPieces;
use super::base::Base;
use super::resource::{ROUTES, SCOPED_ROUTES};
use nuncio_core::clock::{self, TimerKind};
use nuncio_core::discovery::{CountUpdates, Removed, Resource, Subscriber, Update};
use nuncio_core::log;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeSet;
use std::rc::{Rc, Weak};
use std::time::Duration;
use tokio::task::AbortHandle;

/// See the module.
pub struct Watch {
    /// Full name of the message.
    pub kind: &'static str,
    /// The one that is wanted; none for all.
    pub name: Option<String>,
    /// Not all, but those that were asked for.
    pub demand: Option<Demand>,
    stats: Rc<dyn CountUpdates>,
    subscriber: Weak<dyn Subscriber>,
    base: Weak<Base>,
    timer: RefCell<Option<AbortHandle>>,
    last: RefCell<Option<Resource>>,
    ended: Cell<bool>,
    /// Takes over what a stream brings, when that may be huge.
    pieces: OnceCell<Weak<dyn InPieces>>,
}

/// Which resources a subscription on demand gets.
#[derive(Default)]
pub struct Demand {
    /// Those below this name.
    pub below: Option<String>,
    /// Those of these names.
    pub asked: RefCell<BTreeSet<String>>,
}

impl Demand {
    /// Whether a resource of this name is wanted.
    pub fn wants(&self, name: &str) -> bool {
        let below = name.rsplit_once('/').map_or("", |(space, _)| space);
        self.below.as_deref().is_some_and(|b| b == below || b == name) || self.asked.borrow().contains(name)
    }
}

impl Watch {
    /// A subscription that waits `timeout` for its first response.
    pub fn new(
        kind: &'static str,
        name: Option<&str>,
        stats: Rc<dyn CountUpdates>,
        subscriber: Weak<dyn Subscriber>,
        base: Weak<Base>,
    ) -> Rc<Watch> {
        Self::of(kind, name, None, stats, subscriber, base)
    }
    /// A subscription to what is asked for, and, with `below`, to resources whose names begin with it.
    pub fn on_demand(
        kind: &'static str,
        below: Option<&str>,
        stats: Rc<dyn CountUpdates>,
        subscriber: Weak<dyn Subscriber>,
        base: Weak<Base>,
    ) -> Rc<Watch> {
        let demand = Demand { below: below.map(str::to_owned), ..Demand::default() };
        Self::of(kind, None, Some(demand), stats, subscriber, base)
    }
    fn of(
        kind: &'static str,
        name: Option<&str>,
        demand: Option<Demand>,
        stats: Rc<dyn CountUpdates>,
        subscriber: Weak<dyn Subscriber>,
        base: Weak<Base>,
    ) -> Rc<Watch> {
        Rc::new(Watch {
            kind,
            name: name.map(str::to_owned),
            demand,
            stats,
            subscriber,
            base,
            timer: RefCell::default(),
            last: RefCell::default(),
            ended: Cell::new(false),
            pieces: OnceCell::new(),
        })
    }
    /// What a stream brings is taken over by this, piece by piece.
    pub fn set_pieces(&self, pieces: Weak<dyn InPieces>) {
        // Said once, by who made it.
        let _ = self.pieces.set(pieces);
    }
    /// Begins to wait for the first response; a wait of no time is for ever.
    pub fn wait(self: &Rc<Self>, timeout: Duration) {
        self.stats.attempt();
        self.arm(timeout, true);
    }
    /// As [`wait`](Self::wait), of who counts its attempts itself.
    pub fn arm(self: &Rc<Self>, timeout: Duration, counted: bool) {
        if timeout.is_zero() {
            return;
        }
        let this = Rc::downgrade(self);
        let wait = async move {
            clock::sleep(TimerKind::Other, timeout).await;
            let Some(this) = this.upgrade() else { return };
            this.timer.take();
            this.stats.timed_out();
            if counted {
                this.stats.attempt();
            }
            log!(
                Config,
                Warning,
                "{} config: initial fetch timed out for {}",
                if counted { "gRPC" } else { "REST" },
                super::resource::type_url(this.kind)
            );
            this.give_up();
        };
        *self.timer.borrow_mut() = Some(tokio::task::spawn_local(wait).abort_handle());
    }
    fn give_up(&self) {
        if let (Some(s), false) = (self.subscriber.upgrade(), self.ended.get()) {
            s.give_up();
        }
    }
    fn answered(&self) {
        self.timer.take().iter().for_each(AbortHandle::abort);
    }
    /// Nobody is told any more.
    pub fn end(&self) {
        self.ended.set(true);
        self.answered();
    }
    /// What was taken over last, when one resource is wanted.
    pub fn last(&self) -> Option<Resource> {
        self.last.borrow().clone()
    }
    /// Counts an attempt.
    pub fn attempt(&self) {
        self.stats.attempt();
    }
    /// A response has spoken of these resources.
    pub fn tell(&self, ids: &[String]) {
        if let (Some(s), false) = (self.subscriber.upgrade(), self.ended.get()) {
            s.answered(ids);
        }
    }
    /// There is no connection to who should answer.
    pub fn failed(&self) {
        self.stats.failure();
        self.stats.attempt();
    }
    /// A request has no answer; there will be others.
    pub fn unanswered(&self) {
        self.stats.failure();
    }
    /// A file could not be read.
    pub fn unreadable(&self) {
        self.stats.failure();
        self.give_up();
    }
    /// What builders need, while the server runs.
    pub fn base(&self) -> Option<Rc<Base>> {
        self.base.upgrade()
    }
    /// What came was refused.
    pub fn rejected(&self, why: &str) {
        self.answered();
        self.stats.rejected();
        log!(Config, Warning, "config for {} rejected: {why}", super::resource::type_url(self.kind));
        self.give_up();
    }
    /// Hands an update on that may be huge, as streams bring it: main does other things in between.
    ///
    /// # Errors
    /// What was refused, and why.
    pub async fn deliver_whole(&self, u: &Update<'_>) -> Result<(), String> {
        let Some(pieces) = self.pieces.get() else { return self.deliver(u, true) };
        let (Some(base), Some(pieces), false) = (self.base.upgrade(), pieces.upgrade(), self.ended.get())
        else {
            return Ok(());
        };
        self.answered();
        let begin = clock::now();
        pieces.apply(u, &base.cx()).await.map_err(|e| e.0)?;
        self.stats.success(u.version, Some(clock::now().duration_since(begin)));
        Ok(())
    }
    /// Hands an update on. `measured`: how long that takes is a stat.
    ///
    /// # Errors
    /// What was refused, and why.
    pub fn deliver(&self, u: &Update<'_>, measured: bool) -> Result<(), String> {
        let (Some(base), Some(subscriber), false) =
            (self.base.upgrade(), self.subscriber.upgrade(), self.ended.get())
        else {
            return Ok(());
        };
        self.answered();
        let begin = clock::now();
        let first = u.resources.first().filter(|_| self.name.is_some());
        let same = first.is_some_and(|r| self.last.borrow().as_ref().is_some_and(|l| l.bytes == r.bytes));
        if !same {
            // Who takes all clusters or listeners checks each, since some may be right.
            let checked = match self.demand.is_some() || self.kind == SCOPED_ROUTES {
                true => u.resources,
                false => first.map_or(&[][..], std::slice::from_ref),
            };
            for r in checked {
                base.checker().check(self.kind, &r.bytes)?;
            }
            // Scopes ask for routes: all of them in one request.
            let scopes = self.kind == SCOPED_ROUTES;
            let _paused = scopes.then(|| base.facts.discovery.pause(&[ROUTES]));
            subscriber.update(u, &base.cx()).map_err(|e| e.0)?;
        }
        if let Some(r) = first {
            *self.last.borrow_mut() = Some(r.clone());
        }
        if self.name.is_some() && matches!(u.removed, Removed::Named(gone) if !gone.is_empty()) {
            self.last.take();
        }
        self.stats.success(u.version, measured.then(|| clock::now().duration_since(begin)));
        Ok(())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.answered();
    }
}
