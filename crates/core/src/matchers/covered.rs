//! Which fields of the matchers' messages are read.

use crate::coverage::Covered;

/// What is read of matchers.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.type.matcher.v3.StringMatcher",
        &["exact", "prefix", "suffix", "safe_regex", "contains", "custom", "ignore_case"],
    ),
    Covered::new("envoy.type.matcher.v3.ListStringMatcher", &["patterns"]),
    Covered::new("envoy.type.matcher.v3.PathMatcher", &["path"]),
    Covered::new("envoy.type.matcher.v3.RegexMatcher", &["regex"])
        .ignoring(&[("google_re2", "names the one engine there is, and a limit that Envoy took back")]),
    Covered::new("envoy.type.matcher.v3.RegexMatchAndSubstitute", &["pattern", "substitution"]),
    Covered::new(
        "envoy.config.route.v3.HeaderMatcher",
        &[
            "name",
            "exact_match",
            "safe_regex_match",
            "range_match",
            "present_match",
            "prefix_match",
            "suffix_match",
            "contains_match",
            "string_match",
            "invert_match",
            "treat_missing_header_as_empty",
        ],
    ),
    Covered::new("envoy.config.route.v3.QueryParameterMatcher", &["name", "string_match", "present_match"]),
    Covered::new("envoy.type.matcher.v3.MetadataMatcher", &["filter", "path", "value", "invert"]),
    Covered::new("envoy.type.matcher.v3.MetadataMatcher.PathSegment", &["key"]),
    Covered::new(
        "envoy.type.matcher.v3.ValueMatcher",
        &[
            "null_match",
            "double_match",
            "string_match",
            "bool_match",
            "present_match",
            "list_match",
            "or_match",
        ],
    ),
    Covered::new("envoy.type.matcher.v3.ListMatcher", &["one_of"]),
    Covered::new("envoy.type.matcher.v3.OrMatcher", &["value_matchers"]),
    Covered::new("envoy.type.matcher.v3.DoubleMatcher", &["range", "exact"]),
    Covered::new("envoy.type.matcher.v3.FilterStateMatcher", &["key", "string_match", "address_match"]),
    Covered::new("envoy.type.matcher.v3.AddressMatcher", &["ranges", "invert_match"]),
    Covered::new("envoy.config.core.v3.CidrRange", &["address_prefix", "prefix_len"]),
    Covered::new("xds.core.v3.CidrRange", &["address_prefix", "prefix_len"]),
    Covered::new("envoy.type.v3.Int64Range", &["start", "end"]),
    Covered::new("envoy.type.v3.DoubleRange", &["start", "end"]),
    Covered::new("envoy.type.v3.FractionalPercent", &["numerator", "denominator"]),
];
