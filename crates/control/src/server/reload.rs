//! Takes over changes of the configuration file while the server runs: on SIGHUP, and with `--watch` whenever the file
//! changes.
//!
//! The file is read and checked as a whole, beside the main loop; when anything in it is wrong, nothing of it is taken
//! over. Then static clusters and listeners go through the same calls as those of a control plane: what is the same stays
//! untouched, what is new is there before it is used, and what goes is used by nobody any more. Other fields cannot change
//! while the server runs; the log names those that would have to.

use super::Server;
use super::build::{self, Made, Secrets};
use super::engine::EngineView;
use crate::bootstrap::Refusal;
use crate::options::Options;
use bytes::Bytes;
use nuncio_api::envoy::config::bootstrap::v3::Bootstrap;
use nuncio_api::envoy::config::cluster::v3::Cluster;
use nuncio_api::envoy::config::listener::v3::Listener;
use nuncio_api::load::LoadedParts;
use nuncio_core::clock::{self, TimerKind};
use nuncio_core::error::BuildResult;
use nuncio_core::filter::BuildCx;
use nuncio_core::{log, log_lines};
use nuncio_engine::listener::manager::ListenerEntry;
use nuncio_engine::{Change, ClusterManager, ListenerManager, Revision};
use prost::{Message, Name};
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// How often `--watch` looks at the file. A change is taken up when two looks in a row find the same, so that a file is
/// not read while it is being written.
const POLL: Duration = Duration::from_secs(1);

/// Resources that are compared in one turn of the main loop.
const SLICE: usize = 64;

/// Names in one line of the log.
const MOST_NAMES: usize = 20;

/// What a reload works on.
pub struct Reloader<'a> {
    /// What the command line asked for.
    pub options: &'a Options,
    /// What this binary is made of.
    pub made: &'a Arc<Made>,
    /// The bootstrap without its listeners and clusters.
    pub frame: Bootstrap,
    /// The static secrets.
    pub secrets: &'a Secrets,
    /// All clusters.
    pub clusters: &'a ClusterManager,
    /// All listeners.
    pub listeners: &'a ListenerManager,
    /// Number of workers.
    pub workers: usize,
    /// For building.
    pub cx: BuildCx<'a>,
    /// The server.
    pub server: &'a Rc<Server>,
    /// What the admin interface shows.
    pub view: &'a EngineView,
}

/// What tells one state of a file from another.
type Print = (i64, i64, u64, u64);

/// The state of the configuration file; follows symbolic links, which is how orchestrators replace files.
pub fn print(options: &Options) -> Option<Print> {
    let m = std::fs::metadata(&options.config_path).ok()?;
    Some((m.mtime(), m.mtime_nsec(), m.size(), m.ino()))
}

impl Reloader<'_> {
    /// Reloads whenever that is due, for ever. `loaded` is the state of the file at the start.
    pub async fn run(&self, mut loaded: Option<Print>) {
        let watched = self.options.watch && !self.options.config_path.is_empty();
        if self.options.watch && !watched {
            log!(Config, Warning, "--watch has nothing to watch without --config-path");
        }
        let mut seen = loaded;
        loop {
            let changed = async {
                if !watched {
                    return std::future::pending().await;
                }
                loop {
                    clock::sleep(TimerKind::Other, POLL).await;
                    let now = print(self.options);
                    if now.is_some() && now != loaded && now == seen {
                        return;
                    }
                    seen = now;
                }
            };
            tokio::select! {
                () = changed => {}
                () = self.server.asked_to_reload() => {}
            }
            loaded = print(self.options);
            self.reload().await;
        }
    }

    async fn reload(&self) {
        let path = &self.options.config_path;
        if path.is_empty() {
            return log!(Config, Warning, "there is no configuration file to reload");
        }
        log!(Config, Info, "reloading {path}");
        let (options, made) = (self.options.clone(), self.made.clone());
        let checked = tokio::task::spawn_blocking(move || build::check(&options, &made)).await;
        let panicked = |_| Refusal { phrase: "the check has panicked".to_owned(), details: vec![] };
        match checked.map_err(panicked).and_then(|r| r) {
            Ok(new) => {
                self.apply(new).await;
                self.server.stats.reload.reload_success().inc();
            }
            Err(e) => {
                self.server.stats.reload.reload_rejected().inc();
                log_lines!(Config, Error, "{path} is refused, and nothing of it is taken over: {}", e.phrase);
                for d in e.details.iter().filter(|d| **d != e.phrase) {
                    log_lines!(Config, Error, "{d}");
                }
            }
        }
    }

    async fn apply(&self, new: LoadedParts) {
        let mut report = Report::default();
        self.secrets.replace(new.message.static_resources.as_ref().map_or(&[], |s| &s.secrets));
        self.set_clusters(&new, &mut report).await;
        self.set_listeners(&new, &mut report).await;
        self.remove_clusters(&new, &mut report).await;
        let others = other_fields(&self.frame, &new.message);
        for field in &others {
            log!(Config, Warning, "{field} has changed: that takes a restart");
        }
        self.server.set_bootstrap(match others.is_empty() {
            true => new.wire,
            false => self.bootstrap_with_resources_of(&new.wire),
        });
        self.view.reloaded();
        report.log(&self.options.config_path);
    }

    /// What is in use, when only the resources of a bootstrap are.
    fn bootstrap_with_resources_of(&self, new: &[u8]) -> Bytes {
        let new = Bootstrap::decode(new).unwrap_or_default(); // it was checked
        Bootstrap { static_resources: new.static_resources, ..self.frame.clone() }.encode_to_vec().into()
    }

    /// Adds and changes clusters; waits until the workers have them.
    async fn set_clusters(&self, new: &LoadedParts, report: &mut Report) {
        let mut waiting = vec![];
        for (i, c) in new.clusters.iter().enumerate() {
            if i % SLICE == SLICE - 1 {
                tokio::task::yield_now().await;
            }
            let (done, is_done) = oneshot::channel::<()>();
            let done = Box::new(move || drop(done));
            let set = self.clusters.set_encoded(c.clone(), Revision::fixed(), &self.cx, done);
            if report.note("cluster", || name_of::<Cluster>(c), set) {
                waiting.push(is_done);
            }
        }
        for w in waiting {
            let _ = w.await; // nothing is ever sent: it ends when the change is done, or overtaken
        }
    }

    /// Removes, adds and changes listeners, in this order, since one may take over the address of another; waits until the
    /// workers have them.
    async fn set_listeners(&self, new: &LoadedParts, report: &mut Report) {
        let names: BTreeSet<String> = new.listeners.iter().map(name_of::<Listener>).collect();
        let mut waiting = vec![];
        let all = self.listeners.list().into_iter().chain(self.listeners.list_warming());
        let fixed: Vec<_> = all.filter(|l| l.revision.version.is_none()).collect();
        // Those without a name are told apart by what they are.
        let (unnamed, named): (Vec<_>, Vec<_>) = fixed.iter().partition(|l| l.config.get().name.is_empty());
        let stays = |l: &Rc<ListenerEntry>| new.listeners.iter().any(|n| l.config.is(n));
        let gone = named.into_iter().filter(|l| !names.contains(&*l.plan.info.name));
        for l in gone.chain(unnamed.iter().copied().filter(|l| !stays(l))) {
            let (done, is_done) = oneshot::channel::<()>();
            if self.listeners.remove(&l.plan.info.name, Box::new(move || drop(done))) {
                report.removed.push(format!("listener {}", l.plan.info.name));
                waiting.push(is_done);
            }
        }
        for (i, l) in new.listeners.iter().enumerate() {
            if i % SLICE == SLICE - 1 {
                tokio::task::yield_now().await;
            }
            if unnamed.iter().any(|f| f.config.is(l)) {
                continue;
            }
            let (done, is_done) = oneshot::channel::<()>();
            let (cx, revision, done) = (&self.cx, Revision::fixed(), Box::new(move || drop(done)));
            let set = self.listeners.set_encoded(l.clone(), revision, self.workers, cx, done);
            if report.note("listener", || name_of::<Listener>(l), set) {
                waiting.push(is_done);
            }
        }
        for w in waiting {
            let _ = w.await; // as above
        }
    }

    async fn remove_clusters(&self, new: &LoadedParts, report: &mut Report) {
        let names: BTreeSet<String> = new.clusters.iter().map(name_of::<Cluster>).collect();
        let all = self.clusters.list().into_iter().chain(self.clusters.list_warming());
        let gone = all.filter(|c| c.revision.version.is_none() && !names.contains(&*c.plan.name));
        let gone: BTreeSet<Arc<str>> = gone.map(|c| c.plan.name.clone()).collect();
        for (i, name) in gone.into_iter().enumerate() {
            if i % SLICE == SLICE - 1 {
                tokio::task::yield_now().await;
            }
            self.clusters.remove(&name, Box::new(|| ()));
            report.removed.push(format!("cluster {name}"));
        }
    }
}

/// A message with a name.
trait Named: Message + Default {
    fn name(self) -> String;
}
impl Named for Cluster {
    fn name(self) -> String {
        self.name
    }
}
impl Named for Listener {
    fn name(self) -> String {
        self.name
    }
}

fn name_of<M: Named>(encoded: &Bytes) -> String {
    M::decode(encoded.clone()).map(M::name).unwrap_or_default() // it was checked
}

/// What a reload has done.
#[derive(Default)]
struct Report {
    added: Vec<String>,
    changed: Vec<String>,
    removed: Vec<String>,
}

impl Report {
    /// Takes down what became of a resource; true when the workers are told of it.
    fn note(&mut self, kind: &str, name: impl Fn() -> String, set: BuildResult<Change>) -> bool {
        let list = match set {
            Ok(Change::Same) => return false,
            Ok(Change::Added) => &mut self.added,
            Ok(Change::Modified) => &mut self.changed,
            Err(e) => {
                // It was checked before: its address cannot be bound.
                log!(Config, Error, "{kind} {} is not taken over: {e}", name());
                return false;
            }
        };
        list.push(format!("{kind} {}", name()));
        true
    }
    fn log(&self, path: &str) {
        let all = [("added", &self.added), ("changed", &self.changed), ("removed", &self.removed)];
        let told: Vec<String> = all.iter().filter_map(|(what, names)| told(what, names)).collect();
        match told.is_empty() {
            true => log!(Config, Info, "reloaded {path}: nothing has changed"),
            false => log!(Config, Info, "reloaded {path}: {}", told.join("; ")),
        }
    }
}

/// `added cluster a, listener b and 7 more`
fn told(what: &str, names: &[String]) -> Option<String> {
    let shown = names.get(..MOST_NAMES).unwrap_or(names);
    let more = match names.len() - shown.len() {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    (!names.is_empty()).then(|| format!("{what} {}{more}", shown.join(", ")))
}

/// The fields of the bootstrap, but for its clusters and listeners, in which two of them differ.
fn other_fields(old: &Bootstrap, new: &Bootstrap) -> Vec<String> {
    let json = |b: &Bootstrap| {
        let frame = Bootstrap { static_resources: None, ..b.clone() };
        crate::proto_json::any(&prost_types::Any {
            type_url: Bootstrap::type_url(),
            value: frame.encode_to_vec(),
        })
    };
    let (old, new) = (json(old), json(new));
    let empty = serde_json::Map::new();
    let (old, new) = (old.as_object().unwrap_or(&empty), new.as_object().unwrap_or(&empty));
    let all: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    all.into_iter().filter(|k| old.get(*k) != new.get(*k)).cloned().collect()
}
