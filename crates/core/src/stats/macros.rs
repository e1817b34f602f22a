//! The `stats!` macro.

/// Declares groups of stats.
///
/// ```
/// use nuncio_core::stats;
/// use nuncio_core::stats::Store;
///
/// stats! {
///     /// The stats of a route.
///     pub struct RouteStats {
///         /// Requests that were retried.
///         upstream_rq_retry: Counter,
///         upstream_rq_active: Gauge,
///         membership_total: SetGauge,
///         upstream_rq_time: Histogram(Milliseconds),
///         version_text: Text,
///         rq_open: Derived = "circuit_breakers.default.rq_open",
///         fallback: Counter lazy = "default.total_match_count",
///         rq: Codes = "upstream_rq",
///         ciphers: CounterFamily = "ciphers.",
///     }
/// }
///
/// let store = Store::new();
/// let stats = RouteStats::new(&store.scope("vhost.v"));
/// stats.upstream_rq_retry().inc();
/// stats.rq().record(503);
/// assert_eq!(stats.upstream_rq_retry().value(), 1);
/// ```
///
/// The kinds are those of [`Kind`](crate::stats::Kind); the word `lazy` lists a stat only once it was used;
/// `= "…"` names a stat differently from its accessor.
#[macro_export]
macro_rules! stats {
    ($(
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $(
                $(#[$field_meta:meta])*
                $field:ident : $kind:ident $(($unit:ident))? $($lazy:ident)? $(= $stat:literal)?
            ),* $(,)?
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug)]
        $vis struct $name($crate::stats::Group);

        #[allow(dead_code)]
        impl $name {
            const MEMBERS: &'static [$crate::stats::Member] = &[$(
                $crate::stats::Member {
                    field: stringify!($field),
                    name: $crate::__stat!(@name $field $($stat)?),
                    kind: $crate::__stat!(@kind $kind $($unit)?),
                    lazy: $crate::__stat!(@lazy $($lazy)?),
                },
            )*];

            /// The list of these stats.
            pub fn schema() -> &'static $crate::stats::Schema {
                static SCHEMA: $crate::stats::Schema =
                    $crate::stats::Schema::new(stringify!($name), $name::MEMBERS);
                &SCHEMA
            }

            /// The derived gauge whose accessor is `field`, for [`DerivedGauges`]($crate::stats::DerivedGauges); in a
            /// `const`, a wrong name is an error of the compiler.
            pub const fn derived(field: &str) -> $crate::stats::DerivedGauge {
                $crate::stats::derived_at(Self::MEMBERS, $crate::stats::index_of(Self::MEMBERS, field))
            }

            /// These stats with the prefix of `scope`; groups of the same prefix share their values.
            pub fn new(scope: &$crate::stats::Scope) -> Self {
                Self(scope.group(Self::schema()))
            }

            /// The group as such.
            pub fn group(&self) -> &$crate::stats::Group {
                &self.0
            }

            $(
                $(#[$field_meta])*
                #[inline]
                pub fn $field(&self) -> $crate::__stat!(@type $kind) {
                    const INDEX: u16 = $crate::stats::index_of($name::MEMBERS, stringify!($field));
                    $crate::__stat!(@make $kind, $name, self, INDEX)
                }
            )*
        }
    )*};
}

/// The parts of [`stats!`](crate::stats!) that depend on the kind of a member.
#[doc(hidden)]
#[macro_export]
macro_rules! __stat {
    (@name $field:ident $stat:literal) => { $stat };
    (@name $field:ident) => { stringify!($field) };
    (@lazy lazy) => { true };
    (@lazy) => { false };
    (@kind Histogram $unit:ident) => { $crate::stats::Kind::Histogram($crate::stats::Unit::$unit) };
    (@kind HistogramFamily $unit:ident) => { $crate::stats::Kind::HistogramFamily($crate::stats::Unit::$unit) };
    (@kind $kind:ident) => { $crate::stats::Kind::$kind };
    (@type $kind:ident) => { $crate::stats::$kind<'_> };
    (@make Codes, $name:ident, $self:ident, $index:ident) => {{
        const OFFSET: u32 = $crate::stats::offset_of($name::MEMBERS, $index);
        const NUMBER: u16 = $crate::stats::codes_before($name::MEMBERS, $index);
        $crate::stats::Codes::of(&$self.0, $index, OFFSET, NUMBER)
    }};
    (@make Derived, $name:ident, $self:ident, $index:ident) => {{
        const GAUGE: $crate::stats::DerivedGauge = $crate::stats::derived_at($name::MEMBERS, $index);
        $crate::stats::Derived::of(&$self.0, GAUGE)
    }};
    (@make Text, $name:ident, $self:ident, $index:ident) => {
        $crate::stats::Text::of(&$self.0, $index)
    };
    (@make CounterFamily, $name:ident, $self:ident, $index:ident) => {
        $crate::stats::CounterFamily::of(&$self.0, $index)
    };
    (@make GaugeFamily, $name:ident, $self:ident, $index:ident) => {
        $crate::stats::GaugeFamily::of(&$self.0, $index)
    };
    (@make HistogramFamily, $name:ident, $self:ident, $index:ident) => {
        $crate::stats::HistogramFamily::of(&$self.0, $index)
    };
    (@make $kind:ident, $name:ident, $self:ident, $index:ident) => {{
        const OFFSET: u32 = $crate::stats::offset_of($name::MEMBERS, $index);
        $crate::stats::$kind::of(&$self.0, OFFSET)
    }};
}
