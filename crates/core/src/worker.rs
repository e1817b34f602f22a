//! Workers: threads that carry traffic, each with a runtime of its own, and the jobs main posts to them.
//!
//! Jobs of one worker run in the order they were posted; that order is what live configuration relies on.
//! `done` runs on main when every worker has run the job: the moment at which an old generation may drain.

use crate::hash::TrustedMap;
use crate::stats::Store;
use crate::{clock, rng};
use std::any::Any;
use std::any::TypeId;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Work for one thread.
pub type Job = Box<dyn FnOnce() + Send>;

/// The main thread's number in [`current_index`]; workers count from 0.
pub const MAIN: usize = usize::MAX;

thread_local! {
    static INDEX: Cell<usize> = const { Cell::new(MAIN) };
    static TO_MAIN: RefCell<Option<UnboundedSender<Job>>> = const { RefCell::new(None) };
    static ENDED: Cell<bool> = const { Cell::new(false) };
    static STATE: RefCell<TrustedMap<TypeId, Rc<dyn Any>>> = RefCell::default();
}

/// Which worker this thread is; [`MAIN`] on any other thread.
pub fn current_index() -> usize {
    INDEX.get()
}

/// State that each worker keeps for itself (pools, VMs, clients), made on first use; `T` names it.
pub fn local<T: 'static>(make: impl FnOnce() -> T) -> Rc<T> {
    let found = STATE.with(|s| s.borrow().get(&TypeId::of::<T>()).cloned());
    if let Some(t) = found.and_then(|a| a.downcast::<T>().ok()) {
        return t;
    }
    let t = Rc::new(make());
    STATE.with(|s| s.borrow_mut().insert(TypeId::of::<T>(), t.clone()));
    t
}

/// What [`local`] has made, unless it never did, or the thread is ending.
pub fn existing<T: 'static>() -> Option<Rc<T>> {
    let found = STATE.try_with(|s| s.try_borrow().ok()?.get(&TypeId::of::<T>()).cloned());
    found.ok().flatten()?.downcast::<T>().ok()
}

/// Hands a plan that this thread no longer needs to main, which frees it.
pub fn retire<T: Send + 'static>(t: T) {
    let mut t = Some(t);
    // What a thread still holds when it ends is dropped where it is: its way to main is gone by then.
    let rest = TO_MAIN.try_with(|m| match &*m.borrow() {
        Some(main) if current_index() != MAIN => {
            let t = t.take();
            main.send(Box::new(move || drop(t))).err().map(|e| e.0)
        }
        _ => None,
    });
    drop((rest, t)); // main is gone: the process is ending
}

/// Runs `f` on this thread, beside everything else.
pub fn spawn(f: impl Future<Output = ()> + 'static) {
    tokio::task::spawn_local(f);
}

/// Runs `job` on main.
pub fn post_to_main(job: impl FnOnce() + Send + 'static) {
    // A thread that is ending has no way to main any more.
    let _ = TO_MAIN.try_with(|m| {
        if let Some(main) = &*m.borrow() {
            let _ = main.send(Box::new(job)); // main is gone: the process is ending
        }
    });
}

/// Work on main beside its other work, for as long as this lives.
pub struct Background(tokio::task::AbortHandle);

impl Background {
    /// Runs `work`; main only, once it runs at all (while a configuration is only checked it does not).
    pub fn new(work: impl Future<Output = ()> + 'static) -> Background {
        Background(tokio::task::spawn_local(work).abort_handle())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Main's handle to all workers.
pub struct Workers {
    tx: Vec<UnboundedSender<Job>>,
    threads: Vec<JoinHandle<()>>,
    main: UnboundedSender<Job>,
    /// Disconnected when the last worker has ended.
    gone: Mutex<std::sync::mpsc::Receiver<()>>,
}

/// Where main receives jobs; [`MainJobs::run`] runs beside main's other work.
pub struct MainJobs(UnboundedReceiver<Job>);

impl MainJobs {
    /// Runs jobs as they come, for ever.
    pub async fn run(mut self) {
        while let Some(job) = self.0.recv().await {
            job();
        }
    }
}

impl Workers {
    /// Starts `n` workers; `setup` runs first on each, inside its runtime.
    ///
    /// # Errors
    /// A thread or a runtime cannot be made.
    pub fn start(
        n: usize,
        store: &Store,
        setup: impl Fn(usize) + Send + Sync + Clone + 'static,
    ) -> std::io::Result<(Workers, MainJobs)> {
        let (main, main_rx) = unbounded_channel();
        TO_MAIN.with(|m| *m.borrow_mut() = Some(main.clone()));
        let (alive, gone) = std::sync::mpsc::channel::<()>();
        let mut w = Workers { tx: vec![], threads: vec![], main, gone: Mutex::new(gone) };
        for index in 0..n {
            let (tx, mut rx) = unbounded_channel::<Job>();
            let (store, main, setup) = (store.clone(), w.main.clone(), setup.clone());
            let (mut rt, alive) = (runtime_builder(), alive.clone());
            let run = move || {
                INDEX.set(index);
                TO_MAIN.with(|m| *m.borrow_mut() = Some(main));
                rng::seed_from_os();
                let _shard = store.register_shard();
                let Ok(rt) = rt.build_local(tokio::runtime::LocalOptions::default()) else { return };
                rt.block_on(async move {
                    tokio::task::spawn_local(clock::run_wheel());
                    setup(index);
                    while let Some(job) = rx.recv().await {
                        job();
                        if ENDED.get() {
                            break;
                        }
                    }
                });
                // Tasks go before thread-local state, which they may use while they are dropped.
                drop(rt);
                STATE.with(|s| s.borrow_mut().clear());
                drop(alive);
            };
            w.threads.push(std::thread::Builder::new().name(format!("wrk:{index}")).spawn(run)?);
            w.tx.push(tx);
        }
        Ok((w, MainJobs(main_rx)))
    }
    /// Number of workers.
    pub fn len(&self) -> usize {
        self.tx.len()
    }
    /// True without workers.
    pub fn is_empty(&self) -> bool {
        self.tx.is_empty()
    }
    /// Runs `f` on every worker, then `done` on main.
    pub fn run_on_all(
        &self,
        f: impl Fn(usize) + Send + Sync + 'static,
        done: impl FnOnce() + Send + 'static,
    ) {
        let (f, done) =
            (Arc::new(f), Arc::new(Done { main: self.main.clone(), job: Mutex::new(Some(Box::new(done))) }));
        for (i, t) in self.tx.iter().enumerate() {
            let (f, done) = (f.clone(), done.clone());
            let _ = t.send(Box::new(move || {
                f(i);
                drop((f, done));
            })); // a worker that is gone counts as done
        }
    }
    /// Runs `f` on one worker.
    pub fn run_on(&self, worker: usize, f: impl FnOnce() + Send + 'static) {
        if let Some(t) = self.tx.get(worker) {
            let _ = t.send(Box::new(f)); // the worker is gone: so is what `f` would change
        }
    }
    /// Ends all workers as [`stop`](Self::stop) does, for owners that share them; waits for `limit` at most. False when
    /// one was still at work then.
    pub fn end(&self, limit: std::time::Duration) -> bool {
        for t in &self.tx {
            let _ = t.send(Box::new(|| ENDED.set(true))); // a worker that is gone has ended
        }
        let gone = self.gone.lock().unwrap_or_else(|e| e.into_inner());
        // Nothing is ever sent: the channel ends with the last worker.
        gone.recv_timeout(limit) == Err(std::sync::mpsc::RecvTimeoutError::Disconnected)
    }
    /// Ends all workers: each finishes its queued jobs, then drops its connections.
    pub fn stop(self) {
        drop(self.tx);
        for t in self.threads {
            let _ = t.join(); // a worker that panicked has ended, which is all that is asked here
        }
    }
}

/// Posts its job to main when the last clone goes.
struct Done {
    main: UnboundedSender<Job>,
    /// Behind a lock only because it is shared; the last owner alone takes it.
    job: Mutex<Option<Job>>,
}
impl Drop for Done {
    fn drop(&mut self) {
        if let Some(j) = self.job.get_mut().unwrap_or_else(|e| e.into_inner()).take() {
            let _ = self.main.send(j); // main is gone: the process is ending
        }
    }
}

fn runtime_builder() -> tokio::runtime::Builder {
    let mut b = tokio::runtime::Builder::new_current_thread();
    b.enable_io().enable_time().max_blocking_threads(4);
    b
}
