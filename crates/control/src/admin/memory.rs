//! `/memory`: what the process uses.

use super::{AdminCx, Request, Response};
use crate::server::memory;
use serde_json::json;

/// `/memory`, of which the allocator of this build knows only what the operating system counts.
pub fn memory(_: &AdminCx<'_>, _: &Request<'_>) -> Response {
    let m = memory::usage();
    let text = |n: u64| n.to_string();
    Response::json(&json!({
        "allocated": text(m.allocated),
        "heap_size": text(m.heap),
        "pageheap_unmapped": "0",
        "pageheap_free": text(m.heap.saturating_sub(m.allocated)),
        "total_thread_cache": "0",
        "total_physical_bytes": text(m.physical),
    }))
}

/// `/memory/tcmalloc`
pub fn tcmalloc(_: &AdminCx<'_>, _: &Request<'_>) -> Response {
    Response::text(501, "The current build does not use TCMalloc")
}
