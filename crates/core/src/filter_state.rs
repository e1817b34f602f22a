//! Filter state: typed objects that filters leave for each other, with Envoy's three lifespans.

use crate::hash64::xxh64;
use prost::Message;
use prost_types::Any;
use std::rc::Rc;
use std::sync::Arc;

/// The name of the cluster that a TCP proxy takes, as an object.
pub const TCP_PROXY_CLUSTER: &str = "envoy.tcp_proxy.cluster";
/// How long a TCP proxy waits for bytes, in milliseconds, as an object.
pub const TCP_PROXY_IDLE_TIMEOUT: &str = "envoy.tcp_proxy.per_connection_idle_timeout_ms";

/// How long an object lives (Envoy's `FilterState::LifeSpan`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum LifeSpan {
    /// As long as the filter chain: gone after an internal redirect.
    FilterChain,
    /// As long as the downstream request, internal redirects included.
    Request,
    /// As long as the downstream connection.
    Connection,
}

/// An object in the filter state.
pub trait StateObject: std::any::Any {
    /// As `%FILTER_STATE(key:PLAIN)%` prints it; `None` when it has no text form.
    fn text(&self) -> Option<String> {
        None
    }
    /// As log services get it (`filter_state_objects_to_log`); `None` when there is no message for it.
    fn message(&self) -> Option<Any> {
        None
    }
    /// As `%FILTER_STATE(key:TYPED)%` prints it; `None` when it has no message, or is a plain string.
    fn fields(&self) -> Option<&prost_types::Value> {
        None
    }
    /// What requests or connections that have it are kept together by (`hash_policy`); `None` when it is not made for that.
    fn hash(&self) -> Option<u64> {
        None
    }
}

/// A plain string, as `set_filter_state` makes it.
pub struct StringObject(pub Arc<str>);
impl StateObject for StringObject {
    fn text(&self) -> Option<String> {
        Some(self.0.to_string())
    }
    fn message(&self) -> Option<Any> {
        Some(packed("StringValue", &self.0.to_string()))
    }
}

/// A string by which a balancer may choose (`envoy.hashable_string`).
pub struct HashableString(pub Arc<str>);
impl StateObject for HashableString {
    fn text(&self) -> Option<String> {
        Some(self.0.to_string())
    }
    fn message(&self) -> Option<Any> {
        Some(packed("StringValue", &self.0.to_string()))
    }
    fn hash(&self) -> Option<u64> {
        Some(xxh64(self.0.as_bytes(), 0))
    }
}

/// A number (Envoy's `UInt32Accessor`).
pub struct NumberObject(pub u32);
impl StateObject for NumberObject {
    fn text(&self) -> Option<String> {
        Some(self.0.to_string())
    }
    fn message(&self) -> Option<Any> {
        Some(packed("UInt32Value", &self.0))
    }
}

/// A wrapper of `google.protobuf`; prost has the bare types in their place.
fn packed(wrapper: &str, value: &impl Message) -> Any {
    Any { type_url: format!("type.googleapis.com/google.protobuf.{wrapper}"), value: value.encode_to_vec() }
}

/// The objects of one stream or one connection; few, so a list.
#[derive(Default)]
pub struct FilterState {
    objects: Vec<Entry>,
}

struct Entry {
    name: Arc<str>,
    span: LifeSpan,
    read_only: bool,
    object: Rc<dyn StateObject>,
}

impl FilterState {
    /// Sets an object; the last one set under a name wins.
    pub fn set(&mut self, name: impl Into<Arc<str>>, span: LifeSpan, object: Rc<dyn StateObject>) {
        let name = name.into();
        self.objects.retain(|o| o.name != name);
        self.objects.push(Entry { name, span, read_only: false, object });
    }
    /// As [`set`](Self::set), for objects that configuration names: one that is there stays if it is read-only, or if
    /// the new one would be and it is not.
    pub fn set_guarded(
        &mut self,
        name: &Arc<str>,
        span: LifeSpan,
        read_only: bool,
        object: Rc<dyn StateObject>,
    ) {
        if !self.objects.iter().any(|o| o.name == *name && (o.read_only || read_only)) {
            self.set(name.clone(), span, object);
            if let Some(set) = self.objects.last_mut() {
                set.read_only = read_only;
            }
        }
    }
    /// The object, whatever its type.
    pub fn get(&self, name: &str) -> Option<Rc<dyn StateObject>> {
        self.objects.iter().find(|o| &*o.name == name).map(|o| o.object.clone())
    }
    /// The object, when it has type `T`.
    pub fn get_as<T: StateObject>(&self, name: &str) -> Option<Rc<T>> {
        let any: Rc<dyn std::any::Any> = self.get(name)?;
        any.downcast().ok()
    }
    /// What an internal redirect keeps.
    pub fn keep_from(&mut self, span: LifeSpan) {
        self.objects.retain(|o| o.span >= span);
    }
    /// Name and object of each, in the order they were set.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Rc<dyn StateObject>)> {
        self.objects.iter().map(|o| (&*o.name, &o.object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifespans_and_types() {
        let mut f = FilterState::default();
        f.set("a", LifeSpan::FilterChain, Rc::new(StringObject("1".into())));
        f.set("b", LifeSpan::Request, Rc::new(StringObject("2".into())));
        f.set("b", LifeSpan::Request, Rc::new(StringObject("3".into())));
        f.keep_from(LifeSpan::Request);
        assert!(f.get("a").is_none());
        assert_eq!(f.get_as::<StringObject>("b").and_then(|o| o.text()).as_deref(), Some("3"));
        assert_eq!(f.iter().count(), 1);
    }

    #[test]
    fn what_is_read_only_stays() {
        let mut f = FilterState::default();
        let mut set = |name: &str, read_only, text: &str| {
            let object = Rc::new(StringObject(text.into()));
            f.set_guarded(&name.into(), LifeSpan::FilterChain, read_only, object);
            f.get_as::<StringObject>(name).and_then(|o| o.text()).unwrap_or_default()
        };
        assert_eq!((&*set("a", true, "1"), &*set("a", true, "2"), &*set("a", false, "3")), ("1", "1", "1"));
        assert_eq!((&*set("b", false, "1"), &*set("b", true, "2"), &*set("b", false, "3")), ("1", "1", "3"));
    }
}
