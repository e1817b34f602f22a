//! The store: which groups exist, which cells are free, and how cells are summed.

use std::collections::BTreeMap;
use std::fmt;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak};

use super::block::{Block, Group, Names};
use super::book::Book;
use super::schema::{Kind, Schema, Section};
use super::settings::Settings;
use super::shard::{Shard, ShardHandle};
use super::slots::{SharedSlots, merge};

/// Locks; a panic of another holder does not matter, since every update leaves the data whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All stats of one server. Cloning it makes another reference.
#[derive(Clone)]
pub struct Store(pub(super) Arc<Inner>);

pub(super) struct Inner {
    /// Written by threads without a shard of their own.
    pub(super) shared: Shard,
    /// The cells that are shared by design: set gauges and shared counters.
    pub(super) sets: SharedSlots,
    shards: RwLock<Vec<Arc<Shard>>>,
    index: Mutex<Index>,
    ids: Mutex<Ids>,
    retired: Mutex<Vec<Retired>>,
    pub(super) book: Mutex<Book>,
    settings: RwLock<Arc<Settings>>,
    serial: AtomicU64,
}

/// Blocks in the order of their prefixes.
#[derive(Default)]
struct Index {
    all: BTreeMap<Key, Entry>,
    /// Those that have text readouts, which are few.
    text: BTreeMap<Key, Entry>,
}

/// Several schemas may have the same prefix.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) prefix: Arc<str>,
    schema: usize,
}

#[derive(Clone)]
pub(super) struct Entry {
    block: Weak<Block>,
    pub(super) schema: &'static Schema,
    /// The first of the block's histograms.
    pub(super) histograms: u32,
}

/// Cells that nobody can write any more, to be cleared and given to others.
pub(super) struct Retired {
    pub(super) serial: u64,
    pub(super) slots: Vec<Range>,
    pub(super) sets: Vec<Range>,
    pub(super) histograms: Vec<Range>,
}

/// `len` cells from `base` on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub(super) base: u32,
    pub(super) len: u32,
}

impl Retired {
    pub(super) fn new(block: &Block, names: Names) -> Self {
        let layout = block.schema.layout();
        let mut retired = Self {
            serial: block.serial,
            slots: vec![Range { base: block.slots, len: layout.slots }],
            sets: vec![Range { base: block.sets, len: layout.sets }],
            histograms: vec![Range { base: block.histograms, len: layout.histograms }],
        };
        for (member, cells) in names {
            let list = match block.schema.members[usize::from(member)].kind {
                Kind::GaugeFamily => &mut retired.sets,
                Kind::HistogramFamily(_) => &mut retired.histograms,
                _ => &mut retired.slots,
            };
            list.extend(cells.into_values().map(|base| Range { base, len: 1 }));
        }
        retired
    }
}

/// Hands out ranges of one kind of cells.
#[derive(Default)]
struct Space {
    next: u32,
    free: BTreeMap<u32, Vec<u32>>,
}

impl Space {
    fn take(&mut self, len: u32) -> u32 {
        if len == 0 {
            return 0;
        }
        if let Some(base) = self.free.get_mut(&len).and_then(Vec::pop) {
            return base;
        }
        let base = self.next;
        // Beyond 2³² cells (memory ends long before) numbering starts anew: two stats then share a cell.
        self.next = base.checked_add(len).unwrap_or(0);
        base
    }

    fn give(&mut self, range: Range) {
        if range.len > 0 {
            self.free.entry(range.len).or_default().push(range.base);
        }
    }
}

#[derive(Default)]
struct Ids {
    slots: Space,
    sets: Space,
    histograms: Space,
}

impl Inner {
    pub(super) fn add_shard(&self, shard: Arc<Shard>) {
        self.shards.write().unwrap_or_else(PoisonError::into_inner).push(shard);
    }

    /// Calls `f` with every shard, the shared one first.
    pub(super) fn for_shards(&self, mut f: impl FnMut(&Shard)) {
        f(&self.shared);
        for shard in self.shards.read().unwrap_or_else(PoisonError::into_inner).iter() {
            f(shard);
        }
    }

    pub(super) fn shards(&self) -> Vec<Arc<Shard>> {
        self.shards.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The raw sum (value and used mark) of a per-thread cell.
    pub(super) fn sum_slot(&self, id: u32) -> u64 {
        let mut sum = 0;
        self.for_shards(|shard| sum = merge(sum, shard.slots.read(id)));
        sum
    }

    pub(super) fn settings(&self) -> Arc<Settings> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn new_slot(&self) -> u32 {
        lock(&self.ids).slots.take(1)
    }

    pub(super) fn new_set(&self) -> u32 {
        lock(&self.ids).sets.take(1)
    }

    pub(super) fn new_histogram(&self) -> u32 {
        lock(&self.ids).histograms.take(1)
    }

    fn intern(self: &Arc<Self>, schema: &'static Schema, prefix: &Arc<str>) -> Arc<Block> {
        let key = Key { prefix: prefix.clone(), schema: schema.address() };
        let mut index = lock(&self.index);
        if let Some(block) = index.all.get(&key).and_then(|entry| entry.block.upgrade()) {
            return block;
        }
        let layout = schema.layout();
        let (slots, sets, histograms) = {
            let mut ids = lock(&self.ids);
            (ids.slots.take(layout.slots), ids.sets.take(layout.sets), ids.histograms.take(layout.histograms))
        };
        let block = Arc::new(Block {
            store: self.clone(),
            schema,
            prefix: prefix.clone(),
            serial: self.serial.fetch_add(1, Ordering::Relaxed),
            slots,
            sets,
            histograms,
            source: Mutex::default(),
            cold: OnceLock::new(),
        });
        let entry = Entry { block: Arc::downgrade(&block), schema, histograms };
        let text = Section::Text as usize;
        if !layout.entries[text].is_empty() || layout.dynamic[text] {
            index.text.insert(key.clone(), entry.clone());
        }
        index.all.insert(key, entry);
        block
    }

    /// A block's last reference went away, on any thread.
    pub(super) fn retire(&self, block: &Block, retired: Retired) {
        {
            let key = Key { prefix: block.prefix.clone(), schema: block.schema.address() };
            let mut index = lock(&self.index);
            // A new block may have taken the name already.
            if index.all.get(&key).is_some_and(|entry| std::ptr::eq(entry.block.as_ptr(), block)) {
                index.all.remove(&key);
                index.text.remove(&key);
            }
        }
        lock(&self.retired).push(retired);
    }

    /// Up to `limit` blocks after `after` whose entry passes `wanted`, and the key to go on from (`None` at the
    /// end). No more than `scan` entries are looked at, so that the lock is held briefly.
    /// With `text` only blocks that have text readouts are looked at.
    pub(super) fn blocks_after(
        &self,
        text: bool,
        after: Option<&Key>,
        (limit, scan): (usize, usize),
        wanted: impl Fn(&Entry) -> bool,
        into: &mut impl Extend<Arc<Block>>,
    ) -> Option<Key> {
        use std::ops::Bound::{Excluded, Unbounded};
        let index = lock(&self.index);
        let index = if text { &index.text } else { &index.all };
        let start = after.map_or(Unbounded, |key| Excluded(key.clone()));
        // First the counts of all that will be upgraded: plain loads, for whose memory the processor waits together.
        let ahead = index.range((start.clone(), Unbounded)).take(limit);
        black_box(ahead.map(|(_, entry)| entry.block.strong_count()).sum::<usize>());
        let (mut found, mut seen) = (0, 0);
        for (key, entry) in index.range((start, Unbounded)) {
            if wanted(entry)
                && let Some(block) = entry.block.upgrade()
            {
                into.extend([block]);
                found += 1;
            }
            seen += 1;
            if found == limit || seen == scan {
                return Some(key.clone());
            }
        }
        None
    }
}

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}

impl Store {
    /// An empty store with Envoy's default tags.
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            shared: Shard::new(),
            sets: SharedSlots::new(),
            shards: RwLock::default(),
            index: Mutex::default(),
            ids: Mutex::default(),
            retired: Mutex::default(),
            book: Mutex::default(),
            settings: RwLock::default(),
            serial: AtomicU64::new(1),
        }))
    }

    /// Makes the calling thread the owner of a shard: it then counts without atomic read-modify-writes. Every
    /// worker does this once, and main. Threads that do not are served too, a little slower.
    pub fn register_shard(&self) -> ShardHandle {
        ShardHandle::install(&self.0)
    }

    /// Replaces the settings. Stats that exist already follow the new ones.
    pub fn configure(&self, settings: Settings) {
        *self.0.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
        lock(&self.0.book).masks.clear();
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<Settings> {
        self.0.settings()
    }

    /// The scope without a prefix.
    pub fn root(&self) -> Scope {
        Scope { store: self.clone(), prefix: "".into() }
    }

    /// The scope `name`, see [`Scope::scope`].
    pub fn scope(&self, name: &str) -> Scope {
        self.root().scope(name)
    }

    /// Clears the cells of groups that are gone and frees them for new groups. Called by main now and then, at the
    /// latest at every flush. Returns how many groups went.
    ///
    /// No other thread needs to take part: the last reference to a group is dropped after every write through it,
    /// and the reference count orders those writes before this call, as it orders this call before the writes of
    /// whoever gets the cells next.
    pub fn reclaim(&self) -> usize {
        let retired = std::mem::take(&mut *lock(&self.0.retired));
        if retired.is_empty() {
            return 0;
        }
        let mut book = lock(&self.0.book);
        for group in &retired {
            for range in &group.slots {
                self.0.for_shards(|shard| shard.slots.clear_range(range.base, range.len));
            }
            for range in &group.sets {
                self.0.sets.clear_range(range.base, range.len);
            }
            for id in group.histograms.iter().flat_map(|range| range.base..range.base + range.len) {
                self.0.for_shards(|shard| {
                    if let Some(cells) = shard.histograms.get(id) {
                        cells.clear();
                    }
                });
            }
            book.forget(group);
        }
        drop(book);
        let mut ids = lock(&self.0.ids);
        let count = retired.len();
        for group in retired {
            group.slots.into_iter().for_each(|range| ids.slots.give(range));
            group.sets.into_iter().for_each(|range| ids.sets.give(range));
            group.histograms.into_iter().for_each(|range| ids.histograms.give(range));
        }
        count
    }

    /// The number of groups alive.
    pub fn group_count(&self) -> usize {
        lock(&self.0.index).all.len()
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({} groups)", self.group_count())
    }
}

/// A prefix of stat names, with its final dot: `cluster.foo.`
#[derive(Clone)]
pub struct Scope {
    store: Store,
    prefix: Arc<str>,
}

impl Scope {
    /// The scope `name` within this one. The name is made a legal prefix as Envoy does it ([`sanitize`]), so
    /// `cluster.foo` and `cluster.foo.` are the same; an empty name is this scope.
    pub fn scope(&self, name: &str) -> Scope {
        let name = sanitize(name);
        let prefix =
            if name.is_empty() { self.prefix.clone() } else { format!("{}{name}.", self.prefix).into() };
        Scope { store: self.store.clone(), prefix }
    }

    /// The prefix.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The group of `schema` here; made at the first call, shared afterwards.
    pub fn group(&self, schema: &'static Schema) -> Group {
        Group(self.store.0.intern(schema, &self.prefix))
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scope({:?})", self.prefix)
    }
}

/// Makes `name` fit for a stat name as Envoy does: a dot at either end goes, `://`, `:/`, `:` and NUL become `_`.
/// (`127.0.0.1:80` → `127.0.0.1_80`, `[::1]:80` → `[__1]_80`.)
pub fn sanitize(name: &str) -> String {
    let name = name.strip_suffix('.').unwrap_or(name);
    let name = name.strip_prefix('.').unwrap_or(name);
    name.replace("://", "_").replace(":/", "_").replace([':', '\0'], "_")
}
