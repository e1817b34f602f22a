//! The matcher form of RBAC: a tree whose leaves are named actions.

use nuncio_api::envoy::config::rbac::v3 as pb;
use nuncio_api::xds::core::v3::TypedExtensionConfig;
use nuncio_core::cel::Program;
use nuncio_core::match_input::{Input, Source, holds};
use nuncio_core::match_tree::{Kind, Value};
use nuncio_core::{BuildError, BuildResult, Exchange};
use pb::rbac::Action;
use prost::{Message, Name};
use std::cell::Cell;

/// RBAC's trees.
#[derive(Default)]
pub struct Rbac {
    /// One of the actions is LOG.
    pub has_log: Cell<bool>,
    /// The rules are those of the network filter.
    connections: bool,
}

impl Rbac {
    /// Trees of the network filter.
    pub fn of_connections() -> Rbac {
        Rbac { connections: true, ..Rbac::default() }
    }
}

/// `envoy.config.rbac.v3.Action`
pub struct Named {
    /// Its name, which counts as that of a policy.
    pub name: String,
    /// What becomes of the request.
    pub action: Action,
}

impl Kind for Rbac {
    type Input = Input;
    type Action = Named;
    type Data<'d> = Exchange;

    fn input(&self, c: &TypedExtensionConfig) -> BuildResult<Input> {
        match Input::new(c)? {
            Some(Input::Header(_)) if self.connections => {}
            Some(input) if !input.is_of_response() && !matches!(input, Input::QueryParameter(_)) => {
                return Ok(input);
            }
            _ => {}
        }
        let filter = if self.connections { "network" } else { "HTTP" };
        let url = c.typed_config.as_ref().map_or("", |a| &a.type_url);
        Err(BuildError(format!(
            "requirement violation while creating RBAC match tree: INVALID_ARGUMENT: RBAC {filter} filter cannot match on '{url}'"
        )))
    }

    fn action(&self, c: &TypedExtensionConfig) -> BuildResult<Named> {
        let any = c.typed_config.as_ref().ok_or("field: \"typed_config\", reason: is required")?;
        let ty = any.type_url.rsplit('/').next().unwrap_or_default();
        if ty != pb::Action::full_name() {
            return Err(BuildError(nuncio_api::extensions::unregistered(&c.name, ty)));
        }
        let a = pb::Action::decode(&*any.value).map_err(|e| BuildError(e.to_string()))?;
        self.has_log.set(self.has_log.get() || a.action() == Action::Log);
        Ok(Named { action: a.action(), name: a.name })
    }

    fn value<'a>(input: &Input, ex: &'a Exchange) -> Value<'a> {
        input.value(&Source { request: &ex.request, response: None, sx: &ex.sx })
    }
    fn is_attributes(input: &Input) -> bool {
        matches!(input, Input::Attributes)
    }
    fn holds(program: &Program, ex: &Exchange) -> bool {
        holds(program, &Source { request: &ex.request, response: None, sx: &ex.sx })
    }
}
