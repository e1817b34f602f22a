use crate::testing::filters;
use nuncio_testkit::FilterTest;

const ODCDS: &str = "{'@type': type.googleapis.com/envoy.extensions.filters.http.on_demand.v3.OnDemand, \
                     odcds: {source: {ads: {}, resource_api_version: V3}}}";
/// Counts how often it sees a request.
const COUNTER: &str = "{name: h, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation, \
                       mutations: {request_mutations: [{append: {header: {key: x-seen, value: 'yes'}}}]}}}";

fn test(config: &str, route: &str) -> FilterTest {
    filters(&format!("- {COUNTER}\n- {{name: o, typed_config: {config}}}"))
        .clusters_to_find(&["there"])
        .route_config(&format!(
            "virtual_hosts: [{{name: v, domains: ['*'], {route} routes: [
               {{match: {{prefix: /there}}, route: {{cluster: there}}}}, {{match: {{prefix: /no}}, route: {{cluster: nowhere}}}},
               {{match: {{prefix: /redirect}}, redirect: {{}}}}]}}]"
        ))
}

/// How often the filter before saw the request on its way to the upstream.
fn times(t: &FilterTest, line: &str) -> usize {
    t.request(line).send().upstream().headers.get_all("x-seen").count()
}

#[test]
fn a_cluster_is_found_once() {
    let t = test(ODCDS, "");
    assert_eq!((times(&t, "GET /there"), t.found()), (1, vec!["there".to_owned()]));
    // Now it is there.
    assert_eq!((times(&t, "GET /there"), t.found().len()), (1, 1));
}

#[test]
fn others_go_on() {
    let t = test(ODCDS, "");
    // A cluster that cannot be found, a route that needs none, and no route at all.
    for path in ["GET /no", "GET /redirect", "GET /x"] {
        assert_eq!(times(&t, path), 1, "{path}");
    }
    assert!(t.found().is_empty());
}

#[test]
fn a_route_takes_another_source_or_none() {
    const ROUTE: &str =
        "{'@type': type.googleapis.com/envoy.extensions.filters.http.on_demand.v3.PerRouteConfig}";
    let t = test(ODCDS, &format!("typed_per_filter_config: {{o: {ROUTE}}},"));
    assert_eq!((times(&t, "GET /there"), t.found().len()), (1, 0));
    let none = ODCDS.replace(", odcds: {source: {ads: {}, resource_api_version: V3}}", "");
    let t = test(&none, "");
    assert_eq!((times(&t, "GET /there"), t.found().len()), (1, 0));
    let with = ROUTE.replace('}', ", odcds: {source: {ads: {}, resource_api_version: V3}}}");
    let t = test(&none, &format!("typed_per_filter_config: {{o: {with}}},"));
    assert_eq!((times(&t, "GET /there"), t.found().len()), (1, 1));
}

#[test]
fn refusals() {
    let t = test(&ODCDS.replace("{source: {ads: {}, resource_api_version: V3}}", "{}"), "");
    assert_eq!(t.refusal(), "not implemented yet: OnDemandCds without source: xdstp names");
    let t = test(&ODCDS.replace("odcds: {", "odcds: {resources_locator: 'xdstp://x/y', "), "");
    assert_eq!(t.refusal(), "not implemented yet: OnDemandCds.resources_locator");
}
