use crate::testing::filters;
use nuncio_testkit::FilterTest;

fn test(config: &str) -> FilterTest {
    filters(&format!(
        "- {{name: envoy.filters.http.cdn_loop, typed_config: {{'@type': \
         type.googleapis.com/envoy.extensions.filters.http.cdn_loop.v3.CdnLoopConfig, {config}}}}}"
    ))
}

#[test]
fn its_name_is_added() {
    let t = test("cdn_id: me");
    let sent = |value: Option<&str>| {
        let mut r = t.request("GET /");
        if let Some(v) = value {
            r = r.header("cdn-loop", v);
        }
        let seen = r.send();
        (seen.status, seen.upstream.as_ref().and_then(|u| u.header("cdn-loop")), seen.details)
    };
    assert_eq!(sent(None).1.as_deref(), Some("me"));
    assert_eq!(
        sent(Some("other; v=1.0, [::1]:80; a=\"x\\\"y\"")).1.as_deref(),
        Some("other; v=1.0, [::1]:80; a=\"x\\\"y\",me")
    );
    for twice in ["me", "other, me", "me; v=1", ",, me"] {
        let (status, _, details) = sent(Some(twice));
        assert_eq!((status, &*details), (502, "cdn_loop_detected"), "{twice}");
    }
    for bad in ["[bad", "a b", "a;", "a; b", "a; b=", "a; b=\"c", ";", "a=1"] {
        let (status, _, details) = sent(Some(bad));
        assert_eq!((status, &*details), (400, "invalid_cdn_loop_header"), "{bad}");
    }
}

#[test]
fn some_occurrences_may_be_allowed() {
    let t = test("cdn_id: me, max_allowed_occurrences: 1");
    let status = |v: &str| t.request("GET /").header("cdn-loop", v).send().status;
    assert_eq!([status("me"), status("me, me"), status("me:80, me")], [200, 502, 200]);
}

#[test]
fn refusals() {
    let refused = |id: &str| test(&format!("cdn_id: '{id}'")).refusal();
    let of = |id: &str, why: &str| format!("Provided cdn_id \"{id}\" is not a valid CDN identifier: {why}");
    assert_eq!(refused("a b"), of("a b", ""));
    assert_eq!(refused("(a"), of("(a", "expected token starting at position 0; found '('"));
}
