//! Checks that Envoy makes in code, and that hold for a message wherever it stands.

use super::{Step, Validator, ViolationKind};
use crate::extensions;
use crate::schema::{self, Message};
use crate::wire::{Wire, any_parts, last};
use std::sync::OnceLock;

/// Messages that hold an extension: a `name` and a `typed_config`.
const EXTENSION_POINTS: [&str; 13] = [
    "envoy.config.accesslog.v3.AccessLog",
    "envoy.config.accesslog.v3.ExtensionFilter",
    "envoy.config.cluster.v3.Cluster.CustomClusterType",
    "envoy.config.core.v3.HealthCheck.CustomHealthCheck",
    "envoy.config.core.v3.TransportSocket",
    "envoy.config.listener.v3.Filter",
    "envoy.config.listener.v3.ListenerFilter",
    "envoy.config.metrics.v3.StatsSink",
    "envoy.config.overload.v3.ResourceMonitor",
    "envoy.config.route.v3.RetryPolicy.RetryHostPredicate",
    "envoy.config.route.v3.RetryPolicy.RetryPriority",
    "envoy.config.trace.v3.Tracing.Http",
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter",
];

/// What is special about a message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Special {
    Nothing,
    /// Its fields are not loaded in the order of declaration.
    StaticResources,
    /// A percentage, which must be a number.
    Percent,
    /// It holds an extension.
    ExtensionPoint,
}

/// What is special about a message.
pub(super) fn of(message: &'static Message) -> Special {
    static TABLE: OnceLock<Vec<Special>> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        let special = |message: &Message| match message.name() {
            "envoy.config.bootstrap.v3.Bootstrap.StaticResources" => Special::StaticResources,
            "envoy.type.v3.Percent" => Special::Percent,
            name if EXTENSION_POINTS.contains(&name) => Special::ExtensionPoint,
            _ => Special::Nothing,
        };
        schema::messages().iter().map(special).collect()
    });
    table.get(message.id()).copied().unwrap_or(Special::Nothing)
}

impl Validator {
    pub(super) fn special(&mut self, message: &'static Message, bytes: &[u8]) {
        // Envoy makes these checks when it uses a message, after the rules of the whole.
        let marker = self.marker;
        self.order[marker] = 1;
        self.order.push(u32::MAX);
        match of(message) {
            Special::Nothing | Special::StaticResources => {}
            Special::Percent => {
                if let Some(Wire::Eight(bits)) = last(bytes, 1, 1)
                    && f64::from_bits(bits).is_nan()
                {
                    self.report(ViolationKind::Rule, "Value not in the range of 0..100 range.".to_string());
                    self.extend(&[Step::Field("value".into())]);
                }
            }
            Special::ExtensionPoint => self.extension(message, bytes),
        }
        self.order.pop();
        self.order[marker] = 0;
    }

    /// An extension is found by the type of its configuration. Whether Nuncio has it is for those who make it to say;
    /// here only what Envoy cannot have is refused.
    fn extension(&mut self, message: &'static Message, bytes: &[u8]) {
        let number = |name: &str| message.field(name).map(|field| field.number);
        let Some(typed_config) = number("typed_config") else { return };
        // Extension configuration discovery brings the type later.
        if number("config_discovery").is_some_and(|discovery| last(bytes, discovery, 2).is_some()) {
            return;
        }
        let (url, _) = any_parts(last(bytes, typed_config, 2).map_or(&[], Wire::bytes));
        let known = match schema::message_of_url(url) {
            Some(known) if known.kind == schema::Kind::TypedStruct => true,
            Some(_) => extensions::by_type_url(url).next().is_some(),
            // Not in the schema, so from a control plane that knows more than we do: for those who make it.
            None => !url.is_empty(),
        };
        if known {
            return;
        }
        let name = number("name").and_then(|name| last(bytes, name, 2)).map_or(&[][..], Wire::bytes);
        self.report(ViolationKind::Rule, extensions::unregistered(&String::from_utf8_lossy(name), url));
        self.extend(&[Step::Field("typed_config".into())]);
    }

    fn extend(&mut self, steps: &[Step]) {
        if let Some(violation) = self.violations.last_mut() {
            violation.path.extend_from_slice(steps);
        }
    }
}

/// When a field is checked: plain fields in their order, then oneofs. Envoy makes clusters before listeners.
pub(super) fn rank(message: &'static Message, index: usize) -> u32 {
    let field = &message.fields()[index];
    if of(message) == Special::StaticResources {
        return match field.name() {
            "secrets" => 1,
            "clusters" => 2,
            _ => 3,
        };
    }
    (field.oneof().map_or(index, |oneof| message.fields().len() + oneof) + 1) as u32
}
