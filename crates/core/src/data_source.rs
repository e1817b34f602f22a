//! `envoy.config.core.v3.DataSource`: bytes that stand in the configuration, in a file, or in the environment.

use crate::error::{BuildError, BuildResult};
use nuncio_api::envoy::config::core::v3::{DataSource, data_source::Specifier};

/// The bytes of a data source; a file is read now.
///
/// # Errors
/// A file or a variable is missing, or nothing is specified.
pub fn read(source: &DataSource) -> BuildResult<Vec<u8>> {
    match &source.specifier {
        Some(Specifier::InlineString(s)) => Ok(s.clone().into_bytes()),
        Some(Specifier::InlineBytes(b)) => Ok(b.to_vec()),
        Some(Specifier::EnvironmentVariable(name)) => std::env::var(name)
            .map(String::into_bytes)
            .map_err(|_| BuildError(format!("Environment variable doesn't exist: {name}"))),
        Some(Specifier::Filename(path)) => std::fs::read(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => BuildError(format!("Invalid path: {path}")),
            _ => BuildError(format!("unable to read file: {path}: {e}")),
        }),
        None => Err("field: \"specifier\", reason: is required".into()),
    }
}
