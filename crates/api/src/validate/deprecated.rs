//! Deprecated fields and enum values.
//!
//! Envoy warns of them. A few it refuses, but not in the bootstrap itself: the runtime, which could allow them, is not
//! there yet when that is checked.

use super::{Step, Validator, ViolationKind};
use crate::schema::{Field, Message};

const VERSION_HISTORY: &str = "Please see https://www.envoyproxy.io/docs/envoy/latest/version_history/version_history \
                               for details. If continued use of this field is absolutely necessary, see \
                               https://www.envoyproxy.io/docs/envoy/latest/configuration/operations/\
                               runtime#using-runtime-overrides-for-deprecated-features for how to apply a temporary \
                               and highly discouraged override.";

impl Validator {
    /// A deprecated field is set.
    pub(super) fn deprecated_field(&mut self, message: &'static Message, field: &'static Field) {
        let (owner, name, file) = (message.name(), field.name(), message.file());
        let text = format!(
            "type {owner} Using deprecated option '{owner}.{name}' from file {file}. This configuration will be \
             removed from Envoy soon. {VERSION_HISTORY}"
        );
        self.deprecated(message, field, field.disallowed(), text);
    }

    /// An enum has a value that may be deprecated.
    pub(super) fn deprecated_value(
        &mut self,
        message: &'static Message,
        field: &'static Field,
        number: i32,
        default: bool,
    ) {
        let value = field.ty.enumeration().and_then(|known| known.value(number));
        let Some(value) = value.filter(|value| value.deprecated()) else { return };
        let (owner, name, file) = (message.name(), field.name(), message.file());
        let (the_default, set) = match default {
            true => ("the default now-", " so a non-default value must now be explicitly set"),
            false => ("", ""),
        };
        let text = format!(
            "type {owner} Using {the_default}deprecated value {} for enum '{owner}.{name}' from file {file}. This enum \
             value will be removed from Envoy soon{set}. {VERSION_HISTORY}",
            value.name()
        );
        self.deprecated(message, field, value.disallowed(), text);
    }

    fn deprecated(
        &mut self,
        message: &'static Message,
        field: &'static Field,
        disallowed: bool,
        text: String,
    ) {
        let refused = disallowed && self.root > 0;
        if !refused && !self.deprecated.insert((message.id(), field.number)) {
            return;
        }
        let before = self.violations.len();
        match refused {
            true => self.report_early(ViolationKind::Rule, &[0, 1], text),
            false => {
                self.report_early(ViolationKind::Deprecated, &[0, 1], format!("Deprecated field: {text}"));
            }
        }
        if let Some(violation) = self.violations.get_mut(before) {
            violation.path.push(Step::Field(field.name().into()));
        }
    }
}
