//! Drives one exchange through a chain. This is the whole filter manager.
//!
//! Request hooks run in order until one replies; then the terminal filter; then the response hooks of **all**
//! filters in reverse, also of those that never saw the request (Envoy 1.40 does so). Dropping the run cancels the
//! exchange; [`Run`]'s drop runs `on_done` and then the finalizer in every case.

use crate::exchange::Exchange;
use crate::filter::{DynFilter, Step};
use crate::info::{Interrupt, StreamShared};
use crate::route::FilterId;
use smallvec::SmallVec;
use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

/// One filter of a chain.
pub struct ChainFilter {
    /// Its configured name: the key of per-route configs.
    pub id: FilterId,
    /// The filter.
    pub filter: Arc<dyn DynFilter>,
    /// `HttpFilter.disabled`: off unless a route switches it on.
    pub disabled: bool,
}

/// The filters in front of the terminal one.
#[derive(Default)]
pub struct Chain {
    /// In the order of the configuration.
    pub filters: Vec<ChainFilter>,
    /// True when some filter could be switched per route; otherwise no route is chosen for that alone.
    pub switchable: bool,
}

/// The last filter of a chain: turns a request into a response. The router is one.
pub trait Terminal {
    /// Sets `ex.response`, or replies.
    fn serve<'a>(&'a self, ex: &'a mut Exchange) -> impl Future<Output = Step<'static>> + 'a;
}

/// What happens when an exchange is over, after all `on_done`s: access logs, stats.
pub trait Finalizer {
    /// The exchange is over, in whatever way.
    fn done(&self, ex: &Exchange);
}

/// How the hooks ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// `ex.response` and `ex.response_body` are to be written.
    Respond,
    /// The stream is to be reset.
    Reset,
    /// The request, as it is now, is to be served again by a new run ([`Exchange::again`]).
    Restart,
}

/// One exchange on its way through a chain, until it is dropped.
pub struct Run {
    chain: Rc<Chain>,
    states: SmallVec<[Box<dyn Any>; 8]>,
    /// Filters that are switched off for this stream (bit per index), decided with the first route.
    off: u64,
    /// The exchange.
    pub ex: Exchange,
    finalizer: Option<Rc<dyn Finalizer>>,
    /// It is part of another run, whose stream it shares.
    within: bool,
}

impl Run {
    /// Prepares a run; `finalizer` is told at the end.
    pub fn new(chain: Rc<Chain>, ex: Exchange, finalizer: Option<Rc<dyn Finalizer>>) -> Run {
        let states = chain.filters.iter().map(|f| f.filter.stream()).collect();
        Run { chain, states, off: 0, ex, finalizer, within: false }
    }
    /// A run that is part of another one, whose stream `ex` shares: the filters between the router and a host. Its owner
    /// calls [`request`](Self::request) and then, if there is a response, [`response`](Self::response).
    pub fn within(chain: Rc<Chain>, ex: Exchange) -> Run {
        let mut run = Run::new(chain, ex, None);
        run.within = true;
        run
    }
    /// Runs the request hooks and then `terminal`. A reply is given back, and no response hook is to see it.
    ///
    /// # Errors
    /// What was meant for the run that this one is part of.
    pub async fn request(&mut self, terminal: &impl Terminal) -> Result<Step<'static>, Interrupt> {
        self.switch_off();
        self.request_phase(terminal).await
    }
    /// Runs the response hooks; otherwise as [`request`](Self::request).
    ///
    /// # Errors
    /// What was meant for the run that this one is part of.
    pub async fn response(&mut self) -> Result<Step<'static>, Interrupt> {
        for i in (0..self.chain.filters.len()).rev() {
            if let Step::Reply(r) = self.on_response(i).await? {
                return Ok(Step::Reply(r));
            }
        }
        Ok(Step::Next)
    }

    /// Runs all hooks. Afterwards the response is to be written and its body pulled, by the caller.
    pub async fn hooks(&mut self, terminal: &impl Terminal) -> Outcome {
        self.switch_off();
        let step = match self.request_phase(terminal).await {
            Ok(s) => s,
            Err(i) => match self.interrupted(i) {
                Some(o) => return o,
                None => Step::Next,
            },
        };
        match step {
            Step::Reply(r) => self.ex.reply(*r),
            Step::Restart if self.ex.is_complete() => return Outcome::Restart,
            _ => {}
        }
        self.response_phase().await
    }

    /// A filter is off when the most specific level that speaks of it says so.
    fn switch_off(&mut self) {
        if !self.chain.switchable {
            return;
        }
        let route = self.ex.route();
        for (i, f) in self.chain.filters.iter().enumerate().take(64) {
            let levels = route.as_ref().map(|r| r.per_filter(&self.ex.sx)).unwrap_or_default();
            let said = levels.into_iter().flatten().find_map(|l| l.disabled(f.id));
            if said.unwrap_or(f.disabled) {
                self.off |= 1 << i;
            }
        }
    }
    fn is_off(&self, i: usize) -> bool {
        i < 64 && self.off >> i & 1 == 1
    }

    async fn request_phase(&mut self, terminal: &impl Terminal) -> Result<Step<'static>, Interrupt> {
        for i in 0..self.chain.filters.len() {
            if self.is_off(i) {
                continue;
            }
            let f = &self.chain.filters[i];
            self.ex.current = f.id;
            let sx = self.ex.sx.clone();
            match f.filter.on_request(&mut *self.states[i], &mut self.ex) {
                Step::Next => {} // the common case stays synchronous and allocates nothing
                step => match settle(step, &sx).await? {
                    Step::Next => {}
                    done => return Ok(done),
                },
            }
        }
        self.ex.current = FilterId::NONE;
        let sx = self.ex.sx.clone();
        let step = {
            let serve = std::pin::pin!(terminal.serve(&mut self.ex));
            beside(serve, &sx).await?
        };
        match step {
            Step::Wait(_) => settle(step, &sx).await,
            s => Ok(s),
        }
    }

    async fn response_phase(&mut self) -> Outcome {
        if let Some(r) = &self.ex.response {
            // Response hooks can say `%RESPONSE_CODE%`; whoever writes the head sets the final one.
            self.ex.sx.info.response_code.set(r.status);
        }
        for i in (0..self.chain.filters.len()).rev() {
            match self.on_response(i).await {
                Ok(Step::Reply(r)) => {
                    // Straight to the codec: the filters behind have seen a response already.
                    self.ex.reply(*r);
                    return Outcome::Respond;
                }
                Ok(Step::Restart) if self.ex.is_complete() => return Outcome::Restart,
                Ok(_) => {}
                Err(Interrupt::Reply(r)) => self.ex.reply(*r),
                Err(Interrupt::Reset(_)) => return Outcome::Reset,
            }
        }
        Outcome::Respond
    }

    /// The response hook of one filter.
    async fn on_response(&mut self, i: usize) -> Result<Step<'static>, Interrupt> {
        if self.is_off(i) {
            return Ok(Step::Next);
        }
        let f = &self.chain.filters[i];
        self.ex.current = f.id;
        let sx = self.ex.sx.clone();
        match f.filter.on_response(&mut *self.states[i], &mut self.ex) {
            Step::Next => Ok(Step::Next),
            step => settle(step, &sx).await,
        }
    }

    fn interrupted(&mut self, i: Interrupt) -> Option<Outcome> {
        match i {
            Interrupt::Reply(r) => {
                self.ex.sx.drop_sides();
                self.ex.reply(*r);
                None
            }
            Interrupt::Reset(_) => Some(Outcome::Reset),
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // No extension code runs while unwinding (a second panic would abort the process): the driver finds the
            // parts in the wreck and finishes them after it has caught the panic.
            WRECK.with(|w| {
                let sx = self.ex.sx.clone();
                let ex = std::mem::replace(
                    &mut self.ex,
                    Exchange::new(Default::default(), Default::default(), sx),
                );
                let states = std::mem::take(&mut self.states);
                w.borrow_mut().push(Wreck {
                    chain: self.chain.clone(),
                    states,
                    ex,
                    finalizer: self.finalizer.take(),
                });
            });
            return;
        }
        // What runs beside the stream holds the stream: let go of each other.
        if !self.within {
            self.ex.sx.drop_sides();
        }
        let finalizer = self.finalizer.take();
        finish(&self.chain, &mut self.states, &self.ex, finalizer.as_deref());
    }
}

struct Wreck {
    chain: Rc<Chain>,
    states: SmallVec<[Box<dyn Any>; 8]>,
    ex: Exchange,
    finalizer: Option<Rc<dyn Finalizer>>,
}

thread_local!(static WRECK: std::cell::RefCell<Vec<Wreck>> = const { std::cell::RefCell::new(Vec::new()) });

/// For drivers, after they caught a panic: runs `on_done` and the finalizer of every exchange that it cut short.
/// Each call is caught on its own; says how many more panics there were.
pub fn finish_wrecks() -> u64 {
    let mut panics = 0;
    while let Some(mut w) = WRECK.with(|w| w.borrow_mut().pop()) {
        for (f, st) in w.chain.filters.iter().zip(&mut w.states) {
            let done = catch_unwind(AssertUnwindSafe(|| f.filter.on_done(&mut **st, &w.ex)));
            panics += u64::from(done.is_err());
        }
        if let Some(f) = w.finalizer.take() {
            panics += u64::from(catch_unwind(AssertUnwindSafe(|| f.done(&w.ex))).is_err());
        }
        let rest = catch_unwind(AssertUnwindSafe(|| {
            w.ex.sx.drop_sides();
            drop(w);
        }));
        panics += u64::from(rest.is_err());
    }
    panics
}

fn finish(chain: &Chain, states: &mut [Box<dyn Any>], ex: &Exchange, finalizer: Option<&dyn Finalizer>) {
    // One filter's panic takes nothing from the others, nor from the log; it goes on when all have had their turn.
    let mut panic = None;
    for (f, st) in chain.filters.iter().zip(states) {
        let done = catch_unwind(AssertUnwindSafe(|| f.filter.on_done(&mut **st, ex)));
        panic = panic.or(done.err());
    }
    if let Some(f) = finalizer {
        let done = catch_unwind(AssertUnwindSafe(|| f.done(ex)));
        panic = panic.or(done.err());
    }
    if let Some(p) = panic {
        resume_unwind(p);
    }
}

/// Follows a step to its end, with everything beside the stream polled meanwhile.
async fn settle(mut s: Step<'_>, sx: &Rc<StreamShared>) -> Result<Step<'static>, Interrupt> {
    loop {
        match s {
            Step::Next => return Ok(Step::Next),
            Step::Reply(r) => return Ok(Step::Reply(r)),
            Step::Restart => return Ok(Step::Restart),
            Step::Wait(mut f) => s = beside(f.as_mut(), sx).await?,
        }
    }
}

/// Waits for `f` while side futures run; an interrupt ends the wait (the caller drops `f`, nothing else).
async fn beside<T>(
    mut f: std::pin::Pin<&mut (impl Future<Output = T> + ?Sized)>,
    sx: &StreamShared,
) -> Result<T, Interrupt> {
    poll_fn(|cx| {
        if let Some(i) = sx.poll_beside(cx) {
            return Poll::Ready(Err(i));
        }
        match f.as_mut().poll(cx) {
            Poll::Ready(t) => Poll::Ready(Ok(t)),
            // The future may have added side futures or interrupted itself.
            Poll::Pending => sx.poll_beside(cx).map_or(Poll::Pending, |i| Poll::Ready(Err(i))),
        }
    })
    .await
}
