use crate::testing::filters;

#[test]
fn a_filter_is_skipped() {
    let t = filters(include_str!("example.yaml"));
    assert_eq!(t.request("POST /").body("too much").send().status, 413);
    assert_eq!(t.request("POST /").header("x-large", "1").body("too much").send().status, 200);
    assert_eq!(t.request("POST /").header("x-large", "2").body("too much").send().status, 413);
}

#[test]
fn a_tree_over_the_response_decides_late() {
    let yaml = "- name: envoy.filters.http.match_delegate
  typed_config:
    '@type': type.googleapis.com/envoy.extensions.common.matching.v3.ExtensionWithMatcher
    extension_config:
      name: m
      typed_config:
        '@type': type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation
        mutations:
          request_mutations: [{append: {header: {key: x-q, value: '1'}}}]
          response_mutations: [{append: {header: {key: x-r, value: '1'}}}]
    xds_matcher:
      matcher_tree:
        input: {name: s, typed_config: {'@type': type.googleapis.com/envoy.type.matcher.v3.HttpResponseStatusCodeClassMatchInput}}
        exact_match_map:
          map:
            WANTED: {action: {name: skip, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.common.matcher.action.v3.SkipFilter}}}
";
    for (class, mutated) in [("2xx", None), ("5xx", Some("1"))] {
        let seen = filters(&yaml.replace("WANTED", class)).request("GET /").send();
        assert_eq!(seen.upstream().header("x-q").as_deref(), Some("1"), "{class}");
        assert_eq!(seen.header("x-r").as_deref(), mutated, "{class}");
    }
}
