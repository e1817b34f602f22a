use super::*;

fn extract(name: &str) -> (String, Vec<(String, String)>) {
    extract_with(&TagProducer::default(), name)
}

fn extract_with(producer: &TagProducer, name: &str) -> (String, Vec<(String, String)>) {
    let tags = producer.extract(name);
    let mut extracted = String::new();
    tags.push_extracted_name(name, &mut extracted);
    (
        extracted,
        tags.tags.iter().map(|(n, v)| (n.trim_start_matches("envoy.").to_owned(), (*v).to_owned())).collect(),
    )
}

#[track_caller]
fn check(name: &str, extracted: &str, tags: &[(&str, &str)]) {
    let (got_name, got_tags) = extract(name);
    assert_eq!(got_name, extracted, "{name}");
    let got: Vec<(&str, &str)> = got_tags.iter().map(|(n, v)| (&**n, &**v)).collect();
    assert_eq!(got, tags, "{name}");
}

#[test]
fn clusters_and_codes() {
    check("cluster.rl.upstream_rq_timeout", "cluster.upstream_rq_timeout", &[("cluster_name", "rl")]);
    check(
        "cluster.a.b.upstream_rq_200",
        "cluster.b.upstream_rq",
        &[("response_code", "200"), ("cluster_name", "a")],
    );
    check(
        "cluster.a.upstream_rq_5xx",
        "cluster.upstream_rq_xx",
        &[("response_code_class", "5"), ("cluster_name", "a")],
    );
    check("cluster.a.upstream_rq_0rtt", "cluster.upstream_rq_0rtt", &[("cluster_name", "a")]);
    check("cluster.alone", "cluster.alone", &[]);
    check("cluster_manager.cluster_added", "cluster_manager.cluster_added", &[]);
    check(
        "cluster.c.health_check.name.probe.attempt",
        "cluster.health_check.attempt",
        &[("health_check_name", "probe"), ("cluster_name", "c")],
    );
    check("cluster.c.health_check.attempt", "cluster.health_check.attempt", &[("cluster_name", "c")]);
    check(
        "cluster.g.grpc.service.method.success",
        "cluster.grpc.success",
        &[("grpc_bridge_method", "method"), ("grpc_bridge_service", "service"), ("cluster_name", "g")],
    );
    check(
        "cluster.g.ext_authz.pre.ok",
        "cluster.ext_authz.ok",
        &[("cluster_name", "g"), ("ext_authz_prefix", "pre")],
    );
}

#[test]
fn listeners_and_their_addresses() {
    for address in ["[__1]_0", "[2001_0db8_85a3__7334]_3543", "127.0.0.1_0", "my_prefix"] {
        check(
            &format!("listener.{address}.ssl.ciphers.AES256-SHA"),
            "listener.ssl.ciphers",
            &[("ssl_cipher", "AES256-SHA"), ("listener_address", address)],
        );
    }
    check(
        "listener.prefix.notmatching.ssl.ciphers.AES256-SHA",
        "listener.notmatching.ssl.ciphers",
        &[("ssl_cipher", "AES256-SHA"), ("listener_address", "prefix")],
    );
    check(
        "listener.admin.ssl.ciphers.AES256-SHA",
        "listener.admin.ssl.ciphers",
        &[("ssl_cipher", "AES256-SHA")],
    );
    check(
        "listener.127.0.0.1_3012.http.pre.downstream_rq_5xx",
        "listener.http.downstream_rq_xx",
        &[
            ("response_code_class", "5"),
            ("http_conn_manager_prefix", "pre"),
            ("listener_address", "127.0.0.1_3012"),
        ],
    );
    check(
        "listener.127.0.0.1_80.worker_123.downstream_cx_active",
        "listener.worker_downstream_cx_active",
        &[("worker_id", "123"), ("listener_address", "127.0.0.1_80")],
    );
    check(
        "listener.my.worker_1.downstream_cx_active",
        "listener.worker_downstream_cx_active",
        &[("worker_id", "1"), ("listener_address", "my")],
    );
    check("listener.127.0.0.1_.foo", "listener.0.0.1_.foo", &[("listener_address", "127")]);
    check("listener.1234.0.0.1_80.foo", "listener.0.0.1_80.foo", &[("listener_address", "1234")]);
    check(
        "listener.0.0.0.0_0.ssl.certificate.server.expiration_unix_time_seconds",
        "listener.ssl.certificate.expiration_unix_time_seconds",
        &[("tls_certificate", "server"), ("listener_address", "0.0.0.0_0")],
    );
    check(
        "listener.a.ssl.versions.TLSv1.3",
        "listener.ssl.versions",
        &[("ssl_version", "TLSv1.3"), ("listener_address", "a")],
    );
    check("server.worker_12.watchdog_miss", "server.worker_watchdog_miss", &[("worker_id", "12")]);
    check("listener_manager.worker_1.x.y", "listener_manager.worker_x.y", &[("worker_id", "1")]);
    check("server.worker_x.watchdog_miss", "server.worker_x.watchdog_miss", &[]);
}

#[test]
fn cluster_tls() {
    check(
        "cluster.c.ssl.ciphers.ECDHE-RSA-AES128-GCM-SHA256",
        "cluster.ssl.ciphers",
        &[("cipher_suite", "ECDHE-RSA-AES128-GCM-SHA256"), ("cluster_name", "c")],
    );
    check(
        "cluster.c.ssl.curves.X25519",
        "cluster.ssl.curves",
        &[("ssl_curve", "X25519"), ("cluster_name", "c")],
    );
    check(
        "cluster.c.ssl.sigalgs.rsa_pss_rsae_sha256",
        "cluster.ssl.sigalgs",
        &[("ssl_sigalg", "rsa_pss_rsae_sha256"), ("cluster_name", "c")],
    );
    check(
        "cluster.c.ssl.versions.TLSv1.2",
        "cluster.ssl.versions",
        &[("ssl_version", "TLSv1.2"), ("cluster_name", "c")],
    );
    check("sds.secret.update_success", "sds.update_success", &[("xds_resource_name", "secret")]);
}

#[test]
fn connection_managers_and_their_filters() {
    let hcm = ("http_conn_manager_prefix", "p");
    check("http.p.downstream_cx_total", "http.downstream_cx_total", &[hcm]);
    check("http.p.user_agent.ios.cx", "http.user_agent.cx", &[("http_user_agent", "ios"), hcm]);
    check(
        "http.p.fault.c.aborts_injected",
        "http.fault.aborts_injected",
        &[("fault_downstream_cluster", "c"), hcm],
    );
    check(
        "http.p.rds.agg/route_config.1-23.update_success",
        "http.rds.update_success",
        &[("rds_route_config", "agg/route_config.1-23"), hcm],
    );
    check("http.p.rds.only", "http.rds.only", &[hcm]);
    check(
        "http.p.scoped_rds.scoped_route_config.123.update_success",
        "http.scoped_rds.update_success",
        &[("scoped_rds_config", "scoped_route_config.123"), hcm],
    );
    check("http.p.ext_authz.pre.denied", "http.ext_authz.denied", &[("ext_authz_prefix", "pre"), hcm]);
    check("http.p.rbac.pre.allowed", "http.rbac.allowed", &[("rbac_http_prefix", "pre"), hcm]);
    check("http.p.rbac.allowed", "http.rbac.allowed", &[hcm]);
    check("http.p.rbac.policy.pol.denied", "http.rbac.policy.denied", &[("rbac_policy_name", "pol"), hcm]);
    check(
        "http.p.rbac.pre.policy.pol.shadow_allowed",
        "http.rbac.policy.shadow_allowed",
        &[("rbac_policy_name", "pol"), ("rbac_http_prefix", "pre"), hcm],
    );
    check(
        "http.p.dynamodb.operation.Query.upstream_rq_time",
        "http.dynamodb.operation.upstream_rq_time",
        &[("dynamo_operation", "Query"), hcm],
    );
    check(
        "http.p.dynamodb.table.t.upstream_rq_time",
        "http.dynamodb.table.upstream_rq_time",
        &[("dynamo_table", "t"), hcm],
    );
    check(
        "http.p.dynamodb.table.t.capacity.Query.__partition_id=ABC1234",
        "http.dynamodb.table.capacity",
        &[("dynamo_partition_id", "ABC1234"), ("dynamo_operation", "Query"), ("dynamo_table", "t"), hcm],
    );
}

#[test]
fn everything_else() {
    check("mongo.m.op_reply", "mongo.op_reply", &[("mongo_prefix", "m")]);
    check("mongo.m.cmd.c.reply_size", "mongo.cmd.reply_size", &[("mongo_cmd", "c"), ("mongo_prefix", "m")]);
    check(
        "mongo.m.collection.c.query.multi_get",
        "mongo.collection.query.multi_get",
        &[("mongo_collection", "c"), ("mongo_prefix", "m")],
    );
    check(
        "mongo.m.collection.c.callsite.s.query.scatter_get",
        "mongo.collection.callsite.query.scatter_get",
        &[("mongo_callsite", "s"), ("mongo_collection", "c"), ("mongo_prefix", "m")],
    );
    check("ratelimit.r.over_limit", "ratelimit.over_limit", &[("ratelimit_prefix", "r")]);
    check("l.http_local_rate_limit.ok", "http_local_rate_limit.ok", &[("local_http_ratelimit_prefix", "l")]);
    check(
        "local_rate_limit.l.rate_limited",
        "local_rate_limit.rate_limited",
        &[("local_network_ratelimit_prefix", "l")],
    );
    check(
        "vhost.v.vcluster.c.upstream_rq_200",
        "vhost.vcluster.upstream_rq",
        &[("response_code", "200"), ("virtual_cluster", "c"), ("virtual_host", "v")],
    );
    check(
        "vhost.v.route.r.upstream_rq_total",
        "vhost.route.upstream_rq_total",
        &[("virtual_host", "v"), ("route", "r")],
    );
    check(
        "auth.clientssl.p.auth_ip_allowlist",
        "auth.clientssl.auth_ip_allowlist",
        &[("clientssl_prefix", "p")],
    );
    check("tcp.t.x", "tcp.x", &[("tcp_prefix", "t")]);
    check("udp.u.x", "udp.x", &[("udp_prefix", "u")]);
    check("thrift.t.response", "thrift.response", &[("thrift_prefix", "t")]);
    check("redis.r.response", "redis.response", &[("redis_prefix", "r")]);
    check("dns_filter.d.x", "dns_filter.x", &[("dns_filter_prefix", "d")]);
    check("connection_limit.c.x", "connection_limit.x", &[("connection_limit_prefix", "c")]);
    check("mine.rbac.allowed", "rbac.allowed", &[("rbac_prefix", "mine")]);
    check("grpc.client.streams_total", "grpc.streams_total", &[("google_grpc_client_prefix", "client")]);
    check("proxy_proto.not_found_disallowed", "proxy_proto.not_found_disallowed", &[]);
    check(
        "proxy_proto.p.not_found_disallowed",
        "proxy_proto.not_found_disallowed",
        &[("proxy_protocol_prefix", "p")],
    );
    check("proxy_proto.versions.v2.error", "proxy_proto.error", &[("proxy_protocol_version", "2")]);
    check(
        "proxy_proto.p.versions.v2.error",
        "proxy_proto.error",
        &[("proxy_protocol_prefix", "p"), ("proxy_protocol_version", "2")],
    );
}

#[test]
fn names_that_are_no_names_do_no_harm() {
    for name in [
        "",
        ".",
        "..",
        "listener.",
        "listener..",
        "cluster..x",
        "http.é.rds.ü.ä",
        "xx",
        "_rq_2xx",
        "é2xx",
        "_rq_é0",
    ] {
        let (extracted, _) = extract(name);
        assert!(extracted.len() <= name.len());
    }
    check("cluster..x", "cluster.x", &[("cluster_name", "")]);
}

/// What lets readers extract the tags of a group once, on all names that Envoy printed and on made-up ones.
#[test]
fn plain_names_of_a_prefix_have_the_same_tags() {
    let producer = TagProducer::default();
    let golden = include_str!("../testdata/stats.txt").lines().filter_map(|line| line.split_once(": "));
    let segments =
        ["http", "cluster", "listener", "mongo", "p", "rbac", "policy", "query", "collection", "rds", "sds"];
    let more = [
        "ssl",
        "certificate",
        "name",
        "health_check",
        "dynamodb",
        "versions",
        "v2",
        "proxy_proto",
        "worker_1",
    ];
    let segments: Vec<&str> = segments.iter().chain(&more).copied().collect();
    // Made-up prefixes: all of three segments, some of five.
    let count = segments.len();
    let made_up = (0..count * count * count).map(|i| {
        let at = |divisor: usize| segments[i / divisor % count];
        format!(
            "{}.{}.{}.{}.{}.x",
            at(1),
            at(count),
            at(count * count),
            segments[i * 7 % count],
            segments[i * 11 % count]
        )
    });
    let names = golden.map(|(name, _)| name.to_owned()).chain(made_up.clone().map(|n| n.replace(".x", "")));
    let mut uniform = 0;
    for name in names.chain(made_up) {
        let prefix = &name[..name.rfind('.').map_or(0, |at| at + 1)];
        if !producer.is_uniform(prefix) {
            continue;
        }
        uniform += 1;
        let expected = extract(&format!("{prefix}some_plain_name"));
        let lasts =
            ["a", "_", "upstream_rq_total", "query", "rbac", "policy", "http", "9", "xx", "upstream_rq_0rtt"];
        for last in lasts.into_iter().chain(name.rsplit('.').next()).filter(|last| is_plain(last)) {
            let (got, tags) = extract(&format!("{prefix}{last}"));
            assert_eq!(tags, expected.1, "{prefix}{last}");
            assert_eq!(got.strip_suffix(last), expected.0.strip_suffix("some_plain_name"), "{prefix}{last}");
        }
    }
    assert!(uniform > 10_000);
    for last in ["", "upstream_rq_200", "upstream_rq_2xx", "allowed", "a-b", "a.b", "é"] {
        assert!(!is_plain(last), "{last}");
    }
}

/// A tag of the part after `marker`, up to the next dot.
fn custom(name: &str, marker: &'static str) -> TagRule {
    TagRule::Regex {
        name: name.into(),
        pattern: format!("({marker}=([^.]*))"),
        find: Arc::new(move |text| {
            let at = text.find(marker)?;
            let end = text[at..].find('.').map_or(text.len(), |len| at + len);
            Some(Found { remove: at..end, value: at + marker.len() + 1..end })
        }),
    }
}

#[test]
fn configured_tags() {
    let cli = [("cli".to_owned(), "1".to_owned())];
    let rules = vec![
        TagRule::Fixed { name: "fixed".into(), value: "f".into() },
        custom("mine", "zone"),
        custom("envoy.cluster_name", "zone"),
    ];
    let producer = TagProducer::new(true, &cli, rules).expect("valid rules");
    assert_eq!(producer.fixed(), [("cli".into(), "1".into()), ("fixed".into(), "f".into())]);
    let (name, tags) = extract_with(&producer, "cluster.a.zone=eu.rq_total");
    assert_eq!(name, "cluster.a..rq_total");
    let tags: Vec<_> = tags.iter().map(|(n, v)| (&**n, &**v)).collect();
    // Extractors for any name come before those of the first segment, and a name is given once.
    assert_eq!(tags, [("cli", "1"), ("fixed", "f"), ("mine", "eu"), ("cluster_name", "eu")]);
}

#[test]
fn defaults_can_be_chosen_one_by_one() {
    let rules = vec![TagRule::Default { name: "envoy.cluster_name".into() }];
    let producer = TagProducer::new(false, &[], rules).expect("a default tag");
    assert_eq!(
        extract_with(&producer, "cluster.a.upstream_rq_200"),
        ("cluster.upstream_rq_200".into(), vec![("cluster_name".into(), "a".into())])
    );
    let error =
        TagProducer::new(false, &[], vec![TagRule::Default { name: "nope".into() }]).expect_err("unknown");
    assert_eq!(error, "No regex specified for tag specifier and no default regex for name: 'nope'");
    let error = TagProducer::new(false, &[], vec![custom("", "zone")]).expect_err("no name");
    assert_eq!(error, "tag_name cannot be empty");
}

#[test]
fn prefix_of_expressions() {
    for (pattern, prefix) in [
        (r"^prefix(foo).", ""),
        (r"^prefix\.foo", "prefix"),
        (r"^prefix_optional(?=\.)", "prefix_optional"),
        ("^notACompleteToken", ""),
        ("^onlyToken$", "onlyToken"),
        ("(prefix)", ""),
        ("^(prefix)", ""),
        ("prefix(foo)", ""),
        ("", ""),
        ("^", ""),
    ] {
        assert_eq!(regex_prefix(pattern), prefix, "{pattern}");
    }
}
