//! Mutations of headers and trailers (`envoy.config.common.mutation_rules.v3.HeaderMutation`).

use super::target::Target;
use nuncio_api::envoy::config::common::mutation_rules::v3 as pb;
use nuncio_api::envoy::config::core::v3::HeaderValueOption;
use nuncio_api::envoy::config::core::v3::header_value_option::HeaderAppendAction as Action;
use nuncio_core::format::HeaderFormatter;
use nuncio_core::matchers::StringMatcher;
use nuncio_core::{BuildError, BuildResult};
use nuncio_wire::{HeaderName, Id};

/// A list of mutations.
#[derive(Default)]
pub struct HeaderMutations(Vec<Mutation>);

enum Mutation {
    Append(Append),
    Remove(HeaderName),
    RemoveOnMatch(Box<StringMatcher>),
}

struct Append {
    name: HeaderName,
    value: HeaderFormatter,
    action: Action,
    keep_empty: bool,
}

impl HeaderMutations {
    /// From configuration.
    ///
    /// # Errors
    /// A header that must not be set, a bad format, a bad matcher.
    pub fn new(list: &[pb::HeaderMutation]) -> BuildResult<HeaderMutations> {
        use pb::header_mutation::Action as A;
        let one = |m: &pb::HeaderMutation| match &m.action {
            Some(A::Append(o)) => Ok(Mutation::Append(Append::new(o)?)),
            Some(A::Remove(n)) => Ok(Mutation::Remove(as_envoy_stores(n))),
            Some(A::RemoveOnMatch(r)) => {
                let m = r.key_matcher.as_ref().ok_or_else(|| required("key_matcher"))?;
                Ok(Mutation::RemoveOnMatch(Box::new(StringMatcher::new(m)?)))
            }
            None => Err(required("action")),
        };
        list.iter().map(one).collect::<BuildResult<_>>().map(HeaderMutations)
    }
    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// True when a value depends on the exchange.
    pub fn look_at_exchange(&self) -> bool {
        self.0.iter().any(|m| matches!(m, Mutation::Append(a) if a.value.constant().is_none()))
    }
    /// Runs them. `joined` says of which headers there is one at most: appending to it adds to its value.
    pub fn apply(&self, target: &mut Target<'_>, joined: impl Fn(Id) -> bool) {
        for m in &self.0 {
            match m {
                Mutation::Append(a) => a.apply(target, &joined),
                Mutation::Remove(n) => drop(target.headers().remove(n)),
                Mutation::RemoveOnMatch(m) => target.headers().retain(|h| !m.matches(h.name)),
            }
        }
    }
}

fn required(field: &str) -> BuildError {
    BuildError(format!("field: \"{field}\", reason: is required"))
}

/// To Envoy `host` is another name of `:authority`.
fn as_envoy_stores(name: &str) -> HeaderName {
    HeaderName::new(if name.eq_ignore_ascii_case("host") { ":authority" } else { name })
}

impl Append {
    fn new(o: &HeaderValueOption) -> BuildResult<Append> {
        let h = o.header.as_ref().ok_or_else(|| required("header"))?;
        if h.key.starts_with(':') || h.key.eq_ignore_ascii_case("host") {
            return Err(":-prefixed or host headers may not be modified".into());
        }
        let action = match (o.append, o.append_action()) {
            (None, action) => action,
            (Some(true), Action::AppendIfExistsOrAdd) => Action::AppendIfExistsOrAdd,
            (Some(false), Action::AppendIfExistsOrAdd) => Action::OverwriteIfExistsOrAdd,
            (Some(_), _) => {
                return Err("Both append and append_action are set and it's not allowed".into());
            }
        };
        // `raw_value` is not looked at, as in Envoy 1.40 (measured).
        let value = HeaderFormatter::new(&h.value)?;
        Ok(Append { name: HeaderName::new(&h.key), value, action, keep_empty: o.keep_empty_value })
    }
    fn apply(&self, target: &mut Target<'_>, joined: impl Fn(Id) -> bool) {
        let mut made = vec![];
        let value = match self.value.constant() {
            Some(v) => v,
            None => {
                self.value.append(&target.cx(), &mut made);
                &made
            }
        };
        if value.is_empty() && !self.keep_empty {
            return;
        }
        let headers = target.headers();
        let present = headers.contains(&self.name);
        match self.action {
            Action::AppendIfExistsOrAdd if present && joined(self.name.id()) => {
                headers.append_to(&self.name, b",", value);
            }
            Action::AppendIfExistsOrAdd => headers.append(&self.name, value),
            Action::AddIfAbsent if !present => headers.append(&self.name, value),
            Action::AddIfAbsent => {}
            Action::OverwriteIfExists if !present => {}
            // Not in its old place: Envoy takes it out and adds it at the end.
            Action::OverwriteIfExists | Action::OverwriteIfExistsOrAdd => {
                headers.remove(&self.name);
                headers.append(&self.name, value);
            }
        }
    }
}
