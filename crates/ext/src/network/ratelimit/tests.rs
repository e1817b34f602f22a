use crate::network::testing::Case;
use nuncio_api::envoy::service::ratelimit::v3 as rls;
use nuncio_core::network_filter::Access;
use rls::rate_limit_response::Code;
use std::time::Duration;

fn answer(code: Code) -> rls::RateLimitResponse {
    let metadata = prost_types::Struct { fields: [("a".to_owned(), Default::default())].into() };
    rls::RateLimitResponse {
        overall_code: code.into(),
        dynamic_metadata: Some(metadata),
        ..Default::default()
    }
}

#[test]
fn the_service_decides() {
    let case = Case::new(include_str!("example.yaml"));
    let refused = |why| Access::Refused(Duration::ZERO, why);
    case.calls.answer_message(&answer(Code::Ok));
    let mut conn = case.connect();
    assert_eq!(case.admits(&mut conn), Access::Granted);
    assert!(conn.info.metadata.borrow().0.contains_key(super::NAME));
    case.calls.answer_message(&answer(Code::OverLimit));
    assert_eq!(case.admits(&mut case.connect()), refused("ratelimit_close_over_limit"));
    let why = "ratelimit_error_failure_mode_connection_close";
    assert_eq!(case.admits(&mut case.connect()), refused(why));
    let stat = |n: &str| case.stat(&format!("ratelimit.t.{n}"));
    assert_eq!(["total", "ok", "over_limit", "error", "cx_closed", "active"].map(stat), [3, 1, 1, 1, 2, 0]);
    let asked = case.calls.seen().remove(0).message::<rls::RateLimitRequest>();
    let entry = &asked.descriptors[0].entries[0];
    assert_eq!((&*asked.domain, &*entry.key, &*entry.value), ("shop", "from", "10.1.2.3"));
}

#[test]
fn who_fails_lets_pass_by_default() {
    let yaml = include_str!("example.yaml").replace("failure_mode_deny: true", "failure_mode_deny: false");
    let case = Case::new(&yaml);
    assert_eq!(case.admits(&mut case.connect()), Access::Granted);
    assert_eq!(case.stat("ratelimit.t.failure_mode_allowed"), 1);
}
