//! The profilers, which this build does not have.

use super::{AdminCx, Request, Response};

/// `/heapprofiler` and its siblings.
pub fn unsupported(_: &AdminCx<'_>, _: &Request<'_>) -> Response {
    Response::text(501, "The current build does not support heap profiler")
}

/// `/cpuprofiler`: starting one fails, as in an Envoy that was given no `profile_path`; stopping none is no error.
pub fn cpu(_: &AdminCx<'_>, request: &Request<'_>) -> Response {
    match request.params().get("enable") {
        Some("y") => Response::text(500, "failure to start the profiler"),
        Some("n") => Response::ok(),
        _ => Response::text(400, "?enable=<y|n>\n"),
    }
}
