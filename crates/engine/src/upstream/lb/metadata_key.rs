//! `envoy.type.metadata.v3.MetadataKey`: a path into metadata.

use nuncio_api::envoy::r#type::metadata::v3 as pb;
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::metadata::Metadata;
use pb::metadata_key::path_segment::Segment;
use prost_types::Value;

/// A name space, and the fields that lead from there to a value.
#[derive(Debug)]
pub struct MetadataKey {
    namespace: String,
    path: Vec<String>,
}

impl MetadataKey {
    /// Compiles a key.
    ///
    /// # Errors
    /// A segment that is an index.
    pub fn new(m: &pb::MetadataKey) -> BuildResult<MetadataKey> {
        let path = m.path.iter().map(|p| match &p.segment {
            Some(Segment::Key(k)) => Ok(k.clone()),
            Some(Segment::Index(_)) => Err(BuildError::not_implemented("MetadataKey.path: index")),
            None => Ok(String::new()),
        });
        Ok(MetadataKey { namespace: m.key.clone(), path: path.collect::<BuildResult<_>>()? })
    }
    /// The value it leads to.
    pub fn find<'a>(&'a self, metadata: &'a Metadata) -> Option<&'a Value> {
        metadata.get(&self.namespace, self.path.iter().map(|p| &**p))
    }
}
