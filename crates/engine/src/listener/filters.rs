//! Listener filters: built on main, run on the worker between accepting a connection and choosing its filter chain.

use crate::ecds::{self, Slot};
use crate::io::Io;
use crate::proto;
use nuncio_api::envoy::config::listener::v3 as pb;
use nuncio_api::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;
use nuncio_core::address::Address;
use nuncio_core::error::BuildResult;
use nuncio_core::filter::BuildCx;
use nuncio_core::info::ConnInfo;
use nuncio_core::listener_filter::{Detected, DynListenerFilter, Inspection, Verdict};
use nuncio_wire::ReadBuf;
use pb::listener_filter_chain_match_predicate::Rule;
use prost::Name;
use smallvec::SmallVec;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

/// The listener filters of a listener.
pub struct Filters {
    all: Vec<Filter>,
    /// `listener_filters_timeout`
    pub timeout: Option<Duration>,
    /// `continue_on_listener_filters_timeout`
    pub continue_on_timeout: bool,
}

struct Filter {
    filter: Source,
    disabled: Option<Predicate>,
}

enum Source {
    Fixed(Arc<dyn DynListenerFilter>),
    /// `config_discovery`
    Discovered(Arc<Slot<Arc<dyn DynListenerFilter>>>),
}

impl Source {
    fn get(&self) -> Option<Arc<dyn DynListenerFilter>> {
        match self {
            Source::Fixed(f) => Some(f.clone()),
            Source::Discovered(slot) => slot.get().as_ref().clone(),
        }
    }
}

fn disabled(f: &pb::ListenerFilter) -> BuildResult<Option<Predicate>> {
    f.filter_disabled.as_ref().map(Predicate::new).transpose()
}

/// `filter_disabled`
enum Predicate {
    Or(Vec<Predicate>),
    And(Vec<Predicate>),
    Not(Box<Predicate>),
    Any,
    /// The first port, and the first that no longer belongs to the range.
    Port(i32, i32),
}

/// How listener filters left a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inspected {
    /// It goes on.
    Done,
    /// A filter wants it closed.
    Refused,
    /// The client closed it.
    RemoteClose,
    /// Reading failed.
    Error,
    /// The configuration of a filter is missing.
    Unconfigured,
}

impl Filters {
    /// Builds the listener filters.
    ///
    /// # Errors
    /// One is unknown, or refuses its configuration.
    pub fn new(c: &pb::Listener, cx: &BuildCx<'_>) -> BuildResult<Filters> {
        let one = |f: &pb::ListenerFilter| {
            let any = match &f.config_type {
                Some(pb::listener_filter::ConfigType::TypedConfig(any)) => any.clone(),
                Some(pb::listener_filter::ConfigType::ConfigDiscovery(c)) => {
                    let name = f.name.clone();
                    let build = move |any: &prost_types::Any, cx: &BuildCx<'_>| {
                        cx.registry.build_listener_filter(&name, any, cx)
                    };
                    let slot = ecds::discover("tcp_listener_filter", &f.name, c, cx, build)?;
                    return Ok(Filter { filter: Source::Discovered(slot), disabled: disabled(f)? });
                }
                None => prost_types::Any::default(),
            };
            let filter = Source::Fixed(cx.registry.build_listener_filter(&f.name, &any, cx)?);
            Ok(Filter { filter, disabled: disabled(f)? })
        };
        let mut all = c.listener_filters.iter().map(one).collect::<BuildResult<Vec<_>>>()?;
        if c.use_original_dst == Some(true) {
            let any = prost_types::Any { type_url: OriginalDst::type_url(), value: vec![] };
            let filter =
                cx.registry.build_listener_filter("envoy.filters.listener.original_dst", &any, cx)?;
            all.push(Filter { filter: Source::Fixed(filter), disabled: None });
        }
        Ok(Filters {
            all,
            timeout: Some(proto::duration_or(&c.listener_filters_timeout, Duration::from_secs(15))?)
                .filter(|d| !d.is_zero()),
            continue_on_timeout: c.continue_on_listener_filters_timeout,
        })
    }
    /// No listener filters (the admin interface).
    pub fn none() -> Filters {
        Filters { all: vec![], timeout: None, continue_on_timeout: false }
    }
    /// True without listener filters.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
    /// Runs them. What was read and not consumed stays in `read`.
    pub async fn run(
        &self,
        io: &mut Io,
        read: &mut ReadBuf,
        conn: &ConnInfo,
        detected: &mut Detected,
    ) -> Inspected {
        let mut filters: SmallVec<[_; 4]> = SmallVec::new();
        for f in &self.all {
            let Some(filter) = f.filter.get() else { return Inspected::Unconfigured };
            filters.push((filter, &f.disabled));
        }
        let wanted = filters.iter().any(|(f, _)| f.wants_original_dst());
        let original_dst = wanted.then(|| io.original_dst()).flatten();
        let mut at = Inspection { conn, detected, original_dst };
        for (filter, disabled) in &filters {
            if disabled.as_ref().is_some_and(|p| p.matches(&conn.local.borrow())) {
                continue;
            }
            let mut st = filter.state();
            let mut verdict = filter.on_accept(&mut *st, &mut at);
            let mut seen = 0;
            loop {
                match verdict {
                    Verdict::Next(n) => {
                        read.consume(n.min(read.len()));
                        break;
                    }
                    Verdict::Close => return Inspected::Refused,
                    Verdict::More => {}
                }
                let max = filter.max_bytes();
                if seen >= max {
                    return Inspected::Refused;
                }
                if read.len() <= seen {
                    match poll_fn(|cx| io.poll_read_at_least(cx, read, 1)).await {
                        Ok(0) => return Inspected::RemoteClose,
                        Ok(_) => {}
                        Err(_) => return Inspected::Error,
                    }
                }
                seen = read.len().min(max);
                verdict = filter.on_data(&mut *st, &read.data()[..seen], &mut at);
            }
        }
        Inspected::Done
    }
}

impl Predicate {
    fn new(p: &pb::ListenerFilterChainMatchPredicate) -> BuildResult<Predicate> {
        let set = |s: &pb::listener_filter_chain_match_predicate::MatchSet| {
            s.rules.iter().map(Predicate::new).collect::<BuildResult<Vec<_>>>()
        };
        Ok(match &p.rule {
            Some(Rule::OrMatch(s)) => Predicate::Or(set(s)?),
            Some(Rule::AndMatch(s)) => Predicate::And(set(s)?),
            Some(Rule::NotMatch(p)) => Predicate::Not(Box::new(Predicate::new(p)?)),
            Some(Rule::AnyMatch(_)) => Predicate::Any,
            Some(Rule::DestinationPortRange(r)) => Predicate::Port(r.start, r.end),
            None => return Err("value is required".into()),
        })
    }
    fn matches(&self, local: &Address) -> bool {
        match self {
            Predicate::Or(all) => all.iter().any(|p| p.matches(local)),
            Predicate::And(all) => all.iter().all(|p| p.matches(local)),
            Predicate::Not(p) => !p.matches(local),
            Predicate::Any => true,
            Predicate::Port(start, end) => {
                local.port().is_some_and(|p| (*start..*end).contains(&i32::from(p)))
            }
        }
    }
}
