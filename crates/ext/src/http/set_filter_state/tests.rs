use crate::testing::filters;
use nuncio_testkit::FilterTest;
use nuncio_testkit::filter_test::Seen;

const TYPE: &str = "'@type': type.googleapis.com/envoy.extensions.filters.http.set_filter_state.v3.Config";

fn value(key: &str, format: &str, more: &str) -> String {
    format!(
        "{{object_key: {key}, factory_key: envoy.string, format_string: {{text_format_source: {{inline_string: '{format}'}}, omit_empty_values: true}}, {more}}}"
    )
}

fn test(values: &[String]) -> FilterTest {
    filters(&format!("- {{name: s, typed_config: {{{TYPE}, on_request_headers: [{}]}}}}", values.join(", ")))
}

fn text(seen: &Seen, key: &str) -> Option<String> {
    seen.sx.info.filter_state.borrow().get(key)?.text()
}

#[test]
fn formats_and_empty_ones() {
    let t = test(&[
        value("a", "%REQ(:path)%!", ""),
        value("b", "%REQ(x-none)%", "skip_if_empty: true"),
        value("c", "%REQ(x-none)%", ""),
    ]);
    let seen = t.request("GET /p").send();
    assert_eq!(text(&seen, "a").as_deref(), Some("/p!"));
    assert_eq!((text(&seen, "b"), text(&seen, "c").as_deref()), (None, Some("")));
}

#[test]
fn levels_and_read_only_objects() {
    let level = |v: &str| {
        let values = [value("a", v, ""), value("b", v, "read_only: true")].join(", ");
        format!("typed_per_filter_config: {{s: {{{TYPE}, on_request_headers: [{values}]}}}}")
    };
    let t = test(&[value("a", "filter", "")]).route_config(&format!(
        "virtual_hosts: [{{name: v, domains: ['*'], {}, routes: [{{match: {{prefix: /}}, route: {{cluster: c}}, {}}}]}}]",
        level("host"),
        level("route")
    ));
    let seen = t.request("GET /").send();
    assert_eq!((text(&seen, "a").as_deref(), text(&seen, "b").as_deref()), (Some("route"), Some("host")));
}

#[test]
fn refusals() {
    let refusal = |key: &str| {
        let v = format!("{{object_key: {key}, format_string: {{text_format_source: {{inline_string: a}}}}}}");
        test(&[v]).refusal()
    };
    assert_eq!(refusal("my.key"), "'my.key' does not have an object factory");
    let known = "envoy.network.upstream_server_name";
    assert_eq!(refusal(known), format!("not implemented yet: filter state object {known}"));
    assert_eq!(
        test(&[value("a", "b", "shared_with_upstream: ONCE")]).refusal(),
        "not implemented yet: FilterStateValue.shared_with_upstream"
    );
}
