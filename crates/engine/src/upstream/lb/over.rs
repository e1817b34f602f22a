//! `OverrideHost`: a header or metadata of the request names the hosts that it is to go to, one attempt after the other.

use super::config::{self, Lb, PolicyCx};
use super::metadata_key::MetadataKey;
use super::pick::{Picked, Picker, Picking};
use nuncio_api::envoy::extensions::load_balancing_policies::override_host::v3 as pb;
use nuncio_core::coverage::Covered;
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::filter_state::{LifeSpan, StateObject};
use nuncio_core::info::StreamInfo;
use nuncio_wire::{HeaderName, RequestHead};
use prost_types::value::Kind;
use std::cell::Cell;
use std::rc::Rc;

/// What is read of the messages.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.extensions.load_balancing_policies.override_host.v3.OverrideHost",
        &["override_host_sources", "fallback_policy"],
    ),
    Covered::new(
        "envoy.extensions.load_balancing_policies.override_host.v3.OverrideHost.OverrideHostSource",
        &["header", "metadata"],
    ),
];

/// A compiled `OverrideHost`.
#[derive(Debug)]
pub struct OverrideHost {
    sources: Vec<Source>,
    /// For requests that name no host of the cluster.
    pub inner: Lb,
}

#[derive(Debug)]
enum Source {
    Header(HeaderName),
    Metadata(MetadataKey),
}

/// What a request names, kept for its next attempts.
struct Named {
    hosts: Vec<String>,
    next: Cell<usize>,
}
impl StateObject for Named {}

const STATE: &str = "envoy.lb.override_host.selected_hosts";

impl OverrideHost {
    /// Compiles the policy.
    ///
    /// # Errors
    /// A source that is empty or two at once, or a fallback that is not known.
    pub fn new(c: &pb::OverrideHost, cx: PolicyCx<'_>) -> BuildResult<OverrideHost> {
        let sources = c.override_host_sources.iter().map(|s| match (&s.metadata, s.header.is_empty()) {
            (None, true) => Err(BuildError::from("Empty override source")),
            (Some(_), false) => Err("Only one override source must be set".into()),
            (None, false) => Ok(Source::Header(HeaderName::new(&s.header))),
            (Some(m), true) => Ok(Source::Metadata(MetadataKey::new(m)?)),
        });
        let sources = sources.collect::<BuildResult<_>>()?;
        let missing = |names: &str| {
            BuildError(format!(
                "dynamic forwarding LB: didn't find a registered fallback load balancer factory with names from \
                 {names}"
            ))
        };
        let list = c.fallback_policy.clone().unwrap_or_default();
        Ok(OverrideHost { sources, inner: config::inner(&list, cx, missing)? })
    }
    /// The host for a request.
    pub fn pick(&self, picker: &mut Picker, p: &Picking<'_>) -> Option<Picked> {
        self.named(p).or_else(|| picker.pick(&Picking { lb: &self.inner, ..*p }))
    }
    fn named(&self, p: &Picking<'_>) -> Option<Picked> {
        let info = p.cx.info()?;
        let known = info.filter_state.borrow().get_as::<Named>(STATE);
        let named = known.unwrap_or_else(|| {
            let new = Rc::new(Named { hosts: self.read(p.cx.head(), info), next: Cell::new(0) });
            info.filter_state.borrow_mut().set(STATE, LifeSpan::Request, new.clone());
            new
        });
        while let Some(name) = named.hosts.get(named.next.get()) {
            named.next.set(named.next.get() + 1);
            if let Some(i) = p.set.at(name) {
                return Some(Picked::At(i));
            }
        }
        None
    }
    fn read(&self, head: Option<&RequestHead>, info: &StreamInfo) -> Vec<String> {
        let mut hosts = vec![];
        for s in &self.sources {
            let text = match s {
                Source::Header(name) => head.and_then(|h| h.headers.get_str(name)).map(str::to_owned),
                Source::Metadata(key) => {
                    let metadata = info.metadata.borrow();
                    match metadata.as_ref().and_then(|m| key.find(m)?.kind.clone()) {
                        Some(Kind::StringValue(s)) => Some(s),
                        _ => None,
                    }
                }
            };
            let text = text.unwrap_or_default();
            hosts.extend(text.split(',').map(str::trim).filter(|h| !h.is_empty()).map(str::to_owned));
        }
        hosts
    }
}
