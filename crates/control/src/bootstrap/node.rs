//! The node: who this proxy is.

use crate::options::Options;
use crate::version;
use nuncio_api::envoy::config::core::v3 as core;
use nuncio_api::envoy::r#type::v3::SemanticVersion;
use nuncio_core::filter::NodeInfo;
use nuncio_core::registry::Registry;
use prost_types::value::Kind;
use serde_json::{Map, Value, json};

/// The node in its forms.
pub struct Node {
    /// The message: the configuration's, the command line's words, and what this build says of itself.
    pub message: core::Node,
    /// What filters and formatters need.
    pub info: NodeInfo,
    /// As `/server_info` prints it.
    pub json: Value,
}

/// Completes the node of the configuration.
pub fn node(configured: Option<&core::Node>, options: &Options, registry: &Registry) -> Node {
    let mut n = configured.cloned().unwrap_or_default();
    let given = |text: &String| (!text.is_empty()).then(|| text.clone());
    n.id = given(&options.service_node).unwrap_or(n.id);
    n.cluster = given(&options.service_cluster).unwrap_or(n.cluster);
    if let Some(zone) = given(&options.service_zone) {
        n.locality.get_or_insert_default().zone = zone;
    }
    n.user_agent_name = "envoy".to_owned();
    let (major_number, minor_number, patch) = version::ENVOY;
    let text = |s: &str| prost_types::Value { kind: Some(Kind::StringValue(s.to_owned())) };
    let facts = [
        ("build.type", version::build_type()),
        ("revision.sha", version::sha()),
        ("revision.status", version::status()),
        ("ssl.version", version::SSL),
    ];
    n.user_agent_version_type =
        Some(core::node::UserAgentVersionType::UserAgentBuildVersion(core::BuildVersion {
            version: Some(SemanticVersion { major_number, minor_number, patch }),
            metadata: Some(prost_types::Struct {
                fields: facts.map(|(k, v)| (k.to_owned(), text(v))).into(),
            }),
        }));
    n.extensions = registry
        .iter()
        .map(|(kind, e)| core::Extension {
            name: e.name.to_owned(),
            category: kind.category().to_owned(),
            type_urls: e.types.clone(),
            ..Default::default()
        })
        .collect();
    let locality = n.locality.clone().unwrap_or_default();
    let info = NodeInfo {
        id: n.id.clone(),
        cluster: n.cluster.clone(),
        zone: locality.zone.clone(),
        locality: [locality.region, locality.zone, locality.sub_zone].into(),
    };
    let json = to_json(&n);
    Node { message: n, info, json }
}

/// As protobuf prints it with default values.
fn to_json(n: &core::Node) -> Value {
    let (major_number, minor_number, patch) = version::ENVOY;
    let mut o = Map::new();
    o.insert("id".into(), n.id.clone().into());
    o.insert("cluster".into(), n.cluster.clone().into());
    if let Some(m) = &n.metadata {
        o.insert("metadata".into(), struct_json(m));
    }
    if let Some(l) = &n.locality {
        o.insert("locality".into(), json!({"region": l.region, "zone": l.zone, "sub_zone": l.sub_zone}));
    }
    o.insert("user_agent_name".into(), n.user_agent_name.clone().into());
    o.insert(
        "user_agent_build_version".into(),
        json!({
            "version": {"major_number": major_number, "minor_number": minor_number, "patch": patch},
            "metadata": {
                "build.type": version::build_type(),
                "revision.sha": version::sha(),
                "revision.status": version::status(),
                "ssl.version": version::SSL,
            },
        }),
    );
    let extension = |e: &core::Extension| {
        json!({
            "name": e.name,
            "category": e.category,
            "type_descriptor": "",
            "disabled": e.disabled,
            "type_urls": e.type_urls,
        })
    };
    o.insert("extensions".into(), n.extensions.iter().map(extension).collect());
    o.insert("client_features".into(), n.client_features.clone().into());
    o.insert("listening_addresses".into(), json!([]));
    o.insert("dynamic_parameters".into(), json!({}));
    Value::Object(o)
}

fn struct_json(s: &prost_types::Struct) -> Value {
    Value::Object(s.fields.iter().map(|(k, v)| (k.clone(), value_json(v))).collect())
}

/// Nesting is bounded by the configuration engine.
fn value_json(v: &prost_types::Value) -> Value {
    match &v.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::NumberValue(n)) if n.fract() == 0.0 && n.abs() < 9e15 => (*n as i64).into(),
        Some(Kind::NumberValue(n)) => (*n).into(),
        Some(Kind::StringValue(s)) => s.clone().into(),
        Some(Kind::BoolValue(b)) => (*b).into(),
        Some(Kind::StructValue(s)) => struct_json(s),
        Some(Kind::ListValue(l)) => l.values.iter().map(value_json).collect(),
    }
}
