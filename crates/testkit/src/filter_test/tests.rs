use super::*;
use nuncio_api::envoy::extensions::filters::http::header_to_metadata::v3::Config;
use nuncio_api::envoy::extensions::filters::http::original_src::v3::OriginalSrc;
use nuncio_core::coverage::Covered;
use nuncio_core::filter::{BuildCx, HttpFilter};
use nuncio_core::registry::Docs;
use nuncio_core::{BuildResult, Exchange, Step, stats};

stats! { struct MarkStats { marked: Counter } }

/// Marks requests with a number from its config; the route may give another.
struct Mark {
    number: u32,
    stats: MarkStats,
}

impl HttpFilter for Mark {
    type Config = OriginalSrc;
    type RouteConfig = Config;
    type Route = String;
    type Stream = ();

    fn new(config: OriginalSrc, cx: &BuildCx<'_>) -> BuildResult<Mark> {
        Ok(Mark { number: config.mark, stats: MarkStats::new(&cx.scope.scope("mark")) })
    }
    fn route(config: Config, cx: &BuildCx<'_>) -> BuildResult<String> {
        Ok(format!("{}{}", cx.name, config.request_rules.len()))
    }
    fn on_request<'a>(self: &'a Arc<Self>, (): &'a mut (), ex: &'a mut Exchange) -> Step<'a> {
        if ex.request.headers.contains("x-refuse") {
            return Step::reply(403, "no", "mark_refused");
        }
        let mark = ex.route_configs::<String>().iter().map(|s| &***s).collect::<Vec<_>>().join("+");
        ex.request.headers.append("x-mark", format!("{}{mark}", self.number).as_bytes());
        self.stats.marked().inc();
        Step::Next
    }
    fn on_response<'a>(self: &'a Arc<Self>, (): &'a mut (), ex: &'a mut Exchange) -> Step<'a> {
        if let Some(r) = &mut ex.response {
            r.headers.append("x-marked", b"1");
        }
        Step::Next
    }
}

const COVERED: &[Covered] =
    &[Covered::new("envoy.extensions.filters.http.original_src.v3.OriginalSrc", &["mark"])];

fn register(r: &mut Registry, c: &mut Coverage) {
    r.http_filter::<Mark>("mark", Docs { text: "", example: "" });
    c.add(COVERED);
}

const TYPE: &str = "'@type': type.googleapis.com/envoy.extensions.filters.http";

fn test() -> FilterTest {
    let config = format!("- name: mark\n  typed_config: {{{TYPE}.original_src.v3.OriginalSrc, mark: 7}}");
    FilterTest::new(register, &config)
}

#[test]
fn a_request_goes_to_the_upstream_and_back() {
    let reply = Reply::new(201).header("x-up", "u").body("ab").body("c").trailer("t", "v");
    let t = test().upstream_replies(reply);
    let seen = t.request("POST /p?q").header("x", "1").body("hello ").body("world").trailer("rt", "1").send();
    assert_eq!((seen.status, &*seen.body, &*seen.flags), (201, "abc", "-"));
    assert_eq!((seen.trailer("t").as_deref(), &*seen.details), (Some("v"), "via_upstream"));
    assert_eq!((seen.header("x-up").as_deref(), seen.header("x-marked").as_deref()), (Some("u"), Some("1")));
    let up = seen.upstream();
    assert_eq!((&*up.body, &*up.path()), ("hello world", "/p?q"));
    assert_eq!((up.header("x-mark").as_deref(), up.trailer("rt").as_deref()), (Some("7"), Some("1")));
    assert_eq!(t.stat("http.test.mark.marked"), 1);
}

#[test]
fn a_local_reply_does_not_reach_the_upstream() {
    let seen = test().request("GET /").header("x-refuse", "1").send();
    assert_eq!((seen.status, &*seen.body, &*seen.details), (403, "no", "mark_refused"));
    assert!(seen.upstream.is_none() && seen.header("x-marked").is_some());
}

#[test]
fn routes_configure_filters_and_switch_them_off() {
    let config = |n: usize| {
        let rule = "{header: h, on_header_present: {key: k}}, ".repeat(n);
        format!("mark: {{{TYPE}.header_to_metadata.v3.Config, request_rules: [{rule}]}}")
    };
    let (one, two) = (config(1), config(2));
    let off = "mark: {'@type': type.googleapis.com/envoy.config.route.v3.FilterConfig, disabled: true}";
    let t = test().route_config(&format!(
        "virtual_hosts:
- name: v
  domains: ['*']
  typed_per_filter_config: {{{two}}}
  routes:
  - match: {{path: /off}}
    route: {{cluster: c}}
    typed_per_filter_config: {{{off}}}
  - match: {{prefix: /}}
    route: {{cluster: c}}
    typed_per_filter_config: {{{one}}}"
    ));
    assert_eq!(t.request("GET /").send().upstream().header("x-mark").as_deref(), Some("7mark1+mark2"));
    let off = t.request("GET /off").send();
    assert_eq!((off.upstream().header("x-mark"), off.header("x-marked")), (None, None));
}

#[test]
fn configuration_is_refused_as_in_the_server() {
    let refusal = |yaml: &str| FilterTest::new(register, yaml).refusal();
    fn register_unread(r: &mut Registry, c: &mut Coverage) {
        r.http_filter::<Mark>("mark", Docs { text: "", example: "" });
        const NONE: &[Covered] =
            &[Covered::new("envoy.extensions.filters.http.original_src.v3.OriginalSrc", &[])];
        c.add(NONE);
    }
    let unread = format!("- name: mark\n  typed_config: {{{TYPE}.original_src.v3.OriginalSrc, mark: 1}}");
    let unread = FilterTest::new(register_unread, &unread);
    assert_eq!(unread.refusal(), "not implemented yet: OriginalSrc.mark");
    let unbuilt = format!("- name: c\n  typed_config: {{{TYPE}.cors.v3.Cors}}");
    assert_eq!(refusal(&unbuilt), "not implemented yet: c (envoy.extensions.filters.http.cors.v3.Cors)");
    assert!(refusal("- nam: c").contains("no such field: 'nam'"), "{}", refusal("- nam: c"));
}

#[test]
fn a_broken_response_body_is_seen() {
    let t = test().upstream_replies(Reply::new(200).body("half").reset());
    let seen = t.request("GET /").send();
    assert!(seen.broken && seen.body == "half");
}
