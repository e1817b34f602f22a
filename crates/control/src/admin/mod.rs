//! The admin interface: what operators see and change.
//!
//! A handler is a plain function from a [`Request`] to a [`Response`]; it runs on main, looks at the server through
//! [`AdminCx`] and needs no socket. [`commands`] lists them all, [`respond`] finds the one that is asked for. Long
//! answers are made a piece at a time ([`Chunks`]). Texts, statuses and JSON shapes are Envoy's.
//!
//! What the interface shows of listeners and clusters it asks of the engine through [`view::View`].

mod certs;
mod clusters;
pub mod commands;
mod config_dump;
mod drain;
mod health;
mod help;
mod info;
mod init_dump;
pub mod json;
mod listeners;
mod logging;
mod mask;
mod memory;
mod profiler;
mod request;
mod response;
mod runtime;
mod stats;
#[cfg(test)]
mod tests;
pub mod transport;
pub mod view;

pub use request::{Params, Request};
pub use response::{Body, Chunks, Response};

use crate::server::Server;
use nuncio_core::log;

/// What handlers look at.
#[derive(Clone, Copy)]
pub struct AdminCx<'a> {
    /// The server.
    pub server: &'a Server,
    /// Its listeners and clusters.
    pub view: &'a dyn view::View,
}

/// Answers a request.
pub fn respond(cx: &AdminCx<'_>, request: &Request<'_>) -> Response {
    let Some(command) = commands::COMMANDS.iter().find(|c| c.path == request.route()) else {
        return Response::text(404, help::not_found());
    };
    if command.mutates && request.method != "POST" {
        let (path, method) = (request.path, request.method);
        log!(Admin, Error, "admin path \"{path}\" mutates state, method={method} rather than POST");
        return Response::text(405, format!("Method {method} not allowed, POST required."));
    }
    (command.handler)(cx, request)
}
