//! Rules that a value must meet (protoc-gen-validate).

/// A rule of a field.
#[derive(Debug, PartialEq)]
pub enum Rule {
    /// The embedded message is not looked into.
    Skip,
    /// An unset value meets the other rules.
    IgnoreEmpty,
    /// The message must be there.
    Required,
    /// Type URLs that an `Any` may have.
    AnyIn(&'static [&'static str]),
    /// A duration within bounds, in nanoseconds.
    Duration(Bound<i128>, Bound<i128>),
    /// A number within bounds.
    Number(Bound<f64>, Bound<f64>),
    /// One of these numbers.
    NumberIn(&'static [f64]),
    /// Least and greatest number of characters.
    Length(Option<u64>, Option<u64>),
    /// Least and greatest number of bytes.
    Bytes(Option<u64>, Option<u64>),
    /// One of these texts.
    In(&'static [&'static str]),
    /// Begins with a text.
    Prefix(&'static str),
    /// Ends with a text.
    Suffix(&'static str),
    /// Contains a text.
    Contains(&'static str),
    /// Matches a regular expression.
    Pattern(&'static str),
    /// A number that the enum defines.
    Defined,
    /// One of these numbers of the enum.
    EnumIn(&'static [i32]),
    /// None of these numbers of the enum.
    EnumNotIn(&'static [i32]),
    /// That boolean.
    Bool(bool),
    /// Least and greatest number of elements or map entries.
    Items(Option<u64>, Option<u64>),
    /// No element twice.
    Unique,
    /// What each element, or each value of a map, must meet.
    Each(&'static [Rule]),
    /// What each key of a map must meet.
    Keys(&'static [Rule]),
}

/// One end of a range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound<T> {
    /// No bound.
    None,
    /// The bound itself is allowed.
    Closed(T),
    /// The bound itself is not allowed.
    Open(T),
}

/// Pattern of a header name or value that is checked loosely.
pub const NO_LINE_BREAK: &str = r"^[^\x00\n\r]*$";
/// Pattern of a header name that is checked strictly.
pub const HEADER_NAME: &str = r"^:?[0-9a-zA-Z!#$%&'*+-.^_|~`]+$";
/// Pattern of a header value that is checked strictly.
pub const HEADER_VALUE: &str = r"^[^\x00-\x08\x0A-\x1f\x7f]*$";
