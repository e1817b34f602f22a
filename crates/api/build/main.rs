//! Build script: the protos of the `envoy-types` package (plus `protos/`, our overlay) → prost structs and schema tables.
//!
//! Needs no `protoc`: `protox` compiles the protos. Output in `OUT_DIR`:
//! `pb.rs` (the tree of prost modules) and `schema_data.rs` (tables of `src/schema`).

mod layout;
mod overlay;
mod protos;
mod rules;
mod schema;
mod structs;

use std::path::PathBuf;

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    for watched in ["build", "protos", "Cargo.toml"] {
        println!("cargo:rerun-if-changed={watched}");
    }
    let manifest_dir = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(std::env::var("OUT_DIR")?);

    let pool = protos::compile(&manifest_dir)?;
    structs::generate(&pool, &out)?;
    std::fs::write(out.join("schema_data.rs"), schema::generate(&pool)?)?;
    Ok(())
}
