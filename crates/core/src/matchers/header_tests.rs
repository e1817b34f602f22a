use super::*;
use nuncio_api::envoy::r#type::matcher::v3::{
    RegexMatcher, StringMatcher as S, string_matcher::MatchPattern as P,
};
use nuncio_api::envoy::r#type::v3::Int64Range as Range;
use pb::header_matcher::HeaderMatchSpecifier as Spec;

fn head(headers: &[(&str, &str)]) -> RequestHead {
    RequestHead { headers: headers.iter().copied().collect(), ..Default::default() }
}
fn string(p: P) -> Option<Spec> {
    Some(Spec::StringMatch(S { ignore_case: false, match_pattern: Some(p) }))
}
fn check(name: &str, spec: Option<Spec>, headers: &[(&str, &str)]) -> [bool; 4] {
    let run = |invert_match, treat_missing_header_as_empty| {
        let m = pb::HeaderMatcher {
            name: name.into(),
            invert_match,
            treat_missing_header_as_empty,
            header_match_specifier: spec.clone(),
        };
        HeaderMatcher::new(&m).unwrap().matches(&head(headers))
    };
    [run(false, false), run(true, false), run(false, true), run(true, true)]
}

/// Columns: plain, inverted, missing as empty, both. From the comments of `HeaderMatcher` in Envoy's API.
#[test]
fn missing_present_and_inverted() {
    const THERE: &[(&str, &str)] = &[("x", "a")];
    const NOT: &[(&str, &str)] = &[("y", "a")];
    let exact = || string(P::Exact("a".into()));
    assert_eq!(check("x", exact(), THERE), [true, false, true, false]);
    assert_eq!(check("x", exact(), NOT), [false, false, false, true]);
    let empty = || string(P::Exact(String::new()));
    assert_eq!(check("x", empty(), NOT), [false, false, true, false]);
    assert_eq!(check("X", None, THERE), [true, false, true, false]);
    assert_eq!(check("x", None, NOT), [false, true, true, false]);
    assert_eq!(check("x", Some(Spec::PresentMatch(true)), NOT), [false, true, true, false]);
    assert_eq!(check("x", Some(Spec::PresentMatch(false)), NOT), [true, false, false, true]);
    assert_eq!(check("x", Some(Spec::PresentMatch(false)), THERE), [false, true, false, true]);
}

#[test]
fn every_kind() {
    let value = &[("x", "abc")][..];
    let yes = |s| assert!(check("x", Some(s), value)[0]);
    let no = |s| assert!(!check("x", Some(s), value)[0]);
    yes(Spec::ExactMatch("abc".into()));
    yes(Spec::ExactMatch(String::new()));
    no(Spec::ExactMatch("ab".into()));
    yes(Spec::PrefixMatch("ab".into()));
    no(Spec::PrefixMatch("bc".into()));
    yes(Spec::SuffixMatch("bc".into()));
    no(Spec::SuffixMatch("ab".into()));
    yes(Spec::ContainsMatch("b".into()));
    no(Spec::ContainsMatch("x".into()));
    let regex = |r: &str| Spec::SafeRegexMatch(RegexMatcher { regex: r.into(), ..Default::default() });
    yes(regex("a.c"));
    no(regex("a"));
}

#[test]
fn range() {
    let run = |v| check("x", Some(Spec::RangeMatch(Range { start: -10, end: 0 })), &[("x", v)])[0];
    for v in ["-10", "-1", " -5 ", "-05"] {
        assert!(run(v), "{v}");
    }
    for v in ["0", "-11", "", "somestring", "10.9", "-1somestring", "99999999999999999999", "+-5"] {
        assert!(!run(v), "{v}");
    }
}

#[test]
fn cve_2026_26308_all_values_count() {
    let two = &[("x-role", "user"), ("x-role", "admin")][..];
    // Columns: plain, inverted. Each value by itself, and inverted only if none matches.
    let run = |p: P| check("x-role", string(p), two)[..2].to_vec();
    assert_eq!(run(P::Exact("user".into())), [true, false]);
    assert_eq!(run(P::Exact("admin".into())), [true, false]);
    assert_eq!(run(P::Exact("user,admin".into())), [false, true]);
    assert_eq!(run(P::Contains(",".into())), [false, true]);
    assert_eq!(run(P::Suffix("min".into())), [true, false]);
}

#[test]
fn pseudo_headers_and_host() {
    let request = &[(":method", "GET"), (":authority", "a.example")][..];
    assert!(check(":method", string(P::Exact("GET".into())), request)[0]);
    assert!(check("host", string(P::Exact("a.example".into())), request)[0]);
    let m = pb::HeaderMatcher {
        name: ":status".into(),
        header_match_specifier: string(P::Prefix("50".into())),
        ..Default::default()
    };
    let m = HeaderMatcher::new(&m).unwrap();
    assert!(m.matches(&ResponseHead::new(503)) && !m.matches(&ResponseHead::new(200)));
    assert!(matches_all(&[], &ResponseHead::new(200)));
}
