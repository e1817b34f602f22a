//! Generates the prost structs.

use crate::{Error, layout};
use prost_reflect::DescriptorPool;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet};
use std::path::Path;

/// Bodies of other people's HTTP messages: shared, not copied.
const BYTES: [&str; 2] = [".envoy.service.ext_proc.v3.HttpBody", ".envoy.service.auth.v3"];

/// Writes `pb.rs`, which includes one file per package.
pub fn generate(pool: &DescriptorPool, out: &Path) -> Result<(), Error> {
    let mut file: Vec<_> =
        pool.file_descriptor_protos().filter(|file| !is_annotation(file.name())).cloned().collect();
    file.iter_mut().flat_map(|file| &mut file.message_type).for_each(undeprecate);
    file.iter_mut().flat_map(|file| &mut file.enum_type).for_each(undeprecate_enum);
    let mut config = prost_build::Config::new();
    config
        .out_dir(out)
        .include_file("pb.rs")
        .disable_comments(["."])
        .enable_type_names()
        .type_name_domain(["."], "type.googleapis.com")
        .btree_map(["."])
        .bytes(BYTES);
    for path in layout::boxed_fields(pool) {
        config.boxed(path);
    }
    config.compile_fds(FileDescriptorSet { file })?;
    Ok(())
}

/// Takes the deprecation marks off: Nuncio has to read deprecated fields, and the schema tables keep the marks.
fn undeprecate(message: &mut DescriptorProto) {
    let fields = message.field.iter_mut().filter_map(|field| field.options.as_mut());
    fields.for_each(|options| options.deprecated = None);
    if let Some(options) = &mut message.options {
        options.deprecated = None;
    }
    message.nested_type.iter_mut().for_each(undeprecate);
    message.enum_type.iter_mut().for_each(undeprecate_enum);
}

fn undeprecate_enum(enumeration: &mut EnumDescriptorProto) {
    if let Some(options) = &mut enumeration.options {
        options.deprecated = None;
    }
    let values = enumeration.value.iter_mut().filter_map(|value| value.options.as_mut());
    values.for_each(|options| options.deprecated = None);
}

/// Files that only define options of protos: nothing in them is data.
fn is_annotation(file: &str) -> bool {
    file.contains("/annotations/")
        || file == "validate/validate.proto"
        || file == "google/api/annotations.proto"
}
