use crate::testing::filters;
use nuncio_testkit::FilterTest;
use nuncio_testkit::filter_test::Seen;
use prost_types::value::Kind;

const TYPE: &str = "'@type': type.googleapis.com/envoy.extensions.filters.http.set_metadata.v3.Config";

fn test(config: &str) -> FilterTest {
    filters(&format!("- {{name: s, typed_config: {{{TYPE}, {config}}}}}"))
}

fn value(seen: &Seen, path: &[&str]) -> Option<Kind> {
    let m = seen.sx.info.metadata.borrow();
    m.as_ref()?.get("nn", path.iter().copied())?.kind.clone()
}

fn text(s: &str) -> Option<Kind> {
    Some(Kind::StringValue(s.into()))
}

#[test]
fn the_first_stays() {
    let t = test(
        "metadata: [{metadata_namespace: nn, value: {a: x}}, {metadata_namespace: nn, value: {a: y, b: z}}, {metadata_namespace: o}]",
    );
    let seen = t.request("GET /").send();
    assert_eq!((value(&seen, &["a"]), value(&seen, &["b"])), (text("x"), None));
    assert_eq!(t.stat("http.test.set_metadata.overwrite_denied"), 1);
}

#[test]
fn values_are_merged() {
    let t = test(
        "metadata_namespace: nn, value: {a: x, l: [1], s: {k: v, t: old}, m: {a: b}},
         metadata: [{metadata_namespace: nn, allow_overwrite: true, value: {a: yy, l: [2], s: {t: new}, m: text}}]",
    );
    let seen = t.request("GET /").send();
    assert_eq!((value(&seen, &["a"]), value(&seen, &["m"])), (text("yy"), text("text")));
    assert_eq!((value(&seen, &["s", "k"]), value(&seen, &["s", "t"])), (text("v"), text("new")));
    let Some(Kind::ListValue(l)) = value(&seen, &["l"]) else { panic!("no list") };
    assert_eq!(l.values.len(), 2);
    assert_eq!(t.stat("http.test.set_metadata.overwrite_denied"), 0);
}

#[test]
fn refusals() {
    let any = "typed_value: {'@type': type.googleapis.com/google.protobuf.Empty}";
    assert_eq!(
        test(&format!("metadata: [{{metadata_namespace: nn, {any}}}]")).refusal(),
        "not implemented yet: Metadata.typed_value"
    );
    let t = test("metadata: []").route_config(&format!("typed_per_filter_config: {{s: {{{TYPE}}}}}"));
    assert_eq!(t.refusal(), "The filter s doesn't support virtual host or route specific configurations");
}
