//! Header rules of configuration: `request_headers_to_add` and its like, of routes and of filters.

use crate::error::{BuildError, BuildResult};
use crate::format::{FormatCx, HeaderFormatter};
use nuncio_api::envoy::config::core::v3 as core;
use nuncio_wire::{HeaderMap, HeaderName, name};
use std::ops::Range;

/// `HeaderValueOption.append_action`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum How {
    Append,
    AddIfAbsent,
    Overwrite,
    OverwriteIfExists,
}

struct Add {
    name: HeaderName,
    value: HeaderFormatter,
    how: How,
    keep_empty: bool,
}

/// What to remove and what to add.
#[derive(Default)]
pub struct Rules {
    add: Box<[Add]>,
    remove: Box<[HeaderName]>,
}

impl Rules {
    /// Compiles.
    ///
    /// # Errors
    /// A header that must not be changed, or a bad format.
    pub fn new(add: &[core::HeaderValueOption], remove: &[String]) -> BuildResult<Rules> {
        let add = add.iter().map(Add::new).collect::<BuildResult<_>>()?;
        let remove = remove.iter().map(|n| match is_fixed(n) {
            true => Err(BuildError::from(":-prefixed or host headers may not be removed")),
            false => Ok(HeaderName::new(n)),
        });
        Ok(Rules { add, remove: remove.collect::<BuildResult<_>>()? })
    }
    /// True without rules.
    pub fn is_empty(&self) -> bool {
        self.add.is_empty() && self.remove.is_empty()
    }
    /// Removes what is to be removed; that comes first.
    pub fn remove_from(&self, headers: &mut HeaderMap) {
        for n in &self.remove {
            headers.remove(n);
        }
    }
    /// Every value, made before anything is changed.
    pub fn make<'a>(&'a self, headers: &HeaderMap, cx: &FormatCx<'_>) -> Made<'a> {
        let mut made = Made::default();
        for a in &self.add {
            let from = made.text.len();
            a.value.append(cx, &mut made.text);
            let value = from..made.text.len();
            if value.is_empty() && !a.keep_empty {
                continue;
            }
            match a.how {
                How::Append => made.add.push((&a.name, value)),
                How::AddIfAbsent if !headers.contains(&a.name) => made.add.push((&a.name, value)),
                How::Overwrite => made.overwrite.push((&a.name, value)),
                How::OverwriteIfExists if headers.contains(&a.name) => made.overwrite.push((&a.name, value)),
                How::AddIfAbsent | How::OverwriteIfExists => {}
            }
        }
        made
    }
}

/// Values to be set. As in Envoy (measured) all that overwrites comes first and leaves its old place, then what is added.
#[derive(Default)]
pub struct Made<'a> {
    text: Vec<u8>,
    overwrite: Vec<(&'a HeaderName, Range<usize>)>,
    add: Vec<(&'a HeaderName, Range<usize>)>,
}

impl Made<'_> {
    /// Sets them.
    pub fn apply(self, h: &mut HeaderMap) {
        for (name, value) in self.overwrite {
            h.remove(name);
            h.append(name, &self.text[value]);
        }
        for (name, value) in self.add {
            append(h, name, &self.text[value]);
        }
    }
}

/// Headers that rules must not touch.
fn is_fixed(name: &str) -> bool {
    name.starts_with(':') || name.eq_ignore_ascii_case("host")
}

impl Add {
    fn new(o: &core::HeaderValueOption) -> BuildResult<Add> {
        let h = o
            .header
            .as_ref()
            .ok_or_else(|| BuildError::from("HeaderValueOptionValidationError.Header: value is required"))?;
        if is_fixed(&h.key) {
            return Err(":-prefixed or host headers may not be modified".into());
        }
        let how = match (o.append, o.append_action) {
            (Some(true), 0) => How::Append,
            (Some(false), 0) => How::Overwrite,
            (Some(_), _) => return Err("Both append and append_action are set and it's not allowed".into()),
            (None, 1) => How::AddIfAbsent,
            (None, 2) => How::Overwrite,
            (None, 3) => How::OverwriteIfExists,
            (None, _) => How::Append,
        };
        let value = if h.raw_value.is_empty() {
            HeaderFormatter::new(&h.value)?
        } else {
            let raw = std::str::from_utf8(&h.raw_value)
                .map_err(|_| BuildError::not_implemented("HeaderValue.raw_value that is not UTF-8"))?;
            HeaderFormatter::new(raw)?
        };
        Ok(Add { name: HeaderName::new(&h.key), value, how, keep_empty: o.keep_empty_value })
    }
}

/// Adds a value: headers that Envoy keeps as one are joined with a comma, others get another line.
pub fn append(h: &mut HeaderMap, n: &HeaderName, value: &[u8]) {
    match n.id() {
        name::COOKIE => h.append_to(n, b"; ", value),
        id if nuncio_wire::joined::in_requests(id) || nuncio_wire::joined::in_responses(id) => {
            h.append_to(n, b",", value)
        }
        _ => h.append(n, value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Address;
    use crate::info::{ConnInfo, ListenerInfo, StreamInfo};

    use std::sync::Arc;

    fn option(key: &str, value: &str, action: i32) -> core::HeaderValueOption {
        let header = core::HeaderValue { key: key.into(), value: value.into(), ..Default::default() };
        core::HeaderValueOption { header: Some(header), append_action: action, ..Default::default() }
    }

    #[test]
    fn what_overwrites_comes_first_and_moves_to_the_end() {
        let mut h: HeaderMap = [("x-1", "old"), ("x-2", "old"), ("x-3", "old"), ("x-4", "old"), ("a", "b")]
            .into_iter()
            .collect();
        let rules = [
            option("x-1", "new", 0),
            option("x-2", "new", 1),
            option("x-3", "%REQ(x-4)%", 2),
            option("x-4", "%REQ(x-3)%", 3),
            option("x-5", "new", 1),
            option("x-6", "new", 3),
            option("x-7", "%REQ(none)%", 0),
        ];
        let rules = Rules::new(&rules, &[]).expect("valid rules");
        let address = || Address::Ip("127.0.0.1:1".parse().expect("an address"));
        let conn = ConnInfo::new(1, Arc::new(ListenerInfo::default()), address(), address());
        let info = StreamInfo::new();
        let request = h.clone();
        let cx = FormatCx { request: Some(&request), ..FormatCx::new(&info, &conn) };
        rules.make(&request, &cx).apply(&mut h);
        let want = [
            ("x-1", "old"),
            ("x-2", "old"),
            ("a", "b"),
            ("x-3", "old"),
            ("x-4", "old"),
            ("x-1", "new"),
            ("x-5", "new"),
        ];
        assert_eq!(h, want.into_iter().collect());
    }
}
