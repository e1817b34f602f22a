//! `/drain_listeners` and `/quitquitquit`.

use super::view::Drain;
use super::{AdminCx, Request, Response};

/// `/drain_listeners`
pub fn drain_listeners(cx: &AdminCx<'_>, request: &Request<'_>) -> Response {
    let p = request.params();
    let how = Drain {
        inbound_only: p.has("inboundonly"),
        graceful: p.has("graceful"),
        skip_exit: p.has("skip_exit"),
    };
    cx.view.drain_listeners(how);
    Response::ok()
}

/// `/quitquitquit`
pub fn quit(cx: &AdminCx<'_>, _: &Request<'_>) -> Response {
    cx.server.quit();
    Response::ok()
}
