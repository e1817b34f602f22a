//! Resources from files (`path_config_source`): a file holds a `DiscoveryResponse`, and is read again when another file
//! is moved to its place, or into the folder that is watched instead. Nothing else wakes us up: not writing, and no log
//! file beside it.

use super::resource::received;
use super::watch::Watch;
use nuncio_api::envoy::config::core::v3::PathConfigSource;
use nuncio_api::envoy::service::discovery::v3::DiscoveryResponse;
use nuncio_api::load::{Format, Loaded, UnknownFields, parse_message};
use nuncio_core::discovery::{Removed, Subscription, Update};
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::log;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use std::any::Any;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsString;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// Largest file that is read, in bytes.
const MOST: u64 = 1 << 30;

/// A file that is read anew whenever it is replaced.
pub struct FileSource {
    path: PathBuf,
    watch: Rc<Watch>,
    unknown: UnknownFields,
}

impl FileSource {
    /// Reads the file, now and later.
    pub fn start(
        source: &PathConfigSource,
        watch: Rc<Watch>,
        unknown: UnknownFields,
        folders: &Folders,
    ) -> Rc<FileSource> {
        let file = Rc::new(FileSource { path: PathBuf::from(&source.path), watch, unknown });
        let weak = Rc::downgrade(&file);
        let changed: Rc<dyn Fn()> = {
            let weak: Weak<FileSource> = weak;
            Rc::new(move || {
                if let Some(f) = weak.upgrade() {
                    f.refresh();
                }
            })
        };
        let (folder, name) = place(source);
        let alive: Weak<FileSource> = Rc::downgrade(&file);
        if let Err(e) = folders.follow(&folder, name, alive, changed) {
            log!(Config, Warning, "{} is not watched: {e}", source.path);
        }
        file.refresh();
        file
    }
    fn refresh(&self) {
        self.watch.attempt();
        let name = self.path.display().to_string();
        let response = match read(&self.path, self.unknown) {
            Ok(loaded) => {
                if let Some(base) = self.watch.base() {
                    base.remarks.of_file(&loaded.warnings);
                }
                loaded.message
            }
            Err(Unusable { why, refused: true }) => {
                log!(Config, Warning, "Filesystem config update rejected: {why}");
                return self.watch.rejected(&why);
            }
            Err(Unusable { why, .. }) => {
                log!(Config, Warning, "Filesystem config update failure: in {name}, {why}");
                return self.watch.unreadable();
            }
        };
        let version: Arc<str> = response.version_info.as_str().into();
        let url = super::resource::type_url(self.watch.kind);
        let all = response.resources.into_iter().map(|any| received(any, &url, &version));
        let delivered = all.collect::<Result<Vec<_>, String>>().and_then(|all| {
            let resources: Vec<_> = all.into_iter().filter_map(|r| r.resource).collect();
            if self.watch.name.is_some() && resources.len() > 1 {
                let n = resources.len();
                return Err(format!("Unexpected {} resource length: {n}", short(self.watch.kind)));
            }
            let u = Update { resources: &resources, removed: Removed::Others, version: &version };
            self.watch.deliver(&u, false)
        });
        if let Err(why) = delivered {
            log!(Config, Warning, "Filesystem config update rejected: {why}");
            self.watch.rejected(&why);
        }
    }
}

fn short(kind: &str) -> &'static str {
    match kind {
        super::resource::ENDPOINTS => "EDS",
        super::resource::ROUTES => "RDS",
        _ => "",
    }
}

/// The folder to look at, and which name in it matters; none: all do.
fn place(source: &PathConfigSource) -> (PathBuf, Option<OsString>) {
    match &source.watched_directory {
        Some(w) => (PathBuf::from(&w.path), None),
        None => {
            let path = Path::new(&source.path);
            let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            (folder.to_path_buf(), path.file_name().map(OsString::from))
        }
    }
}

/// Why a file is of no use.
struct Unusable {
    why: String,
    /// It is a response, with a resource that breaks a rule.
    refused: bool,
}

fn read(path: &Path, unknown: UnknownFields) -> Result<Loaded<DiscoveryResponse>, Unusable> {
    let failed = |why: String| Unusable { why, refused: false };
    let size = std::fs::metadata(path).map_or(0, |m| m.len());
    if size > MOST {
        return Err(failed(format!("file {} size is {size} bytes; maximum is {MOST}", path.display())));
    }
    let bytes = std::fs::read(path).map_err(|_| failed(format!("Invalid path: {}", path.display())))?;
    let name = path.display().to_string();
    match parse_message::<DiscoveryResponse>(&bytes, Format::of_path(path), &name, unknown) {
        Ok(loaded) => Ok(loaded),
        Err(e) => {
            let phrase = e.envoy_phrase();
            let refused = phrase.starts_with("Proto constraint validation failed")
                || phrase.ends_with("has unknown fields");
            let why = e.errors().iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            Err(Unusable { why, refused })
        }
    }
}

/// Whether a file can be a source.
///
/// # Errors
/// It cannot.
pub fn check(source: &PathConfigSource) -> BuildResult<()> {
    if !Path::new(&source.path).exists() {
        return Err(BuildError(format!(
            "paths must refer to an existing path in the system: '{}' does not exist",
            source.path
        )));
    }
    Ok(())
}

/// Folders in which moves are noticed.
#[derive(Default)]
pub struct Folders(RefCell<Option<Rc<Noticed>>>);

/// Who wants to know, of one folder.
struct Follower {
    name: Option<OsString>,
    alive: Weak<dyn Any>,
    changed: Rc<dyn Fn()>,
}

struct Noticed {
    fd: Arc<OwnedFd>,
    followers: RefCell<HashMap<i32, Vec<Follower>>>,
}

/// Something was moved into a folder: its number, and the name.
type Moved = (i32, Option<Vec<u8>>);

impl Folders {
    /// Calls `changed` whenever anything is moved into the folder.
    pub fn moved_into(&self, folder: &Path, changed: Rc<dyn Fn()>) -> Subscription {
        let alive: Rc<dyn Any> = Rc::new(());
        if let Err(e) = self.follow(folder, None, Rc::downgrade(&alive), changed) {
            log!(Config, Warning, "{} is not watched: {e}", folder.display());
        }
        Subscription::new(alive)
    }
    /// Calls `changed` whenever another file, folder or link is moved to `path`.
    pub fn moved_to(&self, path: &Path, changed: Rc<dyn Fn()>) -> Subscription {
        let alive: Rc<dyn Any> = Rc::new(());
        let source = PathConfigSource { path: path.display().to_string(), ..Default::default() };
        let (folder, name) = place(&source);
        if let Err(e) = self.follow(&folder, name, Rc::downgrade(&alive), changed) {
            log!(Config, Warning, "{} is not watched: {e}", path.display());
        }
        Subscription::new(alive)
    }
    fn follow(
        &self,
        folder: &Path,
        name: Option<OsString>,
        alive: Weak<dyn Any>,
        changed: Rc<dyn Fn()>,
    ) -> std::io::Result<()> {
        let noticed = {
            let mut held = self.0.borrow_mut();
            match &*held {
                Some(n) => n.clone(),
                None => held.insert(Noticed::start()?).clone(),
            }
        };
        let wd = inotify::add_watch(&noticed.fd, folder, WatchFlags::MOVED_TO)?;
        let mut followers = noticed.followers.borrow_mut();
        let here = followers.entry(wd).or_default();
        here.retain(|f| f.alive.strong_count() > 0);
        here.push(Follower { name, alive, changed });
        Ok(())
    }
}

impl Noticed {
    /// A thread waits for the kernel, which is its whole life; main does the rest.
    fn start() -> std::io::Result<Rc<Noticed>> {
        let fd = Arc::new(inotify::init(CreateFlags::CLOEXEC)?);
        let (tell, mut told) = unbounded_channel();
        let waits_at = fd.clone();
        std::thread::Builder::new().name("files".to_owned()).spawn(move || wait(&waits_at, &tell))?;
        let noticed = Rc::new(Noticed { fd, followers: RefCell::default() });
        let this = noticed.clone();
        tokio::task::spawn_local(async move {
            while let Some(first) = told.recv().await {
                let mut due = vec![];
                this.due(&first, &mut due);
                while let Ok(next) = told.try_recv() {
                    this.due(&next, &mut due);
                }
                due.iter().for_each(|changed| changed());
            }
        });
        Ok(noticed)
    }
    /// Adds who is to be told of a move, once each.
    fn due(&self, (folder, moved): &Moved, due: &mut Vec<Rc<dyn Fn()>>) {
        let followers = self.followers.borrow();
        for f in followers.get(folder).into_iter().flatten() {
            let meant = f.name.as_ref().is_none_or(|n| moved.as_deref() == Some(n.as_bytes()));
            if meant && f.alive.strong_count() > 0 && !due.iter().any(|d| Rc::ptr_eq(d, &f.changed)) {
                due.push(f.changed.clone());
            }
        }
    }
}

fn wait(fd: &OwnedFd, tell: &UnboundedSender<Moved>) {
    let mut buf = [MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(fd, &mut buf);
    loop {
        match events.next() {
            Ok(e) => {
                if tell.send((e.wd(), e.file_name().map(|n| n.to_bytes().to_vec()))).is_err() {
                    return; // the server is ending
                }
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}
