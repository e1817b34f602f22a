//! Filter state: typed objects that filters leave for each other, with Envoy's three lifespans.

use std::any::Any;
use std::rc::Rc;
use std::sync::Arc;

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
pub trait StateObject: Any {
    /// As `%FILTER_STATE(key:PLAIN)%` prints it; `None` when it has no text form.
    fn text(&self) -> Option<String> {
        None
    }
}

/// A plain string, as `set_filter_state` makes it.
pub struct StringObject(pub Arc<str>);
impl StateObject for StringObject {
    fn text(&self) -> Option<String> {
        Some(self.0.to_string())
    }
}

/// The objects of one stream or one connection; few, so a list.
#[derive(Default)]
pub struct FilterState {
    objects: Vec<(Arc<str>, LifeSpan, Rc<dyn StateObject>)>,
}

impl FilterState {
    /// Sets an object; the last one set under a name wins.
    pub fn set(&mut self, name: impl Into<Arc<str>>, span: LifeSpan, object: Rc<dyn StateObject>) {
        let name = name.into();
        self.objects.retain(|o| o.0 != name);
        self.objects.push((name, span, object));
    }
    /// The object, whatever its type.
    pub fn get(&self, name: &str) -> Option<Rc<dyn StateObject>> {
        self.objects.iter().find(|o| &*o.0 == name).map(|o| o.2.clone())
    }
    /// The object, when it has type `T`.
    pub fn get_as<T: StateObject>(&self, name: &str) -> Option<Rc<T>> {
        let any: Rc<dyn Any> = self.get(name)?;
        any.downcast().ok()
    }
    /// What an internal redirect keeps.
    pub fn keep_from(&mut self, span: LifeSpan) {
        self.objects.retain(|o| o.1 >= span);
    }
    /// Name and object of each, in the order they were set.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Rc<dyn StateObject>)> {
        self.objects.iter().map(|o| (&*o.0, &o.2))
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
}
