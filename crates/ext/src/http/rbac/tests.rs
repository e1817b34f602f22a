//! Values were measured on Envoy 1.40.

use crate::testing::filters;
use nuncio_testkit::FilterTest;
use nuncio_testkit::filter_test::Seen;
use prost_types::value::Kind;

const TYPE: &str = "'@type': type.googleapis.com/envoy.extensions.filters.http.rbac.v3";

fn test(config: &str) -> FilterTest {
    filters(&format!("- {{name: r, typed_config: {{{TYPE}.RBAC, {config}}}}}"))
}

fn policy(permission: &str, principal: &str) -> String {
    format!("{{permissions: [{{{permission}}}], principals: [{{{principal}}}]}}")
}

fn rules(action: &str, permission: &str, principal: &str) -> String {
    format!("{{action: {action}, policies: {{'my policy': {}}}}}", policy(permission, principal))
}

fn stats(t: &FilterTest) -> [u64; 4] {
    ["allowed", "denied", "shadow_allowed", "shadow_denied"].map(|n| t.stat(&format!("http.test.rbac.{n}")))
}

fn metadata(seen: &Seen, namespace: &str, key: &str) -> Option<Kind> {
    seen.sx.info.metadata.borrow().as_ref()?.get(namespace, [key])?.kind.clone()
}

const ANY: &str = "any: true";

#[test]
fn actions() {
    let b = "header: {name: x, string_match: {exact: b}}";
    let send = |action: &str, x: &str| {
        let t = test(&format!("rules: {}", rules(action, b, ANY)));
        let seen = t.request("GET /").header("x", x).send();
        (seen.status, seen.details, stats(&t))
    };
    let denied = |policy: &str| format!("rbac_access_denied_matched_policy[{policy}]");
    assert_eq!(send("ALLOW", "b"), (200, "via_upstream".into(), [1, 0, 0, 0]));
    assert_eq!(send("ALLOW", "a"), (403, denied("none"), [0, 1, 0, 0]));
    assert_eq!(send("DENY", "b"), (403, denied("my_policy"), [0, 1, 0, 0]));
    assert_eq!(send("DENY", "a"), (200, "via_upstream".into(), [1, 0, 0, 0]));
    assert_eq!(send("LOG", "a"), (200, "via_upstream".into(), [1, 0, 0, 0]));
    let seen = test(&format!("rules: {}", rules("DENY", ANY, ANY))).request("GET /").send();
    assert_eq!((&*seen.body, &*seen.flags, seen.upstream.is_none()), ("RBAC: access denied", "-", true));
    assert_eq!(test("rules: {}").request("GET /").send().status, 403);
    assert_eq!(test("").request("GET /").send().status, 200);
}

#[test]
fn results_are_metadata() {
    let t = test(&format!(
        "rules: {}, shadow_rules: {}, shadow_rules_stat_prefix: sh_, track_per_rule_stats: true",
        rules("LOG", ANY, ANY),
        rules("DENY", ANY, ANY)
    ));
    let seen = t.request("GET /").send();
    let own = |key: &str| metadata(&seen, "envoy.filters.http.rbac", key);
    let text = |s: &str| Some(Kind::StringValue(s.into()));
    assert_eq!(
        (own("enforced_engine_result"), own("sh_shadow_engine_result")),
        (text("allowed"), text("denied"))
    );
    assert_eq!(own("enforced_effective_policy_id"), text("my policy"));
    assert_eq!(own("sh_shadow_effective_policy_id"), text("my policy"));
    assert_eq!(metadata(&seen, "envoy.common", "access_log_hint"), Some(Kind::BoolValue(true)));
    assert_eq!((t.stat("http.test.rbac.allowed"), t.stat("http.test.rbac.sh_.shadow_denied")), (1, 1));
    assert_eq!(t.stat("http.test.rbac.policy.my policy.allowed"), 1);
    assert_eq!(t.stat("http.test.rbac.sh_.policy.my policy.shadow_denied"), 1);
}

#[test]
fn permissions() {
    let holds = |p: &str| {
        let t = test(&format!("rules: {}", rules("ALLOW", p, ANY)));
        t.request("GET /admin/x?q").header("x", "a").header("x", "b").send().status == 200
    };
    for (yes, no) in [
        ("url_path: {path: {exact: /admin/x}}", "url_path: {path: {prefix: /other}}"),
        ("destination_port: 80", "destination_port: 81"),
        ("destination_port_range: {start: 80, end: 81}", "destination_port_range: {start: 70, end: 80}"),
        (
            "destination_ip: {address_prefix: 127.0.0.0, prefix_len: 8}",
            "destination_ip: {address_prefix: 10.0.0.0, prefix_len: 8}",
        ),
        ("not_rule: {destination_port: 81}", "not_rule: {any: true}"),
        (
            "and_rules: {rules: [{any: true}, {destination_port: 80}]}",
            "and_rules: {rules: [{any: true}, {destination_port: 8}]}",
        ),
        (
            "or_rules: {rules: [{destination_port: 8}, {any: true}]}",
            "or_rules: {rules: [{destination_port: 8}]}",
        ),
        // Each value of a repeated header counts by itself.
        ("header: {name: x, string_match: {exact: b}}", "header: {name: x, string_match: {exact: c}}"),
        ("requested_server_name: {exact: ''}", "requested_server_name: {exact: a}"),
        (
            "metadata: {filter: f, path: [{key: k}], value: {present_match: true}, invert: true}",
            "metadata: {filter: f, path: [{key: k}], value: {present_match: true}}",
        ),
    ] {
        assert!(holds(yes), "{yes}");
        assert!(!holds(no), "{no}");
    }
}

#[test]
fn principals() {
    let holds = |p: &str| {
        let t = test(&format!("rules: {}", rules("ALLOW", ANY, p))).route_config(
            "virtual_hosts: [{name: v, domains: ['*'], routes: [{match: {prefix: /}, route: {cluster: c}, metadata: {filter_metadata: {f: {k: v}}}}]}]",
        );
        t.request("GET /p").header("x", "a").send().status == 200
    };
    let range = |field: &str, ip: &str| format!("{field}: {{address_prefix: {ip}, prefix_len: 32}}");
    for field in ["source_ip", "direct_remote_ip", "remote_ip"] {
        assert!(holds(&range(field, "127.0.0.1")) && !holds(&range(field, "127.0.0.2")), "{field}");
    }
    for (yes, no) in [
        ("url_path: {path: {exact: /p}}", "url_path: {path: {exact: /q}}"),
        ("header: {name: x, present_match: true}", "header: {name: yy, present_match: true}"),
        ("not_id: {header: {name: yy}}", "not_id: {any: true}"),
        ("and_ids: {ids: [{any: true}]}", "and_ids: {ids: [{any: true}, {header: {name: yy}}]}"),
        ("or_ids: {ids: [{header: {name: yy}}, {any: true}]}", "or_ids: {ids: [{header: {name: yy}}]}"),
        ("not_id: {authenticated: {}}", "authenticated: {}"),
        (
            "sourced_metadata: {metadata_matcher: {filter: f, path: [{key: k}], value: {string_match: {exact: v}}}, metadata_source: ROUTE}",
            "sourced_metadata: {metadata_matcher: {filter: f, path: [{key: k}], value: {string_match: {exact: v}}}}",
        ),
        (
            "not_id: {filter_state: {key: k, string_match: {exact: v}}}",
            "filter_state: {key: k, string_match: {exact: v}}",
        ),
    ] {
        assert!(holds(yes), "{yes}");
        assert!(!holds(no), "{no}");
    }
}

#[test]
fn objects_of_the_filter_state() {
    let state = "- {name: s, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.set_filter_state.v3.Config, on_request_headers: [{object_key: k, factory_key: envoy.string, format_string: {text_format_source: {inline_string: '%REQ(x)%'}}}]}}";
    let config = rules("ALLOW", ANY, "filter_state: {key: k, string_match: {exact: v}}");
    let t = filters(&format!("{state}\n- {{name: r, typed_config: {{{TYPE}.RBAC, rules: {config}}}}}"));
    let status = |x: &str| t.request("GET /").header("x", x).send().status;
    assert_eq!((status("v"), status("w")), (200, 403));
}

#[test]
fn routes() {
    let level = |c: &str| format!("typed_per_filter_config: {{r: {{{TYPE}.RBACPerRoute, {c}}}}}");
    let t = test(&format!("rules: {}", rules("DENY", ANY, ANY))).route_config(&format!(
        "virtual_hosts: [{{name: v, domains: ['*'], routes: [
           {{match: {{prefix: /open}}, route: {{cluster: c}}, {}}},
           {{match: {{prefix: /a}}, route: {{cluster: c}}, {}}},
           {{match: {{prefix: /}}, route: {{cluster: c}}}}]}}]",
        level(""),
        level(&format!("rbac: {{rules: {}}}", rules("ALLOW", "header: {name: x}", ANY)))
    ));
    let status = |p: &str| t.request(p).send().status;
    assert_eq!((status("GET /open"), status("GET /a"), status("GET /b")), (200, 403, 403));
    assert_eq!(t.request("GET /a").header("x", "1").send().status, 200);
    assert_eq!(stats(&t), [1, 2, 0, 0]);
}

#[test]
fn the_policy_with_the_first_name_is_named() {
    let policies = ["b", "a", "c"].map(|n| format!("{n}: {}", policy(ANY, ANY))).join(", ");
    let seen = test(&format!("rules: {{action: DENY, policies: {{{policies}}}}}")).request("GET /").send();
    assert_eq!(seen.details, "rbac_access_denied_matched_policy[a]");
}

/// A leaf of a tree.
fn act(name: &str, action: &str) -> String {
    format!(
        "{{action: {{name: action, typed_config: {{'@type': type.googleapis.com/envoy.config.rbac.v3.Action, name: {name}, action: {action}}}}}}}"
    )
}

fn input(message: &str) -> String {
    let package = if message.starts_with("Http") {
        "type.matcher.v3"
    } else {
        "extensions.matching.common_inputs.network.v3"
    };
    format!("{{name: i, typed_config: {{'@type': type.googleapis.com/envoy.{package}.{message}}}}}")
}

fn header(name: &str, value: &str) -> String {
    let i = input(&format!("HttpRequestHeaderMatchInput, header_name: {name}"));
    format!("{{single_predicate: {{input: {i}, value_match: {{{value}}}}}}}")
}

#[test]
fn lists_of_conditions() {
    let field = |predicate: &str, on_match: &str| format!("{{predicate: {predicate}, on_match: {on_match}}}");
    let both = format!(
        "{{and_matcher: {{predicate: [{}, {}]}}}}",
        header("x", "prefix: a"),
        header("z", "exact: b")
    );
    let either = format!(
        "{{or_matcher: {{predicate: [{}, {}]}}}}",
        header("x", "exact: c"),
        header("z", "safe_regex: {google_re2: {}, regex: 'd+'}")
    );
    let no = format!("{{not_matcher: {}}}", header("w", "contains: e"));
    let kept = format!("{{keep_matching: true, {}", &act("kept", "DENY")[1..]);
    let list = [
        field(&header("x", "prefix: a"), &kept),
        field(&both, &act("both", "DENY")),
        field(&either, &act("either", "ALLOW")),
        field(&no, &act("'no w'", "DENY")),
    ];
    let t = test(&format!(
        "matcher: {{matcher_list: {{matchers: [{}]}}, on_no_match: {}}}, track_per_rule_stats: true",
        list.join(", "),
        act("rest", "LOG")
    ));
    let send = |headers: [(&str, &str); 3]| {
        let seen = headers.iter().fold(t.request("GET /"), |r, (n, v)| r.header(n, v)).send();
        let hint = metadata(&seen, "envoy.common", "access_log_hint");
        (seen.status, seen.details.trim_start_matches("rbac_access_denied_matched_policy").to_owned(), hint)
    };
    let log = |l| Some(Kind::BoolValue(l));
    assert_eq!(send([("x", "ab"), ("z", "b"), ("w", "e")]), (403, "[both]".into(), log(false)));
    assert_eq!(send([("x", "c"), ("z", ""), ("w", "e")]), (200, "via_upstream".into(), log(false)));
    assert_eq!(send([("x", "n"), ("z", "dd"), ("w", "e")]).0, 200);
    assert_eq!(send([("x", "n"), ("z", "n"), ("w", "n")]), (403, "[no_w]".into(), log(false)));
    assert_eq!(send([("x", "a"), ("z", "n"), ("w", "fez")]), (200, "via_upstream".into(), log(true)));
    assert_eq!(
        (t.stat("http.test.rbac.policy.rest.allowed"), t.stat("http.test.rbac.policy.both.denied")),
        (1, 1)
    );
}

#[test]
fn trees() {
    let x = input("HttpRequestHeaderMatchInput, header_name: x");
    let status = |matcher: &str, value: &str| {
        test(&format!("matcher: {{{matcher}}}")).request("GET /").header("x", value).send().status
    };
    let exact = format!(
        "matcher_tree: {{input: {x}, exact_match_map: {{map: {{a: {}, b: {}}}}}}}",
        act("a", "ALLOW"),
        act("b", "DENY")
    );
    assert_eq!(["a", "b", "c"].map(|v| status(&exact, v)), [200, 403, 403]);
    let inner = format!(
        "{{matcher: {{matcher_tree: {{input: {x}, exact_match_map: {{map: {{/a/b: {}}}}}}}}}}}",
        act("in", "DENY")
    );
    let prefix = format!(
        "matcher_tree: {{input: {x}, prefix_match_map: {{map: {{/a: {}, /a/b: {inner}}}}}}}, on_no_match: {}",
        act("a", "ALLOW"),
        act("none", "DENY")
    );
    assert_eq!(["/a", "/a/b", "/a/bc", "/c"].map(|v| status(&prefix, v)), [200, 403, 200, 403]);
    let source = input("SourceIPInput");
    let range = |ip: &str, len: u8, action: &str, more: &str| {
        format!(
            "{{ranges: [{{address_prefix: {ip}, prefix_len: {len}}}], on_match: {}{more}}}",
            act("r", action)
        )
    };
    let ip = |ranges: &[String]| {
        let m = format!(
            "{{name: ip, typed_config: {{'@type': type.googleapis.com/xds.type.matcher.v3.IPMatcher, range_matchers: [{}]}}}}",
            ranges.join(", ")
        );
        status(&format!("matcher_tree: {{input: {source}, custom_match: {m}}}"), "")
    };
    let wide = || range("127.0.0.0", 8, "ALLOW", "");
    assert_eq!(ip(&[wide()]), 200);
    assert_eq!(ip(&[wide(), range("127.0.0.1", 32, "DENY", "")]), 403);
    assert_eq!(ip(&[range("10.0.0.0", 8, "ALLOW", "")]), 403);
    let kept = |more: &str| {
        let r = range("127.0.0.1", 32, "DENY", more);
        ip(&[wide(), r.replace("on_match: {", "on_match: {keep_matching: true, ")])
    };
    assert_eq!((kept(""), kept(", exclusive: true")), (200, 403));
}

#[test]
fn addresses_lie_in_ranges() {
    let status = |range: &str| {
        let ip = "type.googleapis.com/envoy.extensions.matching.input_matchers.ip.v3.Ip";
        let p = format!(
            "{{single_predicate: {{input: {}, custom_match: {{name: ip, typed_config: {{'@type': {ip}, stat_prefix: s, \
             cidr_ranges: [{{address_prefix: '2001:db8::', prefix_len: 32}}, {{{range}}}]}}}}}}}}",
            input("SourceIPInput")
        );
        let on = act("a", "ALLOW");
        test(&format!("matcher: {{matcher_list: {{matchers: [{{predicate: {p}, on_match: {on}}}]}}}}"))
            .request("GET /")
            .send()
            .status
    };
    assert_eq!(status("address_prefix: 127.0.0.0, prefix_len: 8"), 200);
    assert_eq!(status("address_prefix: 10.0.0.0, prefix_len: 8"), 403);
}

#[test]
fn inputs() {
    let status = |message: &str, value: &str| {
        let p =
            format!("{{single_predicate: {{input: {}, value_match: {{exact: '{value}'}}}}}}", input(message));
        let on = act("a", "ALLOW");
        test(&format!("matcher: {{matcher_list: {{matchers: [{{predicate: {p}, on_match: {on}}}]}}}}"))
            .request("GET /")
            .header("x", "1")
            .header("x", "2")
            .send()
            .status
    };
    for (message, value) in [
        ("DestinationIPInput", "127.0.0.1"),
        ("DestinationPortInput", "80"),
        ("SourceIPInput", "127.0.0.1"),
        ("SourcePortInput", "40000"),
        ("DirectSourceIPInput", "127.0.0.1"),
        ("HttpRequestHeaderMatchInput, header_name: x", "1,2"),
    ] {
        assert_eq!((status(message, value), status(message, "other")), (200, 403), "{message}");
    }
    assert_eq!((status("ServerNameInput", ""), status("FilterStateInput, key: k", "")), (403, 403));
    // Without TLS nothing can be decided, not even that something else holds.
    let uri = "{name: u, typed_config: {'@type': type.googleapis.com/envoy.extensions.matching.common_inputs.ssl.v3.UriSanInput}}";
    let p = format!("{{single_predicate: {{input: {uri}, value_match: {{exact: a}}}}}}");
    let t = test(&format!(
        "matcher: {{matcher_list: {{matchers: [{{predicate: {p}, on_match: {0}}}]}}, on_no_match: {0}}}",
        act("a", "ALLOW")
    ));
    assert_eq!(t.request("GET /").send().status, 403);
}

#[test]
fn refusals() {
    let refusal = |p: &str| test(&format!("rules: {}", rules("ALLOW", p, ANY))).refusal();
    assert_eq!(refusal("destination_port_range: {start: -1, end: 5}"), "range start -1 is out of bounds");
    assert_eq!(refusal("destination_port_range: {start: 1, end: 70000}"), "range end 70000 is out of bounds");
    assert_eq!(
        refusal("destination_port_range: {start: 5, end: 5}"),
        "range start 5 cannot be greater or equal than range end 5"
    );
    let input = |input: &str| {
        let p = format!("single_predicate: {{input: {input}, value_match: {{exact: a}}}}");
        test(&format!(
            "matcher: {{matcher_list: {{matchers: [{{predicate: {{{p}}}, on_match: {}}}]}}}}",
            act("a", "ALLOW")
        ))
        .refusal()
    };
    let cel = "{name: cel, typed_config: {'@type': type.googleapis.com/xds.type.matcher.v3.HttpAttributesCelMatchInput}}";
    assert!(input(cel).starts_with("attributes can be matched by an expression only"), "{}", input(cel));
    let other = "{name: o, typed_config: {'@type': type.googleapis.com/envoy.type.matcher.v3.HttpResponseHeaderMatchInput, header_name: a}}";
    assert!(input(other).contains("RBAC HTTP filter cannot match on"), "{}", input(other));
}

#[test]
fn expressions_decide_too() {
    let method = "{select_expr: {operand: {ident_expr: {name: request}}, field: method}}";
    let is_put =
        format!("{{call_expr: {{function: _==_, args: [{method}, {{const_expr: {{string_value: PUT}}}}]}}}}");
    let condition = format!("permissions: [{{{ANY}}}], principals: [{{{ANY}}}], condition: {is_put}");
    let t = test(&format!("rules: {{action: DENY, policies: {{p: {{{condition}}}}}}}"));
    let status = |t: &FilterTest, line: &str| t.request(line).send().status;
    assert_eq!([status(&t, "PUT /"), status(&t, "GET /")], [403, 200]);
    let input = "input: {name: a, typed_config: {'@type': type.googleapis.com/xds.type.matcher.v3.HttpAttributesCelMatchInput}}";
    let matcher = format!(
        "custom_match: {{name: c, typed_config: {{'@type': type.googleapis.com/xds.type.matcher.v3.CelMatcher, \
         expr_match: {{cel_expr_parsed: {{expr: {is_put}}}}}}}}}"
    );
    let t = test(&format!(
        "matcher: {{matcher_list: {{matchers: [{{predicate: {{single_predicate: {{{input}, {matcher}}}}}, on_match: {}}}]}}}}",
        act("a", "ALLOW")
    ));
    assert_eq!([status(&t, "PUT /"), status(&t, "GET /")], [200, 403]);
}
