use super::phrase::{show_duration, show_number};
use super::*;
use crate::encode::encode;
use crate::schema::messages;
use crate::tree::parse_yaml;

/// Path and phrase of every violation, the phrase without its frame.
fn check(message: &str, text: &str) -> Vec<String> {
    let schema = schema::message(message).expect(message);
    let tree = parse_yaml(text).expect("a document");
    let (bytes, errors) = encode(schema, tree.root());
    assert!(errors.is_empty(), "{errors:?}");
    let violations = validate(schema, &bytes).into_iter().map(|violation| {
        let phrase = violation.phrase.strip_prefix("Proto constraint validation failed (");
        let phrase = phrase.and_then(|phrase| phrase.strip_suffix(')')).unwrap_or(&violation.phrase);
        format!("{}: {phrase}", violation.path_text())
    });
    violations.collect()
}

#[test]
fn every_pattern_of_the_schema_compiles() {
    fn patterns(rules: &'static [Rule], out: &mut Vec<&'static str>) {
        for rule in rules {
            match rule {
                Rule::Pattern(pattern) => out.push(pattern),
                Rule::Each(rules) | Rule::Keys(rules) => patterns(rules, out),
                _ => {}
            }
        }
    }
    let mut all = Vec::new();
    for message in messages() {
        message.fields().iter().for_each(|field| patterns(field.rules(), &mut all));
    }
    all.sort_unstable();
    all.dedup();
    assert!(all.len() >= 9, "{all:?}");
    for pattern in all {
        assert!(regex::Regex::new(pattern).is_ok(), "{pattern}");
    }
}

#[test]
fn oneofs_maps_lists_and_wrappers() {
    assert_eq!(
        check("envoy.config.core.v3.Address", "{}"),
        ["address: field: \"address\", reason: is required"]
    );
    assert_eq!(
        check("envoy.config.core.v3.Metadata", "filter_metadata: {'': {}}"),
        [
            "filter_metadata[]: MetadataValidationError.FilterMetadata[]: value length must be at least 1 characters"
        ]
    );
    assert_eq!(
        check(
            "envoy.config.cluster.v3.OutlierDetection",
            "max_ejection_percent: 101\nenforcing_success_rate: 100"
        ),
        [
            "max_ejection_percent: OutlierDetectionValidationError.MaxEjectionPercent: value must be less than or equal to 100"
        ]
    );
    let rules = check(
        "envoy.config.cluster.v3.Cluster",
        "name: c\nhealth_checks: [{}, {}, {}, {}, {}, {}, {}, {}, {}]",
    );
    assert!(
        rules.contains(
            &"health_checks: ClusterValidationError.HealthChecks: value must contain no more than 8 item(s)"
                .to_string()
        ),
        "{rules:?}"
    );
    // Required inside a oneof counts only for the case that is set.
    assert!(check("envoy.config.core.v3.DataSource", "inline_string: x").is_empty());
    assert_eq!(check("envoy.config.core.v3.DataSource", "filename: ''").len(), 1);
}

#[test]
fn an_extension_is_checked_by_itself_and_after_what_holds_it() {
    let text = "
stat_prefix: ''
route_config: {virtual_hosts: [{name: a, domains: []}]}
http_filters:
- name: envoy.filters.http.router
  typed_config:
    '@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
    strict_check_headers: [nope]
- name: empty
  typed_config: {}
- name: discovered
  config_discovery: {config_source: {ads: {}}, type_urls: [x]}
";
    let found =
        check("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", text);
    assert_eq!(
        found,
        [
            "stat_prefix: HttpConnectionManagerValidationError.StatPrefix: value length must be at least 1 characters",
            "route_config.virtual_hosts[0].domains: HttpConnectionManagerValidationError.RouteConfig: embedded message \
             failed validation | caused by RouteConfigurationValidationError.VirtualHosts[0]: embedded message failed \
             validation | caused by VirtualHostValidationError.Domains: value must contain at least 1 item(s)",
            "http_filters[0].typed_config.<any>.strict_check_headers[0]: RouterValidationError.StrictCheckHeaders[0]: \
             value must be in list [x-envoy-upstream-rq-timeout-ms x-envoy-upstream-rq-per-try-timeout-ms \
             x-envoy-max-retries x-envoy-retry-grpc-on x-envoy-retry-on]",
            "http_filters[1].typed_config: Didn't find a registered implementation for 'empty' with type URL: ''",
        ]
    );
}

#[test]
fn what_no_extension_has_is_refused_and_what_we_do_not_know_is_not() {
    let filter = |url: &str| {
        let text = format!("name: f\ntyped_config: {{'@type': type.googleapis.com/{url}}}");
        check("envoy.config.listener.v3.Filter", &text)
    };
    assert_eq!(
        filter("envoy.config.core.v3.Node"),
        [
            "typed_config: Didn't find a registered implementation for 'f' with type URL: 'envoy.config.core.v3.Node'"
        ]
    );
    assert!(filter("envoy.extensions.filters.network.echo.v3.Echo").is_empty());
}

#[test]
fn durations_must_not_be_negative() {
    assert_eq!(
        check("envoy.config.cluster.v3.Cluster", "name: c\ncleanup_interval: -1.5s")[0],
        "cleanup_interval: Invalid duration: Expected positive duration: seconds: -1 nanos: -500000000"
    );
    assert_eq!(check("envoy.config.cluster.v3.Cluster", "name: ''\ncleanup_interval: -1s").len(), 3);
}

#[test]
fn damaged_bytes_are_a_violation() {
    let schema = schema::message("envoy.config.core.v3.Node").expect("a message");
    let violations = validate(schema, &[0x0a, 5, b'x']);
    assert!(violations[0].phrase.contains("malformed"), "{violations:?}");
}

#[test]
fn phrases_show_numbers_as_go_does() {
    for (nanoseconds, want) in [
        (0, "0s"),
        (1_000_000, "1ms"),
        (1_500_000, "1.5ms"),
        (20_000, "20µs"),
        (7, "7ns"),
        (1_500_000_000, "1.5s"),
        (60_000_000_000, "1m0s"),
        (3_600_000_000_000, "1h0m0s"),
        (9_000_000_000_000_000_000, "2500000h0m0s"),
        (-1_000_000_000, "-1s"),
    ] {
        assert_eq!(show_duration(nanoseconds), want);
    }
    assert_eq!(show_number(9_223_372_036_854_775_807.0), "9223372036854775807");
    assert_eq!(show_number(0.5), "0.5");
}

#[test]
fn violations_are_bounded() {
    let text = format!("name: a\ndomains: [{}]", vec!["''"; 1_000].join(", "));
    let schema = schema::message("envoy.config.route.v3.VirtualHost").expect("a message");
    let tree = parse_yaml(&text).expect("a document");
    let (bytes, _) = encode(schema, tree.root());
    assert!(validate(schema, &bytes).len() <= MAX_VIOLATIONS);
}

#[test]
fn deprecated_fields_are_reported_once_and_a_few_are_refused() {
    let kinds = |message: &str, text: &str| {
        let schema = schema::message(message).expect(message);
        let tree = parse_yaml(text).expect("a document");
        let violations = validate(schema, &encode(schema, tree.root()).0);
        violations.into_iter().map(|violation| (violation.kind, violation.path_text())).collect::<Vec<_>>()
    };
    let text = "prefix: /\nheaders: [{name: a, exact_match: b}, {name: a, exact_match: b}]";
    let found = kinds("envoy.config.route.v3.RouteMatch", text);
    assert_eq!(found, [(ViolationKind::Deprecated, "headers[0].exact_match".to_string())]);

    let action =
        "actions: [{dynamic_metadata: {descriptor_key: a, metadata_key: {key: b, path: [{key: c}]}}}]";
    let found = kinds("envoy.config.route.v3.RateLimit", action);
    assert_eq!(found, [(ViolationKind::Deprecated, "actions[0].dynamic_metadata".to_string())]);
    let text = format!("name: ext\ntyped_config: {{'@type': t/envoy.config.route.v3.RateLimit, {action}}}");
    let any = kinds("envoy.config.core.v3.TypedExtensionConfig", &text);
    assert_eq!(
        any,
        [(ViolationKind::Rule, "typed_config.<any>.actions[0].dynamic_metadata".to_string())],
        "{text}"
    );

    let found = check("envoy.config.core.v3.ApiConfigSource", "cluster_names: [a]");
    assert!(
        found[0].starts_with(
            "api_type: Deprecated field: type envoy.config.core.v3.ApiConfigSource Using the default now-deprecated value \
             DEPRECATED_AND_UNAVAILABLE_DO_NOT_USE for enum 'envoy.config.core.v3.ApiConfigSource.api_type' from file \
             config_source.proto."
        ),
        "{found:?}"
    );
}

#[test]
fn what_is_in_progress_is_found_as_often_as_envoy_looks() {
    let found = |message: &str, text: &str| {
        let schema = schema::message(message).expect(message);
        let tree = parse_yaml(text).expect("a document");
        let violations = validate(schema, &encode(schema, tree.root()).0);
        let found = violations.into_iter().filter(|violation| violation.kind == ViolationKind::InProgress);
        found.map(|violation| (violation.path_text(), violation.phrase)).collect::<Vec<_>>()
    };
    let field = "field 'envoy.config.core.v3.Http1ProtocolOptions.allow_custom_methods' is marked as work-in-progress. ";
    let option = found("envoy.config.core.v3.Http1ProtocolOptions", "allow_custom_methods: true");
    assert_eq!(option.len(), 1);
    assert_eq!(option[0].0, "allow_custom_methods");
    assert!(option[0].1.starts_with(field), "{}", option[0].1);

    let url = "t/envoy.extensions.filters";
    let key =
        format!("{{'@type': {url}.http.api_key_auth.v3.ApiKeyAuth, credentials: [{{key: a, client: b}}]}}");
    let hcm = format!(
        "{{'@type': {url}.network.http_connection_manager.v3.HttpConnectionManager, http_protocol_options: \
         {{allow_custom_methods: true}}, http_filters: [{{name: k, typed_config: {key}}}]}}"
    );
    let listener = found(
        "envoy.config.listener.v3.FilterChain",
        &format!("filters: [{{name: h, typed_config: {hcm}}}]"),
    );
    let named = |what: &str| listener.iter().filter(|(_, phrase)| phrase.starts_with(what)).count();
    assert_eq!(named(field), 2);
    let file =
        "is contained in proto file 'envoy/extensions/filters/http/api_key_auth/v3/api_key_auth.proto'";
    for name in ["ApiKeyAuth", "Credential"] {
        let message = format!("message 'envoy.extensions.filters.http.api_key_auth.v3.{name}' {file}");
        assert_eq!(named(&message), 2, "{listener:?}");
    }
    assert_eq!(listener.len(), 6);
}
