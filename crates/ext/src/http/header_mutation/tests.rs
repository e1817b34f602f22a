//! Most values were measured on Envoy 1.40.

use crate::testing::filters;
use nuncio_testkit::FilterTest;
use nuncio_testkit::filter_test::Reply;

const TYPE: &str = "'@type': type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3";

fn test(mutations: &str) -> FilterTest {
    filters(&format!("- {{name: hm, typed_config: {{{TYPE}.HeaderMutation, mutations: {{{mutations}}}}}}}"))
}

fn append(name: &str, value: &str, action: &str) -> String {
    format!("append: {{header: {{key: {name}, value: '{value}'}}, append_action: {action}}}")
}

#[test]
fn the_four_actions() {
    let names = ["a", "b"];
    let actions =
        ["APPEND_IF_EXISTS_OR_ADD", "ADD_IF_ABSENT", "OVERWRITE_IF_EXISTS_OR_ADD", "OVERWRITE_IF_EXISTS"];
    let seen: Vec<_> = actions
        .iter()
        .map(|action| {
            let list: Vec<_> = names.iter().map(|n| format!("{{{}}}", append(n, "new", action))).collect();
            let t = test(&format!("request_mutations: [{}]", list.join(", ")));
            let seen = t.request("GET /").header("a", "1").header("a", "2").send();
            names.map(|n| seen.upstream().header(n).unwrap_or_default())
        })
        .collect();
    assert_eq!(seen, [["1,2,new", "new"], ["1,2", "new"], ["new", "new"], ["new", ""]]);
}

#[test]
fn what_is_overwritten_moves_to_the_end() {
    let t = test(&format!("request_mutations: [{{{}}}]", append("a", "new", "OVERWRITE_IF_EXISTS")));
    let seen = t.request("GET /").header("a", "1").header("b", "2").send();
    let names: Vec<_> = seen.upstream().headers.iter().skip(4).map(|h| h.name).collect();
    assert_eq!(names, [b"b", b"a"]);
}

#[test]
fn the_deprecated_append_flag() {
    let t = |flag: bool| {
        let header = format!("{{append: {{header: {{key: a, value: new}}, append: {flag}}}}}");
        test(&format!("request_mutations: [{header}]")).request("GET /").header("a", "1").send()
    };
    assert_eq!(t(true).upstream().header("a").as_deref(), Some("1,new"));
    assert_eq!(t(false).upstream().header("a").as_deref(), Some("new"));
}

#[test]
fn headers_that_are_kept_as_one_are_joined() {
    let list =
        ["accept", "cookie", "x"].map(|n| format!("{{{}}}", append(n, "n", "APPEND_IF_EXISTS_OR_ADD")));
    let t = test(&format!("request_mutations: [{}]", list.join(", ")));
    let seen = t.request("GET /").header("accept", "q").header("cookie", "a=b").header("x", "1").send();
    let lines: Vec<_> = seen.upstream().headers.iter().skip(4).map(|h| (h.name, h.value)).collect();
    let want: [(&[u8], &[u8]); 5] =
        [(b"accept", b"q,n"), (b"cookie", b"a=b"), (b"x", b"1"), (b"cookie", b"n"), (b"x", b"n")];
    assert_eq!(lines, want);
}

#[test]
fn formats_and_empty_values() {
    let t = test(
        "request_mutations: [
          {append: {header: {key: x-m, value: '%REQ(:METHOD)% %REQ(x-len)%!'}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}},
          {append: {header: {key: x-len, value: '%REQ(x-len)%!'}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}},
          {append: {header: {key: x-none, value: '%REQ(nothing)%'}}},
          {append: {header: {key: x-raw, raw_value: YQ==}}},
          {append: {header: {key: x-empty}, keep_empty_value: true}}]",
    );
    let seen = t.request("GET /").header("x-len", "ab").send();
    let up = seen.upstream();
    assert_eq!(up.header("x-m").as_deref(), Some("GET ab!"));
    assert_eq!(up.header("x-len").as_deref(), Some("ab!"));
    assert_eq!((up.header("x-none"), up.header("x-raw")), (None, None));
    assert_eq!(up.header("x-empty").as_deref(), Some(""));
}

#[test]
fn removal_by_name_and_by_matcher() {
    let t = test(
        "request_mutations: [{remove: X-Gone}, {remove_on_match: {key_matcher: {prefix: y-rm}}},
          {remove_on_match: {key_matcher: {prefix: X-Case}}}]",
    );
    let seen = t
        .request("GET /")
        .header("x-gone", "1")
        .header("x-gone", "2")
        .header("y-rm-1", "1")
        .header("y-rm-2", "1")
        .header("x-case", "1")
        .send();
    let names: Vec<_> = seen.upstream().headers.iter().skip(4).map(|h| h.name).collect();
    assert_eq!(names, [b"x-case"]);
}

#[test]
fn host_is_the_authority() {
    let seen = test("request_mutations: [{remove: host}]").request("GET /").send();
    assert_eq!(seen.upstream().header(":authority"), None);
}

#[test]
fn responses() {
    let t = test(
        "response_mutations: [{remove: x-up}, {append: {header: {key: server, value: s}}},
          {append: {header: {key: x-s, value: '%RESPONSE_CODE% %RESP(server)% %REQ(:path)%'}}}]",
    );
    t.replies(Reply::new(201).header("x-up", "1").header("server", "up"));
    let seen = t.request("GET /p").send();
    assert_eq!((seen.header("x-up"), seen.header("server").as_deref()), (None, Some("up,s")));
    assert_eq!(seen.header("x-s").as_deref(), Some("201 up,s /p"));
}

#[test]
fn local_replies_are_changed_too() {
    let hc = "- name: hc\n  typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.health_check.v3.HealthCheck, pass_through_mode: false}\n";
    let hm = format!(
        "- {{name: hm, typed_config: {{{TYPE}.HeaderMutation, mutations: {{response_mutations: [{{append: {{header: {{key: x, value: '%RESPONSE_CODE%'}}}}}}]}}}}}}"
    );
    // Before and behind the filter that replies: the response passes all.
    for yaml in [format!("{hc}{hm}"), format!("{hm}\n{hc}")] {
        let seen = filters(&yaml).request("GET /").send();
        assert_eq!((seen.header("x").as_deref(), &*seen.details), (Some("200"), "health_check_ok"));
    }
}

#[test]
fn trailers_of_both_directions() {
    let t = test(
        "request_trailers_mutations: [{append: {header: {key: x-rt, value: '%REQ(:path)%'}}}, {remove: q}],
         response_trailers_mutations: [{append: {header: {key: x-t, value: '%TRAILER(a)% %RESP(r)% %REQ(:path)%'}}}]",
    );
    t.replies(Reply::new(200).header("r", "h").body("hi").trailer("a", "b"));
    let seen = t.request("POST /t").body("hi").trailer("q", "r").send();
    assert_eq!(seen.upstream().trailer("x-rt").as_deref(), Some("/t"));
    assert_eq!((seen.upstream().trailer("q"), &*seen.upstream().body), (None, "hi"));
    assert_eq!((seen.trailer("x-t").as_deref(), &*seen.body), (Some("b h /t"), "hi"));
    // Where there are none, none are made.
    t.replies(Reply::new(200).body("hi"));
    let seen = t.request("POST /t").body("hi").send();
    assert_eq!((seen.trailers, seen.upstream.unwrap().trailers), (None, None));
}

#[test]
fn query_parameters() {
    let path = |mutations: &str, path: &str| {
        let t = test(&format!("query_parameter_mutations: [{mutations}]"));
        t.request(&format!("GET {path}")).header("x-q", "a b&c=%41~*._-").send().upstream().path()
    };
    let rec = |action: &str| format!("{{append: {{record: {{key: k, value: v}}, action: {action}}}}}");
    assert_eq!(path("{remove: gone}", "/p?z=1&gone=2&a=1&gone=3"), "/p?a=1&z=1");
    assert_eq!(path("{remove: gone}", "/p?gone=1"), "/p");
    assert_eq!(path(&rec("APPEND_IF_EXISTS_OR_ADD"), "/p?k=1"), "/p?k=1&k=v");
    assert_eq!(path(&rec("ADD_IF_ABSENT"), "/p?k=1"), "/p?k=1");
    assert_eq!(path(&rec("ADD_IF_ABSENT"), "/p"), "/p?k=v");
    assert_eq!(path(&rec("OVERWRITE_IF_EXISTS_OR_ADD"), "/p?k=1&k=2"), "/p?k=v");
    assert_eq!(path(&rec("OVERWRITE_IF_EXISTS"), "/p?j"), "/p?j=");
    assert_eq!(
        path("{append: {record: {key: new, value: '%REQ(x-q)%'}}}", "/p?z=1&a=b%26c&a=%23%25&q=%41&k&=v&&"),
        "/p?=v&=&a=b&c&a=#%&k=&new=a%20b%26c%3D%2541%7E*._-&q=A&z=1"
    );
}

#[test]
fn a_path_that_cannot_be_sent_is_answered() {
    let t = test("query_parameter_mutations: [{remove: x}]");
    let seen = t.request("GET /p?a=%0d%0aX:y").send();
    assert_eq!((seen.status, &*seen.body), (503, "invalid header value for: :path"));
    assert_eq!(seen.details, "filter_removed_required_request_headers{invalid_header_value_for:_:path}");
}

fn levels(wins: bool) -> FilterTest {
    let level = |v: &str| {
        format!(
            "typed_per_filter_config: {{hm: {{{TYPE}.HeaderMutationPerRoute, mutations: {{
              request_mutations: [{{append: {{header: {{key: x, value: {v}}}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}}}}, {{append: {{header: {{key: w, value: {v}}}}}}}],
              response_mutations: [{{append: {{header: {{key: z, value: {v}}}}}}}]}}}}}}"
        )
    };
    filters(&format!(
        "- {{name: hm, typed_config: {{{TYPE}.HeaderMutation, most_specific_header_mutations_wins: {wins},
            mutations: {{request_mutations: [{{append: {{header: {{key: w, value: filter}}}}}}]}}}}}}"
    ))
    .route_config(&format!(
        "{{{}, virtual_hosts: [{{name: v, domains: ['*'], {}, routes: [{{match: {{prefix: /}}, route: {{cluster: c}}, {}}}]}}]}}",
        level("table"),
        level("host"),
        level("route")
    ))
}

#[test]
fn the_least_specific_level_runs_last() {
    let seen = levels(false).request("GET /").send();
    assert_eq!(seen.upstream().header("x").as_deref(), Some("table"));
    assert_eq!(seen.upstream().header("w").as_deref(), Some("filter,route,host,table"));
    assert_eq!(seen.header("z").as_deref(), Some("route,host,table"));
}

#[test]
fn or_the_most_specific_one() {
    let seen = levels(true).request("GET /").send();
    assert_eq!(seen.upstream().header("x").as_deref(), Some("route"));
    assert_eq!(seen.upstream().header("w").as_deref(), Some("filter,table,host,route"));
    assert_eq!(seen.header("z").as_deref(), Some("table,host,route"));
}

#[test]
fn the_request_as_it_came_chooses_the_route() {
    let t = test("query_parameter_mutations: [{append: {record: {key: a, value: b}}}]")
        .route_config("virtual_hosts: [{name: v, domains: ['*'], routes: [{name: r, match: {prefix: /p}, route: {cluster: c}}]}]");
    let seen = t.request("GET /p").send();
    assert_eq!(seen.sx.current_route().map(|r| r.name().to_owned()).as_deref(), Some("r"));
}

#[test]
fn refusals() {
    let refusal = |m: &str| test(m).refusal();
    let set =
        |n: &str| refusal(&format!("request_mutations: [{{append: {{header: {{key: '{n}', value: a}}}}}}]"));
    assert_eq!(set(":path"), ":-prefixed or host headers may not be modified");
    assert_eq!(set("Host"), ":-prefixed or host headers may not be modified");
    assert_eq!(
        refusal("response_mutations: [{append: {header: {key: a, value: '%FOO%'}}}]"),
        "Not supported field in StreamInfo: FOO"
    );
    assert_eq!(
        refusal(
            "request_mutations: [{append: {header: {key: a}, append: false, append_action: ADD_IF_ABSENT}}]"
        ),
        "Both append and append_action are set and it's not allowed"
    );
    let query = |m: &str| refusal(&format!("query_parameter_mutations: [{m}]"));
    assert_eq!(query("{}"), "One of 'append'/'remove' must be specified.");
    assert_eq!(
        query("{append: {record: {key: a, value: b}}, remove: c}"),
        "Only one of 'append'/'remove can be specified."
    );
    assert_eq!(query("{append: {}}"), "No record specified for append mutation.");
    assert_eq!(
        query("{append: {record: {key: a, value: 1}}}"),
        "Only string value is allowed for record value."
    );
}
