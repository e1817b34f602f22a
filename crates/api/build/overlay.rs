//! Fields of Envoy 1.40.0 that are newer than the protos we compile (`protos/fields.tsv`).

use crate::Error;
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto};
use protox::file::File;
use std::path::Path;

/// One line of the file: the message, the field's declaration as proto text (with absolute type names), and the
/// import that it needs, if any.
struct Addition {
    message: String,
    field: FieldDescriptorProto,
    import: Option<String>,
}

/// All additions.
pub struct Overlay {
    additions: Vec<Addition>,
}

impl Overlay {
    /// Reads tab-separated lines `message  declaration  [import]`; `#` begins a comment line.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let mut additions = Vec::new();
        for line in std::fs::read_to_string(path)?.lines() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut columns = line.split('\t');
            let (Some(message), Some(declaration)) = (columns.next(), columns.next()) else {
                return Err(format!("{}: two columns wanted: {line}", path.display()).into());
            };
            let source = format!("syntax = \"proto3\";\nmessage M {{ {declaration} }}");
            let parsed = File::from_source("addition.proto", &source)?;
            let field = parsed.file_descriptor_proto().message_type[0].field[0].clone();
            additions.push(Addition {
                message: message.to_string(),
                field,
                import: columns.next().map(str::to_string),
            });
        }
        Ok(Self { additions })
    }

    /// Adds to `file` what belongs there. A field that the message already has is left alone, so that a newer carrier
    /// package needs no change here.
    pub fn apply(&self, file: &mut FileDescriptorProto) {
        let package = file.package().to_string();
        for addition in &self.additions {
            let Some(path) = addition.message.strip_prefix(&package).and_then(|rest| rest.strip_prefix('.'))
            else {
                continue;
            };
            let Some(message) = find(&mut file.message_type, path) else { continue };
            if message.field.iter().any(|field| field.number() == addition.field.number()) {
                continue;
            }
            message.field.push(addition.field.clone());
            if let Some(import) = addition.import.as_ref().filter(|import| !file.dependency.contains(import))
            {
                file.dependency.push(import.clone());
            }
        }
    }
}

fn find<'a>(messages: &'a mut [DescriptorProto], path: &str) -> Option<&'a mut DescriptorProto> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let message = messages.iter_mut().find(|message| message.name() == first)?;
    match rest {
        Some(rest) => find(&mut message.nested_type, rest),
        None => Some(message),
    }
}
