//! The way in: a configuration file, or the text of one message.
//!
//! A text becomes a tree, the tree protobuf bytes, the bytes are checked and then decoded. All errors are collected, with
//! Envoy's phrase, the place in the file, the path in the message and what was probably meant.

use crate::encode::encode;
use crate::envoy::config::bootstrap::v3::Bootstrap;
use crate::error::{ConfigError, ConfigErrors, Severity, Stage};
use crate::schema::{self, Kind, Message as Schema};
use crate::text;
use crate::tree::{Node, Position, Tree, Value, parse_json, parse_yaml};
use crate::validate::{Step, Violation, validate};
use crate::wire::{Wire, put_delimited, put_tag, put_value, records};
use bytes::Bytes;
use prost::{Message, Name};
use std::path::Path;

/// How a message is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// YAML, as Envoy reads it.
    Yaml,
    /// JSON.
    Json,
    /// Protobuf's binary form.
    Binary,
    /// Protobuf's text form.
    Text,
}

impl Format {
    /// The format that Envoy sees in a file's extension: `.pb`, `.pb_text`, `.yaml` and `.yml` in any case, and JSON for
    /// every other.
    pub fn of_path(path: &Path) -> Self {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        match extension.to_ascii_lowercase().as_str() {
            "yaml" | "yml" => Self::Yaml,
            "pb" => Self::Binary,
            "pb_text" => Self::Text,
            _ => Self::Json,
        }
    }
}

/// What to do with fields that the schema does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownFields {
    /// Refuse them: the default for static configuration.
    #[default]
    Refuse,
    /// Leave them out: `--allow-unknown-static-fields`, and the default for what xDS brings.
    Ignore,
}

/// Where the bootstrap comes from.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoadOptions<'a> {
    /// `--config-path`.
    pub path: Option<&'a Path>,
    /// `--config-yaml`, merged over the file.
    pub yaml: Option<&'a str>,
    /// `--allow-unknown-static-fields`, `--ignore-unknown-dynamic-fields` and their like.
    pub unknown_fields: UnknownFields,
}

/// A configuration that is right.
#[derive(Clone, Debug)]
pub struct Loaded<M> {
    /// The message.
    pub message: M,
    /// The same as protobuf bytes, e.g. for `/config_dump`.
    pub wire: Vec<u8>,
    /// What is right but deprecated or work in progress, or was left out.
    pub warnings: Vec<ConfigError>,
}

/// Loads a bootstrap as Envoy does.
///
/// # Errors
/// Everything that is wrong with it; [`ConfigErrors::envoy_phrase`] is what Envoy would print.
pub fn load_bootstrap(options: &LoadOptions<'_>) -> Result<Loaded<Bootstrap>, ConfigErrors> {
    let (wire, warnings) = read_bootstrap(options)?;
    Ok(Loaded { message: Bootstrap::decode(wire.as_slice()).map_err(|e| undecodable(&e))?, wire, warnings })
}

/// A bootstrap that is right. Listeners and clusters, of which there may be ten thousand, are still encoded: whoever
/// builds them one after the other needs the memory of one.
#[derive(Clone, Debug)]
pub struct LoadedParts {
    /// The message without `static_resources.listeners` and `static_resources.clusters`.
    pub message: Bootstrap,
    /// `static_resources.listeners`, each encoded; they share the memory of `wire`.
    pub listeners: Vec<Bytes>,
    /// `static_resources.clusters`, likewise.
    pub clusters: Vec<Bytes>,
    /// The whole message as protobuf bytes.
    pub wire: Bytes,
    /// What is right but deprecated or work in progress, or was left out.
    pub warnings: Vec<ConfigError>,
}

/// Loads a bootstrap as [`load_bootstrap`] does, in parts.
///
/// # Errors
/// As of [`load_bootstrap`].
pub fn load_bootstrap_parts(options: &LoadOptions<'_>) -> Result<LoadedParts, ConfigErrors> {
    let (wire, warnings) = read_bootstrap(options)?;
    let wire = Bytes::from(wire);
    let schema = schema_of::<Bootstrap>()?;
    let number = |message: &Schema, field| message.field(field).map_or(0, |field| field.number);
    let fixed = number(schema, "static_resources");
    let fixed_schema = schema.field("static_resources").and_then(|field| field.ty.message());
    let [listener, cluster] =
        ["listeners", "clusters"].map(|field| fixed_schema.map_or(0, |message| number(message, field)));
    let (mut rest, mut listeners, mut clusters) = (Vec::new(), Vec::new(), Vec::new());
    for (field, value) in records(&wire).flatten() {
        put_tag(&mut rest, field, value.wire_type());
        match value {
            Wire::Bytes(resources) if field == fixed => put_delimited(&mut rest, |rest| {
                for (field, value) in records(resources).flatten() {
                    match value {
                        Wire::Bytes(bytes) if field == listener => listeners.push(wire.slice_ref(bytes)),
                        Wire::Bytes(bytes) if field == cluster => clusters.push(wire.slice_ref(bytes)),
                        _ => {
                            put_tag(rest, field, value.wire_type());
                            put_value(rest, value);
                        }
                    }
                }
            }),
            _ => put_value(&mut rest, value),
        }
    }
    let message = Bootstrap::decode(rest.as_slice()).map_err(|error| undecodable(&error))?;
    Ok(LoadedParts { message, listeners, clusters, wire, warnings })
}

fn read_bootstrap(options: &LoadOptions<'_>) -> Result<(Vec<u8>, Vec<ConfigError>), ConfigErrors> {
    let yaml = options.yaml.filter(|yaml| !yaml.is_empty());
    let path = options.path.filter(|path| !path.as_os_str().is_empty());
    if yaml.is_none() && path.is_none() {
        let phrase =
            "At least one of --config-path or --config-yaml or Options::configProto() should be non-empty";
        return Err(ConfigError::new(Stage::Text, phrase).into());
    }
    let file;
    let name = path.map(|path| path.display().to_string()).unwrap_or_default();
    let mut sources = Vec::new();
    if let Some(path) = path {
        file = match std::fs::read(path) {
            Ok(bytes) => bytes,
            // Envoy reads a folder as an empty file.
            Err(e) if e.kind() == std::io::ErrorKind::IsADirectory => Vec::new(),
            Err(_) => return Err(ConfigError::new(Stage::Text, format!("Invalid path: {name}")).into()),
        };
        sources.push(Source { name: &name, bytes: &file, format: Format::of_path(path) });
    }
    if let Some(yaml) = yaml {
        sources.push(Source { name: "--config-yaml", bytes: yaml.as_bytes(), format: Format::Yaml });
    }
    read::<Bootstrap>(&sources, options.unknown_fields)
}

/// Reads one message. `source` names the text in errors.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse_message<M: Message + Name + Default>(
    bytes: &[u8],
    format: Format,
    source: &str,
    unknown_fields: UnknownFields,
) -> Result<Loaded<M>, ConfigErrors> {
    let (wire, warnings) = read::<M>(&[Source { name: source, bytes, format }], unknown_fields)?;
    Ok(Loaded { message: M::decode(wire.as_slice()).map_err(|error| undecodable(&error))?, wire, warnings })
}

/// The places of values in a YAML or JSON file, by their paths in the message (`static_resources.clusters[0].name`), each
/// that of the nearest value around it. For errors that are found after loading; the file is read again, once for all.
pub fn positions_in(file: &Path, message_paths: &[&str]) -> Vec<Option<Position>> {
    let nowhere = || vec![None; message_paths.len()];
    let Ok(text) = std::fs::read_to_string(file) else { return nowhere() };
    let tree = match Format::of_path(file) {
        Format::Yaml => parse_yaml(&text),
        Format::Json => parse_json(&text),
        Format::Binary | Format::Text => return nowhere(),
    };
    let Ok(tree) = tree else { return nowhere() };
    message_paths.iter().map(|path| Some(locate(&tree, &Step::parse_path(path)).position())).collect()
}

/// The schema of a generated type.
fn schema_of<M: Name>() -> Result<&'static Schema, ConfigErrors> {
    let name = M::full_name();
    schema::message(&name)
        .ok_or_else(|| ConfigError::new(Stage::Shape, format!("no schema of message {name}")).into())
}

/// One text of a message, and what to call it in errors.
struct Source<'a> {
    name: &'a str,
    bytes: &'a [u8],
    format: Format,
}

/// Reads a message from one source, or from several of which each is merged over those before: its bytes, and warnings.
fn read<M: Message + Name + Default>(
    sources: &[Source<'_>],
    unknown_fields: UnknownFields,
) -> Result<(Vec<u8>, Vec<ConfigError>), ConfigErrors> {
    let schema = schema_of::<M>()?;
    let mut wire = Vec::new();
    let mut errors = Vec::new();
    let mut trees = Vec::new();
    for source in sources {
        let (bytes, tree, found) = encode_source(schema, source)?;
        errors
            .extend(found.into_iter().map(|error| ConfigError { source: source.name.to_string(), ..error }));
        trees.push(tree);
        if wire.is_empty() {
            wire = bytes;
        } else {
            wire.extend_from_slice(&bytes);
        }
    }
    if sources.len() > 1 {
        // Protobuf's own merge: later scalars win, lists grow, messages merge. Then every field is there once.
        let merged = M::decode(wire.as_slice()).map_err(|error| undecodable(&error))?;
        wire = merged.encode_to_vec();
    }
    let tree = if trees.len() == 1 { trees.pop().flatten() } else { None };
    let mut warnings = Vec::new();
    let mut violations = validate(schema, &wire);
    violations.retain(|violation| !follows(violation, &errors));
    for violation in violations {
        let position = tree.as_ref().map(|tree| locate(tree, &violation.path).position());
        let source = sources.first().map_or("", |source| source.name).to_string();
        let error = ConfigError { position, source, ..violation.into_error() };
        match error.severity {
            Severity::Deprecated | Severity::InProgress => warnings.push(error),
            Severity::Refused | Severity::Unknown => errors.push(error),
        }
    }
    drop((tree, trees));

    let ignored =
        |error: &ConfigError| error.severity == Severity::Unknown && unknown_fields == UnknownFields::Ignore;
    let (unknown, errors): (Vec<_>, Vec<_>) = errors.into_iter().partition(ignored);
    warnings.extend(unknown);
    if !errors.is_empty() {
        return Err(ConfigErrors::new(errors));
    }
    if sources.iter().any(|source| source.format == Format::Binary) {
        // What was not encoded here may not be decodable.
        M::decode(wire.as_slice()).map_err(|error| undecodable(&error))?;
    }
    Ok((wire, warnings))
}

type Encoded<'a> = (Vec<u8>, Option<Tree<'a>>, Vec<ConfigError>);

/// The protobuf bytes of a source, its tree if it has one, and what is wrong with it. An error is one after which
/// nothing more can be said.
fn encode_source<'a>(schema: &'static Schema, source: &Source<'a>) -> Result<Encoded<'a>, ConfigErrors> {
    let named =
        |error: ConfigError| ConfigErrors::from(ConfigError { source: source.name.to_string(), ..error });
    if source.format == Format::Binary {
        return Ok((source.bytes.to_vec(), None, Vec::new()));
    }
    let text = std::str::from_utf8(source.bytes)
        .map_err(|error| named(ConfigError::new(Stage::Text, format!("the text is not UTF-8: {error}"))))?;
    let tree = match source.format {
        Format::Yaml => parse_yaml(text),
        Format::Json => parse_json(text),
        Format::Text | Format::Binary => {
            let (file, name) = (source.name, schema.name());
            let phrase = format!("Unable to parse file \"{file}\" as a text protobuf (type {name})");
            let wire = text::encode(schema, text).map_err(|error| {
                let phrase = format!("{phrase}: {}", error.reason);
                named(ConfigError { position: Some(error.position), ..ConfigError::new(Stage::Text, phrase) })
            })?;
            return Ok((wire, None, Vec::new()));
        }
    };
    let tree = tree.map_err(|error| named(error.into()))?;
    let (wire, errors) = encode(schema, tree.root());
    Ok((wire, Some(tree), errors))
}

fn undecodable(error: &prost::DecodeError) -> ConfigErrors {
    ConfigError::new(Stage::Shape, format!("Unable to parse protobuf: {error}")).into()
}

/// Whether a violation only says again what is wrong already: it is about a message of which something could not be
/// encoded, or about a value around or inside of that.
fn follows(violation: &Violation, errors: &[ConfigError]) -> bool {
    if errors.is_empty() {
        return false;
    }
    let path = violation.path_text();
    let parent = |path: &str| path.rsplit_once('.').map_or(0, |(parent, _)| parent.len());
    let holder = &path[..parent(&path)];
    errors.iter().any(|error| {
        // The path of an unknown field ends at the message that does not have it.
        error.path == holder
            || error.path[..parent(&error.path)] == *holder
            || is_inside(&path, &error.path)
            || is_inside(&error.path, &path)
    })
}

/// Whether a path is another, or goes on from it.
fn is_inside(path: &str, around: &str) -> bool {
    let rest = path.strip_prefix(around).filter(|_| !around.is_empty());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// The node at a path, or the nearest one around it.
fn locate<'t>(tree: &'t Tree<'_>, path: &[Step]) -> Node<'t> {
    let mut node = tree.root();
    let mut any = false;
    for step in path {
        let next = match (step, node.value()) {
            (Step::Field(name), Value::Map(_)) => by_name(node, name, any),
            (Step::Key(key), Value::Map(_)) => node.get(key),
            (Step::Index(index), Value::Seq(mut elements)) => elements.nth(*index as usize),
            // In the paths of the encoder, entries of maps are counted.
            (Step::Index(index), Value::Map(mut entries)) if *index > 0 => {
                entries.nth(*index as usize).map(|(_, value)| value)
            }
            // A lone value is a list of one.
            (Step::Index(0), _) | (Step::Any, _) => Some(node),
            _ => None,
        };
        let Some(next) = next else { return node };
        any = *step == Step::Any;
        node = next;
    }
    node
}

/// The value of a field in either spelling. What an `Any` holds may stand under `value`.
fn by_name<'t>(node: Node<'t>, name: &str, any: bool) -> Option<Node<'t>> {
    if any {
        let url = node.get("@type").map_or("", Node::text);
        let inner = schema::message_of_url(url).is_some_and(|message| message.kind != Kind::Plain);
        if inner && let Some(value) = node.get("value") {
            return by_name(value, name, false);
        }
    }
    let mut camel = String::with_capacity(name.len());
    let mut upper = false;
    for character in name.chars() {
        match character {
            '_' => upper = true,
            _ if upper => {
                camel.push(character.to_ascii_uppercase());
                upper = false;
            }
            _ => camel.push(character),
        }
    }
    node.get(name).or_else(|| node.get(&camel))
}
