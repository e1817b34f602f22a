//! Generates the prost structs.

use crate::{Error, layout};
use prost_reflect::DescriptorPool;
use prost_types::FileDescriptorSet;
use std::path::Path;

/// Bodies of other people's HTTP messages: shared, not copied.
const BYTES: [&str; 2] = [".envoy.service.ext_proc.v3.HttpBody", ".envoy.service.auth.v3"];

/// Writes `pb.rs`, which includes one file per package.
pub fn generate(pool: &DescriptorPool, out: &Path) -> Result<(), Error> {
    let file = pool.file_descriptor_protos().filter(|file| !is_annotation(file.name())).cloned().collect();
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

/// Files that only define options of protos: nothing in them is data.
fn is_annotation(file: &str) -> bool {
    file.contains("/annotations/")
        || file == "validate/validate.proto"
        || file == "google/api/annotations.proto"
}
