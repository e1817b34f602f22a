//! What a group of stats consists of: a static list of members, and where each keeps its value.

use std::borrow::Cow;
use std::sync::OnceLock;

use super::histogram::Unit;

/// The kind of a member of a [`Schema`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Counts up, on any thread, at the price of a load and a store.
    Counter,
    /// Counts up in one shared cell. For rare events of the control plane: an idle cluster that only main ever
    /// touched (`membership_change`) then needs no cell in any shard.
    SharedCounter,
    /// Goes up and down by `add` and `sub`; the value is the sum over the threads.
    Gauge,
    /// One shared cell that is set.
    SetGauge,
    /// A gauge computed when somebody reads.
    Derived,
    /// A text readout.
    Text,
    /// A histogram.
    Histogram(Unit),
    /// Response codes: `<name>_200`, `<name>_2xx`, listed once used, and `<name>_completed`, listed from the start
    /// unless it is lazy.
    Codes,
    /// Counters named at run time, `<name><key>`, listed once used.
    CounterFamily,
    /// Set gauges named at run time.
    GaugeFamily,
    /// Histograms named at run time.
    HistogramFamily(Unit),
}

impl Kind {
    /// Cells in the per-thread table.
    const fn slots(self) -> u32 {
        match self {
            Kind::Counter | Kind::Gauge => 1,
            Kind::Codes => CODE_SLOTS,
            _ => 0,
        }
    }

    /// Cells in the shared table.
    const fn sets(self) -> u32 {
        matches!(self, Kind::SharedCounter | Kind::SetGauge) as u32
    }

    const fn histograms(self) -> u32 {
        matches!(self, Kind::Histogram(_)) as u32
    }
}

/// The fixed cells of a [`Kind::Codes`]: completed, 1xx to 5xx, unknown.
pub(super) const CODE_SLOTS: u32 = 7;
const CODE_SUFFIXES: [&str; CODE_SLOTS as usize] =
    ["_completed", "_1xx", "_2xx", "_3xx", "_4xx", "_5xx", "_unknown"];
/// Where `_unknown` is among them.
pub(super) const CODE_UNKNOWN: u32 = 6;

/// One stat of a group, or one family of stats.
#[derive(Debug)]
pub struct Member {
    /// The name of the accessor.
    pub field: &'static str,
    /// The name after the group's prefix; may contain dots.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Whether it is listed only once used (Envoy creates some stats at their first use).
    pub lazy: bool,
}

/// Where a stat keeps its value, relative to its block (`Dynamic*`: absolute; `Derived`: which derived gauge it is;
/// `Text`: which member).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Counter(u32),
    SharedCounter(u32),
    Gauge(u32),
    SetGauge(u32),
    Derived(u16),
    Text(u16),
    Histogram(u32, Unit),
    DynamicCounter(u32),
    DynamicGauge(u32),
    DynamicHistogram(u32, Unit),
}

/// A stat as the output lists it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: Cow<'static, str>,
    pub(super) place: Place,
    pub(super) lazy: bool,
}

/// The section of the output a stat belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Section {
    Text,
    Numeric,
    Histogram,
}

pub(super) const SECTIONS: [Section; 3] = [Section::Text, Section::Numeric, Section::Histogram];

impl Place {
    pub(super) fn section(self) -> Section {
        match self {
            Place::Text(_) => Section::Text,
            Place::Histogram(..) | Place::DynamicHistogram(..) => Section::Histogram,
            _ => Section::Numeric,
        }
    }
}

/// What is computed once per schema.
#[derive(Debug, Default)]
pub(super) struct Layout {
    pub(super) slots: u32,
    pub(super) sets: u32,
    pub(super) histograms: u32,
    pub(super) codes: u16,
    /// The sections that stats named at run time may add to.
    pub(super) dynamic: [bool; 3],
    /// Fixed stats per section, by name.
    pub(super) entries: [Vec<Entry>; 3],
    pub(super) derived: u16,
    /// Where each derived gauge is among the numeric entries.
    pub(super) derived_entries: Vec<u16>,
    /// Where the stat of each shared cell is among the numeric entries.
    pub(super) set_entries: Vec<u16>,
}

/// A group of stats. Made by [`stats!`](crate::stats!); compared by address.
#[derive(Debug)]
pub struct Schema {
    /// The name of the group's type.
    pub name: &'static str,
    /// Its members in order of declaration.
    pub members: &'static [Member],
    layout: OnceLock<Layout>,
}

impl Schema {
    /// A schema; the macro puts it into a `static`.
    #[expect(clippy::panic, reason = "at compile time, where it is an error of the compiler")]
    pub const fn new(name: &'static str, members: &'static [Member]) -> Self {
        if derived_before(members, members.len() as u16) > MAX_DERIVED {
            panic!("a group has too many derived gauges");
        }
        Self { name, members, layout: OnceLock::new() }
    }

    pub(super) fn address(&'static self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    pub(super) fn layout(&self) -> &Layout {
        self.layout.get_or_init(|| {
            let mut layout = Layout::default();
            for (index, member) in self.members.iter().enumerate() {
                layout.add(index as u16, member);
            }
            layout.entries.iter_mut().for_each(|entries| entries.sort_by(|a, b| a.name.cmp(&b.name)));
            layout.derived_entries = vec![0; usize::from(layout.derived)];
            layout.set_entries = vec![0; layout.sets as usize];
            for (at, entry) in (0..).zip(&layout.entries[Section::Numeric as usize]) {
                match entry.place {
                    Place::Derived(number) => layout.derived_entries[usize::from(number)] = at,
                    Place::SharedCounter(set) | Place::SetGauge(set) => layout.set_entries[set as usize] = at,
                    _ => {}
                }
            }
            layout
        })
    }
}

impl Layout {
    fn add(&mut self, index: u16, member: &Member) {
        let place = match member.kind {
            Kind::Counter => Some(Place::Counter(self.slots)),
            Kind::SharedCounter => Some(Place::SharedCounter(self.sets)),
            Kind::Gauge => Some(Place::Gauge(self.slots)),
            Kind::SetGauge => Some(Place::SetGauge(self.sets)),
            Kind::Derived => {
                self.derived += 1;
                Some(Place::Derived(self.derived - 1))
            }
            Kind::Text => Some(Place::Text(index)),
            Kind::Histogram(unit) => Some(Place::Histogram(self.histograms, unit)),
            Kind::Codes => {
                for (i, suffix) in CODE_SUFFIXES.iter().enumerate() {
                    self.push(
                        format!("{}{suffix}", member.name).into(),
                        Place::Counter(self.slots + i as u32),
                        i != 0 || member.lazy,
                    );
                }
                self.codes += 1;
                self.dynamic[Section::Numeric as usize] = true;
                None
            }
            Kind::CounterFamily | Kind::GaugeFamily => {
                self.dynamic[Section::Numeric as usize] = true;
                None
            }
            Kind::HistogramFamily(_) => {
                self.dynamic[Section::Histogram as usize] = true;
                None
            }
        };
        if let Some(place) = place {
            self.push(member.name.into(), place, member.lazy);
        }
        self.slots += member.kind.slots();
        self.sets += member.kind.sets();
        self.histograms += member.kind.histograms();
    }

    fn push(&mut self, name: Cow<'static, str>, place: Place, lazy: bool) {
        self.entries[place.section() as usize].push(Entry { name, place, lazy });
    }
}

/// The number of the member whose accessor is `field`. Evaluated at compile time by the macro.
#[expect(clippy::panic, reason = "at compile time, where it is an error of the compiler")]
pub const fn index_of(members: &[Member], field: &str) -> u16 {
    let mut at = 0;
    while at < members.len() {
        if same(members[at].field, field) {
            return at as u16;
        }
        at += 1;
    }
    panic!("the macro names only declared members");
}

const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// The cell (per-thread, shared or histogram table, by its kind) of member `index` within its block. For
/// [`Kind::Codes`] the first of its cells.
pub const fn offset_of(members: &[Member], index: u16) -> u32 {
    let wanted = members[index as usize].kind;
    let (mut at, mut offset) = (0, 0);
    while at < index as usize {
        let kind = members[at].kind;
        offset += match wanted {
            Kind::SharedCounter | Kind::SetGauge => kind.sets(),
            Kind::Histogram(_) => kind.histograms(),
            _ => kind.slots(),
        };
        at += 1;
    }
    offset
}

/// How many [`Kind::Codes`] come before member `index`.
pub const fn codes_before(members: &[Member], index: u16) -> u16 {
    let (mut at, mut count) = (0, 0);
    while at < index as usize {
        count += matches!(members[at].kind, Kind::Codes) as u16;
        at += 1;
    }
    count
}

/// Derived gauges that a group may have: as many as a word has bits.
pub(super) const MAX_DERIVED: u16 = 64;

/// A derived gauge of a group, by its number among them. Made by the `derived` of each group that
/// [`stats!`](crate::stats!) declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DerivedGauge(pub(super) u16);

/// The derived gauge that is member `index`. Evaluated at compile time.
#[expect(clippy::panic, reason = "at compile time, where it is an error of the compiler")]
pub const fn derived_at(members: &[Member], index: u16) -> DerivedGauge {
    if !matches!(members[index as usize].kind, Kind::Derived) {
        panic!("it is not a derived gauge");
    }
    DerivedGauge(derived_before(members, index))
}

/// How many [`Kind::Derived`] come before member `index`.
const fn derived_before(members: &[Member], index: u16) -> u16 {
    let (mut at, mut count) = (0, 0);
    while at < index as usize {
        count += matches!(members[at].kind, Kind::Derived) as u16;
        at += 1;
    }
    count
}
