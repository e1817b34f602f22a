//! The listeners of a control plane as `/config_dump` shows them: one entry by name, with every state it is in.

use nuncio_api::envoy::admin::v3 as admin;
use nuncio_api::envoy::admin::v3::listeners_config_dump::{DynamicListener, DynamicListenerState};
use nuncio_engine::ListenerManager;
use nuncio_engine::listener::manager::ListenerEntry;
use prost::{Message, Name};
use std::time::{SystemTime, UNIX_EPOCH};

/// Those that are active, warming or draining, and those whose last update was refused.
pub fn listeners(manager: &ListenerManager) -> Vec<DynamicListener> {
    let mut all: Vec<DynamicListener> = Vec::new();
    let (active, warming, draining) = (manager.list(), manager.list_warming(), manager.list_draining());
    let of_api = |l: &&std::rc::Rc<ListenerEntry>| l.revision.version.is_some();
    for l in active.iter().filter(of_api) {
        entry(&mut all, &l.plan.info.name).active_state = Some(state(l));
    }
    for l in warming.iter().filter(of_api) {
        entry(&mut all, &l.plan.info.name).warming_state = Some(state(l));
    }
    for l in draining.iter().filter(of_api) {
        entry(&mut all, &l.plan.info.name).draining_state = Some(state(l));
    }
    for (name, f) in manager.failures() {
        entry(&mut all, &name).error_state = Some(admin::UpdateFailureState {
            failed_configuration: Some(any(&f.config)),
            last_update_attempt: Some(timestamp(f.at)),
            details: f.details,
            ..Default::default()
        });
    }
    all
}

fn entry<'a>(all: &'a mut Vec<DynamicListener>, name: &str) -> &'a mut DynamicListener {
    let at = all.iter().position(|l| l.name == name).unwrap_or_else(|| {
        all.push(DynamicListener { name: name.to_owned(), ..Default::default() });
        all.len() - 1
    });
    &mut all[at]
}

fn state(l: &ListenerEntry) -> DynamicListenerState {
    DynamicListenerState {
        version_info: l.revision.version.as_deref().unwrap_or_default().to_owned(),
        listener: Some(any(&l.config.get())),
        last_updated: Some(timestamp(l.revision.updated)),
    }
}

fn any<M: Message + Name>(m: &M) -> prost_types::Any {
    prost_types::Any { type_url: M::type_url(), value: m.encode_to_vec() }
}

/// In milliseconds, as Envoy shows times.
fn timestamp(t: SystemTime) -> prost_types::Timestamp {
    let since = t.duration_since(UNIX_EPOCH).unwrap_or_default();
    prost_types::Timestamp {
        seconds: since.as_secs().try_into().unwrap_or(i64::MAX),
        nanos: (since.subsec_millis() * 1_000_000) as i32,
    }
}
