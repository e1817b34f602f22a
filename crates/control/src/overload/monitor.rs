//! Resource monitors: what the pressure on a resource is.

use crate::server::memory;
use nuncio_api::envoy::config::overload::v3 as pb;
use nuncio_api::envoy::extensions::resource_monitors as m;
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::registry::{Docs, Kind, Registry};
use nuncio_core::runtime::{Runtime, RuntimeNumber};
use pb::resource_monitor::ConfigType;
use prost::{Message, Name};
use std::path::PathBuf;

/// The name by which Envoy tells the limit of connections from other monitors.
pub const CONNECTIONS: &str = "envoy.resource_monitors.global_downstream_max_connections";

/// A monitor as configured.
pub enum Built {
    /// Asked at every interval.
    Asked(Box<dyn Monitor>),
    /// Decides by itself, connection by connection.
    Connections(u64),
}

/// Tells how much of a resource is in use.
pub trait Monitor {
    /// The part in use; 1 is all of it.
    ///
    /// # Errors
    /// It cannot be told, with the reason.
    fn pressure(&mut self) -> Result<f64, String>;
}

type Make = fn(&[u8], &Runtime) -> BuildResult<Built>;

/// Registers the monitors.
pub fn register(r: &mut Registry) {
    let mut add = |name, ty: String, text, make: Make| {
        r.insert(Kind::ResourceMonitor, name, vec![ty], Docs { text, example: "" }, make);
    };
    add(
        "envoy.resource_monitors.fixed_heap",
        m::fixed_heap::v3::FixedHeapConfig::full_name(),
        "How much of `max_heap_size_bytes` the process uses (its anonymous memory).",
        |c, rt| Ok(Built::Asked(Box::new(FixedHeap::new(decode(c)?, rt)?))),
    );
    add(
        CONNECTIONS,
        m::downstream_connections::v3::DownstreamConnectionsConfig::full_name(),
        "Limits the connections of clients, of all listeners together.",
        |c, _| {
            let c: m::downstream_connections::v3::DownstreamConnectionsConfig = decode(c)?;
            Ok(Built::Connections(c.max_active_downstream_connections.unsigned_abs()))
        },
    );
    add(
        "envoy.resource_monitors.cgroup_memory",
        m::cgroup_memory::v3::CgroupMemoryConfig::full_name(),
        "How much of the memory of its control group (version 1 or 2), or of `max_memory_bytes`, the process uses.",
        |c, _| Ok(Built::Asked(Box::new(CgroupMemory::new(&decode(c)?)?))),
    );
    add(
        "envoy.resource_monitors.injected_resource",
        m::injected_resource::v3::InjectedResourceConfig::full_name(),
        "Reads the pressure, a number from 0 to 1, from a file: for tests.",
        |c, _| {
            let c: m::injected_resource::v3::InjectedResourceConfig = decode(c)?;
            Ok(Built::Asked(Box::new(Injected(c.filename.into()))))
        },
    );
}

fn decode<M: Message + Default>(bytes: &[u8]) -> BuildResult<M> {
    M::decode(bytes).map_err(|e| BuildError(e.to_string()))
}

/// Builds a monitor.
///
/// # Errors
/// It is unknown, or refuses its configuration.
pub fn build(c: &pb::ResourceMonitor, registry: &Registry, runtime: &Runtime) -> BuildResult<Built> {
    let none = prost_types::Any::default();
    let any = c.config_type.as_ref().map_or(&none, |ConfigType::TypedConfig(any)| any);
    let make: Make = registry.find(Kind::ResourceMonitor, &c.name, &any.type_url)?;
    make(&any.value, runtime)
}

struct FixedHeap(RuntimeNumber);

impl FixedHeap {
    fn new(c: m::fixed_heap::v3::FixedHeapConfig, runtime: &Runtime) -> BuildResult<FixedHeap> {
        let max = match c.max_heap_size_bytes_runtime {
            Some(r) => runtime.number(&r.runtime_key, r.default_value),
            None => RuntimeNumber::fixed(c.max_heap_size_bytes),
        };
        match max.get() {
            0 => Err("max_heap_size_bytes must be greater than 0".into()),
            _ => Ok(FixedHeap(max)),
        }
    }
}

impl Monitor for FixedHeap {
    fn pressure(&mut self) -> Result<f64, String> {
        Ok(memory::usage().allocated as f64 / self.0.get().max(1) as f64)
    }
}

/// Usage and limit of the control group, in the files of version 2 or else of version 1.
struct CgroupMemory {
    usage: &'static str,
    limit: &'static str,
    /// `max_memory_bytes`; 0 leaves it to the group.
    max: u64,
}

/// Where control groups say what memory is used and what is allowed.
const CGROUP_FILES: [(&str, &str); 2] = [
    ("/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.max"),
    ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "/sys/fs/cgroup/memory/memory.limit_in_bytes"),
];

impl CgroupMemory {
    fn new(c: &m::cgroup_memory::v3::CgroupMemoryConfig) -> BuildResult<CgroupMemory> {
        let found = CGROUP_FILES.iter().find(|(usage, _)| std::path::Path::new(usage).exists());
        let (usage, limit) = *found.ok_or("No supported cgroup memory implementation found")?;
        Ok(CgroupMemory { usage, limit, max: c.max_memory_bytes })
    }
}

fn number(path: &str) -> Result<u64, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("Unable to read {path}: {e}"))?;
    match text.trim() {
        "max" => Ok(u64::MAX),
        n => n.parse().map_err(|_| format!("Unable to parse {path}: {n}")),
    }
}

impl Monitor for CgroupMemory {
    fn pressure(&mut self) -> Result<f64, String> {
        let limit = number(self.limit)?;
        let limit = if self.max == 0 { limit } else { limit.min(self.max) };
        Ok(number(self.usage)? as f64 / limit.max(1) as f64)
    }
}

struct Injected(PathBuf);

impl Monitor for Injected {
    fn pressure(&mut self) -> Result<f64, String> {
        let text = std::fs::read_to_string(&self.0).map_err(|e| e.to_string())?;
        match text.trim().parse::<f64>() {
            Ok(p) if (0.0..=1.0).contains(&p) => Ok(p),
            Ok(_) => Err("pressure out of range".into()),
            Err(_) => Err("failed to parse injected resource pressure".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heaps_have_a_size() {
        let rt = Runtime::new(vec![]);
        let c = |max| m::fixed_heap::v3::FixedHeapConfig { max_heap_size_bytes: max, ..Default::default() };
        assert!(FixedHeap::new(c(0), &rt).is_err());
        let mut small = FixedHeap::new(c(1), &rt).expect("a size");
        let mut large = FixedHeap::new(c(1 << 60), &rt).expect("a size");
        assert!(small.pressure().expect("told") > 1.0 && large.pressure().expect("told") < 0.01);
    }

    #[test]
    fn injected_from_a_file() {
        let path = std::env::temp_dir().join(format!("nuncio-pressure-{}", std::process::id()));
        let mut m = Injected(path.clone());
        assert!(m.pressure().is_err());
        for (text, told) in [("0.75\n", Ok(0.75)), ("2", Err("pressure out of range".to_owned()))] {
            std::fs::write(&path, text).expect("written");
            assert_eq!(m.pressure(), told);
        }
        std::fs::write(&path, "much").expect("written");
        assert_eq!(m.pressure(), Err("failed to parse injected resource pressure".to_owned()));
        std::fs::remove_file(&path).expect("removed");
    }
}
