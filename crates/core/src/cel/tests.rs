//! Values were measured on Envoy 1.40.

use super::{Options, Program, Value};
use crate::address::Address;
use crate::format::{FormatCx, request_cx};
use crate::info::{ConnInfo, ListenerInfo, StreamShared};
use nuncio_wire::HeaderMap;
use prost_types::value::Kind;
use std::rc::Rc;
use std::sync::Arc;

/// Calls `f` with a request and its response.
fn with<R>(f: impl FnOnce(&FormatCx<'_>) -> R) -> R {
    let address = |a: &str| Address::Ip(a.parse().expect("an address"));
    let conn =
        ConnInfo::new(7, Arc::new(ListenerInfo::default()), address("10.0.0.1:4000"), address("10.0.0.2:80"));
    let sx = StreamShared::new(Rc::new(conn), None);
    let number = |n| prost_types::Value { kind: Some(Kind::NumberValue(n)) };
    let inner = prost_types::Struct { fields: [("n".to_owned(), number(3.0))].into() };
    let nested = prost_types::Value { kind: Some(Kind::StructValue(inner)) };
    sx.info.set_metadata("ns", prost_types::Struct { fields: [("s".to_owned(), nested)].into() });
    sx.info.response_code.set(404);
    let request: HeaderMap = [
        (":method", "GET"),
        (":path", "/a/b?c=d#e"),
        (":authority", "h.example"),
        ("x-a", "1"),
        ("x-a", "2"),
        ("content-length", "12"),
    ]
    .into_iter()
    .collect();
    let response: HeaderMap = [("x-r", "v")].into_iter().collect();
    let cx = request_cx(&request, &sx, None);
    f(&FormatCx { response: Some((404, &response)), ..cx })
}

/// What an expression comes to, as text; `error` if it fails.
fn value_with(text: &str, options: Options) -> String {
    let program = Program::parse(text, options).unwrap_or_else(|e| panic!("{text}: {e}"));
    with(|cx| match program.eval(cx) {
        Ok(v) => String::from_utf8_lossy(&v.print()).into_owned(),
        Err(_) => "error".to_owned(),
    })
}

fn value(text: &str) -> String {
    value_with(text, Options::default())
}

fn all(cases: &[(&str, &str)]) {
    for (text, want) in cases {
        assert_eq!(value(text), *want, "{text}");
    }
}

#[test]
fn attributes() {
    all(&[
        ("request.path", "/a/b?c=d#e"),
        ("request.url_path", "/a/b"),
        ("request.query", "c=d"),
        ("request.method + ''", "error"),
        ("request.headers['x-a']", "1,2"),
        ("request.headers['X-A']", "1,2"),
        ("request.headers.none", "error"),
        ("has(request.headers.none)", "false"),
        ("has(request.referer)", "false"),
        ("'x-a' in request.headers", "true"),
        ("request.size", "12"),
        ("size(request.headers)", "6"),
        ("response.code", "404"),
        ("response.headers['x-r']", "v"),
        ("response.headers[':status']", "404"),
        ("source.address", "10.0.0.1:4000"),
        ("destination.port", "80"),
        ("connection.id", "7"),
        ("connection.mtls", "false"),
        ("metadata.filter_metadata['ns'].s.n", "3"),
        ("metadata.filter_metadata['ns'].s.n == 3", "true"),
        ("has(metadata.filter_metadata.ns.s.m)", "false"),
        ("metadata.filter_metadata['no']", "error"),
        ("upstream.address", "error"),
        ("upstream.request_attempt_count", "0"),
        ("unknown.thing", "error"),
        ("request.headers", "CelMap value"),
    ]);
}

#[test]
fn operators() {
    all(&[
        ("1 + 2 * 3 - 4 / 2 % 2", "7"),
        ("(1 + 2) * 3", "9"),
        ("-(3)", "-3"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("9223372036854775807 + 1", "error"),
        ("1 / 0", "error"),
        ("1u + 2u", "3"),
        ("1u + 2", "error"),
        ("1.5 * 2.0", "3"),
        ("1 == 1.0 && 1u == 1 && 2 > 1.5", "true"),
        ("'a' < 'b' ? 'yes' : 'no'", "yes"),
        ("'1' == 1", "false"),
        ("'1' < 1", "error"),
        ("null == null", "true"),
        ("false && unknown", "false"),
        ("unknown && false", "false"),
        ("unknown || true", "true"),
        ("unknown || false", "error"),
        ("!true || 1 in [1, 2] && !(3 in [1, 2])", "true"),
        ("[1, 'a'][1]", "a"),
        ("[1][1]", "error"),
        ("{'a': 1, 'b': 2}.b", "2"),
        ("{'a': 1} == {'a': 1.0}", "true"),
        ("[1, 2] == [1, 2]", "true"),
        ("size('ä') == 1 && size(b'ä') == 2 && size([1, 2]) == 2", "true"),
        ("1.0e10", "1e+10"),
        ("0.1 + 0.2", "0.3"),
        ("r'\\d' == '\\\\d' && '\\x41\\u00e4\\101' == 'AäA'", "true"),
        ("'''a'b''' + ''", "error"),
        ("0x1F", "31"),
        ("[1]", "CelList value"),
        ("type(1) == int && type('a') == string && type(int) == type", "true"),
    ]);
}

#[test]
fn functions() {
    all(&[
        (
            "request.path.startsWith('/a') && request.path.endsWith('#e') && request.path.contains('b?')",
            "true",
        ),
        ("request.path.matches('^/[a-z]/') && !matches(request.path, 'z')", "true"),
        ("'a'.matches(request.method)", "false"),
        ("int('12') + int(3.7) + int(4u)", "19"),
        ("int('x')", "error"),
        ("uint(-1)", "error"),
        ("double('1.5')", "1.5"),
        ("duration('1h2m3.5s')", "1h2m3.5s"),
        ("duration('90s') > duration('1m')", "true"),
        ("duration('1h').getMinutes()", "60"),
        ("duration('1500us')", "1.5ms"),
        ("timestamp('2024-02-29T12:34:56.5Z')", "2024-02-29T12:34:56.5+00:00"),
        ("timestamp('2024-02-29T12:34:56Z').getDayOfYear()", "59"),
        ("timestamp('2024-02-29T23:00:00Z').getDayOfWeek('02:00')", "5"),
        ("timestamp('2024-02-29T00:00:00Z') - timestamp('2024-02-28T00:00:00Z')", "24h"),
        ("timestamp('2024-02-29T00:00:00Z') < request.time", "true"),
        ("int(timestamp('1970-01-02T00:00:00Z'))", "86400"),
        ("bool('true')", "true"),
    ]);
    let strings = Options { string_conversion: true, string_concat: true, string_functions: true };
    for (text, want) in [
        ("string(1) + string(true) + string(b'x')", "1truex"),
        ("'aBc'.lowerAscii() + 'x'.upperAscii()", "abcX"),
        ("'a-b-c'.replace('-', '+')", "a+b+c"),
        ("'a,b'.split(',')[1] + 'äx'.split('')[0]", "bä"),
    ] {
        assert_eq!(value_with(text, strings), want, "{text}");
    }
}

#[test]
fn refusals() {
    let refused = |text: &str| Program::parse(text, Options::default()).map(|_| ()).unwrap_err().0;
    let missing = |f: &str| {
        format!("failed to create an expression: No overload found in reference resolve step for {f}")
    };
    for (text, f) in [
        ("foo(1)", "foo"),
        ("1.foo()", "foo"),
        ("string(1)", "string"),
        ("request.path.startsWith()", "startsWith"),
        ("request.path.lowerAscii()", "lowerAscii"),
        ("size(1, 2)", "size"),
    ] {
        assert_eq!(refused(text), missing(f));
    }
    let of = |why: &str| format!("failed to create an expression: {why}");
    assert_eq!(refused("request.headers.exists(x, x == 'a')"), of("Comprehension support is disabled"));
    assert_eq!(refused("request.path.matches('[')"), of("invalid regular expression: missing ]: ["));
    assert_eq!(refused("Foo{a: 1}"), of("Invalid struct creation: missing type info for 'Foo'"));
    let parse = |at: &str| format!("Not able to parse expression: INVALID_ARGUMENT: ERROR: <input>:{at}");
    assert!(
        refused("1 +").starts_with(&parse("1:4: Syntax error: mismatched input '<EOF>'")),
        "{}",
        refused("1 +")
    );
    assert!(refused("").starts_with(&parse("1:1: Syntax error: mismatched input '<EOF>'")));
    assert_eq!(refused("has(request)"), parse("1:5: has() argument must be a field selection"));
    assert_eq!(refused("xds.node.id"), "not implemented yet: CEL attribute xds.node");
}

#[test]
fn what_is_nested_too_deep_or_too_long_is_refused() {
    for deep in [
        "(".repeat(10_000),
        "!".repeat(10_000),
        "[".repeat(10_000),
        format!("a{}", ".b".repeat(10_000)),
        format!("1{}", " + 1".repeat(10_000)),
        format!("1{}", " ? 1 : 1".repeat(10_000)),
        "a".repeat(200_000),
    ] {
        let refused = Program::parse(&deep, Options::default()).map(|_| ()).unwrap_err();
        assert!(refused.0.contains("exceed"), "{refused}");
    }
    // Chains of && and || may be long.
    let long = vec!["request.method == 'PUT'"; 2000].join(" || ");
    assert_eq!(value(&long), "false");
}

#[test]
fn no_text_makes_it_panic() {
    let seeds = [
        "request.headers['x-a'].startsWith('1') && [1, 2u, 3.5e2][0] in {'a': b'\\x00'} || !has(a.b.c)",
        "'''a''' == r\"\\d\" ? -1 : duration('1h') // comment",
    ];
    for seed in seeds {
        for cut in 0..seed.len() {
            for with in ["", "'", "(", ")", ".", "\\", "\n", "ä", "0x", "u"] {
                let text = format!("{}{with}{}", &seed[..cut], &seed[cut..]);
                if let Ok(p) = Program::parse(&text, Options::default()) {
                    with_value(&p);
                }
                let _ = Program::parse(&format!("{}{with}", &seed[..cut]), Options::default());
            }
        }
    }
}

fn with_value(p: &Program) {
    with(|cx| {
        if let Ok(v) = p.eval(cx) {
            let _ = (v.print().len(), v.proto());
        }
    });
}

#[test]
fn typed_values() {
    let typed = |text: &str| {
        let p = Program::parse(text, Options::default()).expect("an expression");
        with(|cx| p.eval(cx).ok().and_then(|v: Value<'_>| v.proto()).and_then(|v| v.kind))
    };
    assert_eq!(typed("1"), Some(Kind::NumberValue(1.0)));
    assert_eq!(typed("9007199254740993"), Some(Kind::NumberValue(9007199254740992.0)));
    assert_eq!(typed("b'ab'"), Some(Kind::StringValue("YWI=".into())));
    assert_eq!(typed("duration('1500ms')"), Some(Kind::StringValue("1.500s".into())));
    assert_eq!(
        typed("timestamp('2024-02-29T00:00:00Z')"),
        Some(Kind::StringValue("2024-02-29T00:00:00Z".into()))
    );
    assert_eq!(typed("null"), Some(Kind::NullValue(0)));
    assert!(matches!(typed("[1, 'a']"), Some(Kind::ListValue(l)) if l.values.len() == 2));
    assert!(matches!(typed("{'a': true}"), Some(Kind::StructValue(s)) if s.fields.len() == 1));
    assert_eq!(typed("request"), None);
}
