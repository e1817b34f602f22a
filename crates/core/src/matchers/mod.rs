//! Matchers from configuration: strings, headers, query parameters, metadata, numbers, addresses.
//!
//! Each is compiled once from its message of Envoy's API and then decides without allocating (a header with several
//! values is the exception: they are joined, so that no value escapes the matcher). Values are bytes: nothing on the
//! wire is promised to be UTF-8.
//!
//! * [`StringMatcher`], [`ListStringMatcher`], [`PathMatcher`] and [`Regex`] (RE2's syntax, Envoy's semantics: [`re2`])
//! * [`HeaderMatcher`] over any [`HeaderSource`]
//! * [`QueryParameterMatcher`] and the reader of query strings, [`query`]
//! * [`ValueMatcher`] and [`MetadataMatcher`] over `google.protobuf.Value`
//! * [`FilterStateMatcher`] over the objects that filters leave for each other
//! * [`UriTemplate`] over paths
//! * [`CidrSet`], [`FractionalPercent`], [`DoubleMatcher`], [`Int64Range`]

mod cidr;
mod covered;
mod filter_state;
mod header;
mod number;
pub mod query;
pub mod re2;
mod regex;
mod string;
mod uri_template;
mod value;

pub use cidr::{CidrRange, CidrSet};
pub use covered::COVERED;
pub use filter_state::FilterStateMatcher;
pub(crate) use header::status_text;
pub use header::{HeaderMatcher, HeaderSource, matches_all};
pub use number::{DoubleMatcher, FractionalPercent, Int64Range};
pub use query::QueryParameterMatcher;
pub use regex::{Regex, RegexSubstitution};
pub use string::{ListStringMatcher, PathMatcher, StringMatcher};
pub use uri_template::UriTemplate;
pub use value::{MetadataMatcher, ValueMatcher};
