//! What is marked as work in progress: Envoy warns of it and counts it.

use super::{Step, Validator, ViolationKind};
use crate::schema::{Field, Message};

const WARNING: &str = "API features marked as work-in-progress are not considered stable, are not covered by the threat \
                       model, are not supported by the security team, and are subject to breaking changes. Do not use \
                       this feature without understanding each of the previous points.";

/// Where Envoy asks an extension whether it ends the chain before it makes it: it checks its configuration both times.
const CHECKED_TWICE: [&str; 2] = [
    "envoy.config.listener.v3.Filter",
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter",
];

impl Validator {
    /// How often Envoy checks the message in the `Any` that is being checked.
    pub(super) fn looks_at_any(&self) -> usize {
        let holder = self.frames.last().map_or("", |frame| frame.message.name());
        if CHECKED_TWICE.contains(&holder) { 2 } else { 1 }
    }

    pub(super) fn message_in_progress(&mut self, message: &'static Message) {
        let name = message.name();
        if message.in_progress() {
            self.in_progress(None, &format!("message '{name}' is marked as work-in-progress. {WARNING}"));
        }
        if message.in_file_in_progress() {
            let file = message.path();
            let text = format!(
                "message '{name}' is contained in proto file '{file}' marked as work-in-progress. {WARNING}"
            );
            self.in_progress(None, &text);
        }
    }

    pub(super) fn field_in_progress(&mut self, message: &'static Message, field: &'static Field) {
        let (owner, name) = (message.name(), field.name());
        let text = format!("field '{owner}.{name}' is marked as work-in-progress. {WARNING}");
        self.in_progress(Some(name), &text);
    }

    fn in_progress(&mut self, field: Option<&'static str>, text: &str) {
        for _ in 0..self.looks {
            let before = self.violations.len();
            self.report(ViolationKind::InProgress, text.to_owned());
            if let (Some(violation), Some(field)) = (self.violations.get_mut(before), field) {
                violation.path.push(Step::Field(field.into()));
            }
        }
    }
}
