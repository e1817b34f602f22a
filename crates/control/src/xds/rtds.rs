//! A layer of the runtime from a control plane.

use crate::server::Server;
use nuncio_api::envoy::service::runtime::v3::Runtime;
use nuncio_core::coverage::Covered;
use nuncio_core::discovery::{Removed, Subscriber, Update};
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::filter::BuildCx;
use nuncio_core::init::Target;
use prost::Message;
use std::cell::RefCell;
use std::rc::{Rc, Weak};

/// What is read of a layer's resource.
pub const COVERED: &[Covered] = &[Covered::new("envoy.service.runtime.v3.Runtime", &["name", "layer"])];

/// See the module.
pub struct Rtds {
    server: Weak<Server>,
    layer: String,
    resource: String,
    waiting: RefCell<Option<Target>>,
}

impl Rtds {
    /// Fills the layer of this name with a resource; `waiting` ends with the first response.
    pub fn new(server: &Rc<Server>, layer: &str, resource: &str, waiting: Target) -> Rc<Rtds> {
        Rc::new(Rtds {
            server: Rc::downgrade(server),
            layer: layer.to_owned(),
            resource: resource.to_owned(),
            waiting: RefCell::new(Some(waiting)),
        })
    }
    fn ready(&self) {
        let waiting = self.waiting.take();
        drop(waiting);
    }
}

impl Subscriber for Rtds {
    fn update(&self, u: &Update<'_>, _: &BuildCx<'_>) -> BuildResult<()> {
        let Some(server) = self.server.upgrade() else { return Ok(()) };
        let values = match (u.resources.first(), u.removed) {
            (Some(r), _) => {
                let r = Runtime::decode(&*r.bytes)
                    .map_err(|e| BuildError(format!("Unable to parse protobuf: {e}")))?;
                if r.name != self.resource {
                    let (expected, got) = (&self.resource, &r.name);
                    return Err(format!("Unexpected RTDS runtime (expecting {expected}): {got}").into());
                }
                r.layer.unwrap_or_default()
            }
            (None, Removed::Others) => return Err("Unexpected RTDS resource length: 0".into()),
            (None, Removed::Named(_)) => Default::default(),
        };
        server.runtime.set_layer(&self.layer, &values)?;
        self.ready();
        Ok(())
    }
    fn give_up(&self) {
        self.ready();
    }
}
