//! `/healthcheck/fail` and `/healthcheck/ok`: whether this proxy tells others to stay away.

use super::{AdminCx, Request, Response};
use std::sync::atomic::Ordering::Relaxed;

/// `/healthcheck/fail`
pub fn fail(cx: &AdminCx<'_>, _: &Request<'_>) -> Response {
    cx.server.state.health_check_failed.store(true, Relaxed);
    Response::ok()
}

/// `/healthcheck/ok`
pub fn pass(cx: &AdminCx<'_>, _: &Request<'_>) -> Response {
    cx.server.state.health_check_failed.store(false, Relaxed);
    Response::ok()
}
