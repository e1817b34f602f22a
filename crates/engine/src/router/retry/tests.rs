use super::conditions::RetryOn;
use super::policy::{More, RateLimited, ResetHeader};
use super::state::{Decision, Retry, Verdict, Wait};
use super::{RetryPolicy, RetryRuntime};
use crate::upstream::breakers::{Breakers, Resource, RetryBudget};
use nuncio_core::ResetReason;
use nuncio_core::clock::sim::Sim;
use nuncio_core::rng;
use nuncio_core::runtime::{Runtime, RuntimeNumber};
use nuncio_wire::{HeaderName, RequestHead, ResponseHead};
use std::sync::Arc;
use std::time::Duration;

fn runtime() -> RetryRuntime {
    RetryRuntime::new(&Runtime::default())
}
fn policy(on: &str, num_retries: u32, more: Option<More>) -> Arc<RetryPolicy> {
    let on = RetryOn::http(on) | RetryOn::grpc(on);
    Arc::new(RetryPolicy { on, num_retries, more: more.map(Box::new) })
}
fn request(headers: &[(&str, &str)]) -> RequestHead {
    let mut head = RequestHead::default();
    headers.iter().for_each(|(n, v)| head.headers.append(*n, v.as_bytes()));
    head
}
fn response(status: u16, headers: &[(&str, &str)]) -> ResponseHead {
    let mut head = ResponseHead { status, ..Default::default() };
    headers.iter().for_each(|(n, v)| head.headers.append(*n, v.as_bytes()));
    head
}
fn retry(on: &str) -> Retry {
    Retry::new(Some(&policy(on, 1, None)), &request(&[]), &Arc::default(), &runtime()).expect("it retries")
}
fn asked(headers: &[(&str, &str)]) -> Option<Retry> {
    Retry::new(None, &request(headers), &Arc::default(), &runtime())
}

#[test]
fn responses() {
    let none = request(&[]);
    for (on, status, headers, again) in [
        ("5xx", 500, &[][..], true),
        ("5xx", 499, &[], false),
        ("5xx", 503, &[("x-envoy-ratelimited", "true")], false),
        ("envoy-ratelimited", 429, &[("x-envoy-ratelimited", "true")], true),
        ("envoy-ratelimited", 429, &[], false),
        ("gateway-error", 501, &[], false),
        ("gateway-error", 502, &[], true),
        ("gateway-error", 504, &[], true),
        ("gateway-error", 505, &[], false),
        ("retriable-4xx", 409, &[], true),
        ("retriable-4xx", 404, &[], false),
        ("retriable-status-codes", 503, &[], false),
        ("unavailable", 200, &[("grpc-status", "14")], true),
        ("unavailable", 200, &[("grpc-status", "13")], false),
        ("internal,cancelled", 200, &[("grpc-status", "1")], true),
        ("internal", 200, &[("grpc-status", "x")], false),
        ("reset,connect-failure,refused-stream", 503, &[], false),
    ] {
        let decided = retry(on).on_head(&response(status, headers), &none);
        assert_eq!(decided == Decision::BackOff, again, "{on} {status} {headers:?}");
    }
}

#[test]
fn too_early_is_retried_at_once_unless_the_client_was_early() {
    let more = More { status_codes: [425, 404].into(), ..Default::default() };
    let p = policy("retriable-status-codes", 1, Some(more));
    let r = Retry::new(Some(&p), &request(&[]), &Arc::default(), &runtime()).unwrap();
    assert_eq!(r.on_head(&response(425, &[]), &request(&[])), Decision::AtOnce);
    assert_eq!(r.on_head(&response(425, &[]), &request(&[("early-data", "1")])), Decision::Final);
    assert_eq!(r.on_head(&response(404, &[]), &request(&[])), Decision::BackOff);
}

#[test]
fn resets() {
    use ResetReason::*;
    for (on, reason, started, again) in [
        ("connect-failure", RemoteConnectionFailure, false, true),
        ("connect-failure", ConnectionTimeout, false, true),
        ("connect-failure", LocalConnectionFailure, false, true),
        ("connect-failure", ConnectionTermination, true, false),
        ("reset", ConnectionTermination, true, true),
        ("reset", ProtocolError, true, true),
        ("reset", Overflow, false, false),
        ("5xx", PendingOverflow, false, false),
        ("5xx", RemoteReset, true, true),
        ("gateway-error", RemoteConnectionFailure, false, true),
        ("reset-before-request", RemoteConnectionFailure, false, true),
        ("reset-before-request", ConnectionTermination, true, false),
        ("refused-stream", RemoteRefusedStream, true, true),
        ("refused-stream", RemoteReset, true, false),
        ("retriable-4xx,unavailable", ConnectionTermination, true, false),
    ] {
        let mut r = retry(on);
        r.started = started;
        assert_eq!(r.on_reset(reason) == Decision::BackOff, again, "{on} {reason:?}");
    }
}

#[test]
fn requests_ask_by_headers() {
    assert!(asked(&[("x-envoy-max-retries", "3")]).is_none());
    let r = asked(&[("x-envoy-retry-on", "nonsense")]).unwrap();
    assert!(!r.enabled());
    let headers = [
        ("x-envoy-retry-on", "retriable-status-codes,retriable-headers"),
        ("x-envoy-retriable-status-codes", "418, x,5"),
        ("x-envoy-retriable-header-names", "x-a, x-b"),
        ("x-envoy-max-retries", "2"),
    ];
    let (mut r, none) = (asked(&headers).unwrap(), request(&[]));
    assert_eq!(r.on_head(&response(418, &[]), &none), Decision::BackOff);
    assert_eq!(r.on_head(&response(200, &[("x-b", "")]), &none), Decision::BackOff);
    assert_eq!(r.on_head(&response(404, &[("x-c", "")]), &none), Decision::Final);
    let again = |v| matches!(v, Verdict::Again(..));
    assert!(again(r.decide(Decision::BackOff, None, &runtime())));
    assert!(again(r.decide(Decision::BackOff, None, &runtime())));
    assert_eq!(r.decide(Decision::BackOff, None, &runtime()), Verdict::LimitExceeded);
    let mut none = asked(&[("x-envoy-retry-grpc-on", "internal"), ("x-envoy-max-retries", "0")]).unwrap();
    assert_eq!(none.decide(Decision::BackOff, None, &runtime()), Verdict::LimitExceeded);
}

#[test]
fn permits_are_held_until_the_next_decision() {
    let b = Arc::new(Breakers { retries: Resource::new(1), ..Default::default() });
    let p = policy("5xx", 5, None);
    let new = || Retry::new(Some(&p), &request(&[]), &b, &runtime()).unwrap();
    let (mut one, mut two) = (new(), new());
    assert!(matches!(one.decide(Decision::BackOff, None, &runtime()), Verdict::Again(..)));
    assert_eq!(two.decide(Decision::BackOff, None, &runtime()), Verdict::Overflow);
    assert_eq!(b.retries.used(), 1);
    // Its own permit comes back first.
    assert!(matches!(one.decide(Decision::BackOff, None, &runtime()), Verdict::Again(..)));
    assert_eq!(one.decide(Decision::Final, None, &runtime()), Verdict::Succeeded);
    assert_eq!(one.decide(Decision::Final, None, &runtime()), Verdict::Final);
    assert_eq!(b.retries.used(), 0);
    assert!(matches!(two.decide(Decision::BackOff, None, &runtime()), Verdict::Again(..)));
    drop(two);
    assert_eq!(b.retries.used(), 0);
    // The runtime takes retries away; nothing is held.
    let off = RetryRuntime { use_retry: RuntimeNumber::fixed(0), ..runtime() };
    assert_eq!(new().decide(Decision::BackOff, None, &off), Verdict::Final);
    assert_eq!(b.retries.used(), 0);
}

#[test]
fn a_budget_limits_retries() {
    let budget = Some(Box::new(RetryBudget { percent: 50.0, min: 0 }));
    let b = Arc::new(Breakers { budget, ..Default::default() });
    let p = policy("5xx", 5, None);
    let mut r = Retry::new(Some(&p), &request(&[]), &b, &runtime()).unwrap();
    b.requests.take();
    assert_eq!(r.decide(Decision::BackOff, None, &runtime()), Verdict::Overflow);
    b.requests.take();
    assert!(matches!(r.decide(Decision::BackOff, None, &runtime()), Verdict::Again(..)));
}

#[test]
fn intervals_double_up_to_the_longest() {
    rng::seed(7);
    let more = More { back_off: Some((20, 100)), ..Default::default() };
    for (more, bounds) in [(None, [25, 50, 100, 200, 250, 250]), (Some(more), [20, 40, 80, 100, 100, 100])] {
        let p = policy("5xx", u32::MAX, more);
        let mut longest = [0; 6];
        for _ in 0..500 {
            let mut r = Retry::new(Some(&p), &request(&[]), &Arc::default(), &runtime()).unwrap();
            for (most, bound) in longest.iter_mut().zip(bounds) {
                let Verdict::Again(wait, Wait::Exponential) = r.decide(Decision::BackOff, None, &runtime())
                else {
                    panic!("it retries");
                };
                assert!(wait < Duration::from_millis(bound), "{wait:?} of {bound}");
                *most = (*most).max(wait.as_millis() as u64);
            }
        }
        assert!(longest.iter().zip(bounds).all(|(l, b)| l * 10 > b * 9), "{longest:?} of {bounds:?}");
    }
}

#[test]
fn responses_say_when_to_come_again() {
    let _sim = Sim::new(); // 2026-01-01T00:00:00Z
    let header = |name, unix_timestamp| ResetHeader { name: HeaderName::new(name), unix_timestamp };
    let headers = vec![header("retry-after", false), header("x-until", true)];
    let rate_limited = Some(RateLimited { headers, max_ms: 10_000 });
    let p = policy("5xx", u32::MAX, Some(More { rate_limited, ..Default::default() }));
    let wait = |headers: &[(&str, &str)]| {
        let mut r = Retry::new(Some(&p), &request(&[]), &Arc::default(), &runtime()).unwrap();
        match r.decide(Decision::BackOff, Some(&response(503, headers)), &runtime()) {
            Verdict::Again(wait, Wait::RateLimited) => Some(wait.as_millis()),
            Verdict::Again(wait, Wait::Exponential) => {
                assert!(wait < Duration::from_millis(25));
                None
            }
            other => panic!("{other:?}"),
        }
    };
    for _ in 0..50 {
        assert!((4000..6000).contains(&wait(&[("retry-after", "4")]).unwrap()));
        assert!((7000..10_500).contains(&wait(&[("x-until", "1767225607")]).unwrap()));
    }
    for unheeded in ["0", "11", "soon", "-1", ""] {
        assert_eq!(wait(&[("retry-after", unheeded)]), None, "{unheeded}");
    }
    assert_eq!(wait(&[("x-until", "1767225599")]), None, "it is over");
    assert!(wait(&[("retry-after", "11"), ("x-until", "1767225605")]).is_some(), "the next header counts");
}
