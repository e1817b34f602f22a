//! Finds and compiles the .proto files.

use crate::{Error, overlay};
use prost_reflect::DescriptorPool;
use prost_types::{DescriptorProto, FileDescriptorProto};
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Package that carries the protos, and the roots inside its `proto` folder.
const CARRIER: &str = "envoy-types";
const ROOTS: [&str; 8] = [
    "data-plane-api",
    "googleapis",
    "protoc-gen-validate",
    "xds",
    "opentelemetry-proto",
    "client_model",
    "cel-spec/proto",
    "ratelimit/api",
];

/// Types that any message may hold, whether another proto imports them or not.
const WELL_KNOWN: [&str; 7] = ["any", "duration", "empty", "field_mask", "struct", "timestamp", "wrappers"];

/// Compiles every proto below [`ROOTS`] and below `protos/new`, with the amendments of `protos/amend`.
pub fn compile(manifest_dir: &Path) -> Result<DescriptorPool, Error> {
    let carrier = package_dir(manifest_dir, CARRIER)?.join("proto");
    let own = manifest_dir.join("protos");
    let mut roots = vec![own.join("new")];
    roots.extend(ROOTS.iter().map(|root| carrier.join(root)));

    let mut files = Vec::new();
    for root in &roots {
        list(root, root, &mut files)?;
    }
    files.extend(WELL_KNOWN.iter().map(|name| format!("google/protobuf/{name}.proto")));
    files.sort();
    files.dedup();

    let mut resolver = ChainFileResolver::new();
    resolver.add(Patching { roots, amendments: own.join("amend") });
    resolver.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).include_source_info(false);
    for file in &files {
        compiler.open_file(file).map_err(|error| format!("{file}: {error}"))?;
    }
    Ok(compiler.descriptor_pool())
}

/// Folder of a package that this crate depends on under the cfg `envoy_protos_only`.
fn package_dir(manifest_dir: &Path, name: &str) -> Result<PathBuf, Error> {
    let output = Command::new(std::env::var("CARGO")?)
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform"])
        .arg(std::env::var("TARGET")?)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTFLAGS", "--cfg envoy_protos_only")
        .current_dir(manifest_dir)
        .output()?;
    if !output.status.success() {
        return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().ok_or("cargo metadata without packages")?;
    let package = packages.iter().find(|package| package["name"] == name);
    let manifest = package.and_then(|package| package["manifest_path"].as_str());
    let dir = manifest.and_then(|path| Path::new(path).parent());
    Ok(dir.ok_or_else(|| format!("package {name} not found"))?.to_path_buf())
}

fn list(root: &Path, dir: &Path, out: &mut Vec<String>) -> Result<(), Error> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            list(root, &path, out)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            let relative = path.strip_prefix(root)?.to_str().ok_or("a proto's path is not UTF-8")?;
            out.push(relative.replace('\\', "/"));
        }
    }
    Ok(())
}

/// Opens a proto, merges its amendment and makes its type names absolute.
struct Patching {
    roots: Vec<PathBuf>,
    amendments: PathBuf,
}

impl FileResolver for Patching {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        let source = self.roots.iter().find_map(|root| std::fs::read_to_string(root.join(name)).ok());
        let Some(source) = source else { return Err(protox::Error::file_not_found(name)) };
        let mut file = File::from_source(name, &source)?.file_descriptor_proto().clone();
        if let Ok(source) = std::fs::read_to_string(self.amendments.join(name)) {
            overlay::amend(&mut file, File::from_source(name, &source)?.file_descriptor_proto().clone());
        }
        absolutize(&mut file);
        Ok(File::from_file_descriptor_proto(file))
    }
}

/// Makes relative type names absolute where they name an imported package.
///
/// protoc resolves a relative name against the packages that the file imports, prost-reflect against every package it
/// knows. Envoy's protos lean on the former: in `envoy.extensions.…`, `config.core.v3.Address` must not be looked up
/// in `envoy.extensions.config`.
fn absolutize(file: &mut FileDescriptorProto) {
    let package = file.package().to_string();
    let packages = file.dependency.iter().filter_map(|import| import.rsplit_once('/'));
    let names = Names { package, imported: packages.map(|(dir, _)| dir.replace('/', ".")).collect() };
    file.message_type.iter_mut().for_each(|message| names.message(message));
    file.extension.iter_mut().for_each(|field| names.fix(&mut field.type_name));
    for method in file.service.iter_mut().flat_map(|service| &mut service.method) {
        names.fix(&mut method.input_type);
        names.fix(&mut method.output_type);
    }
}

struct Names {
    package: String,
    imported: Vec<String>,
}

impl Names {
    fn message(&self, message: &mut DescriptorProto) {
        message.nested_type.iter_mut().for_each(|nested| self.message(nested));
        message.field.iter_mut().for_each(|field| self.fix(&mut field.type_name));
    }

    fn fix(&self, name: &mut Option<String>) {
        let Some(relative) = name.as_deref().filter(|name| !name.starts_with('.') && name.contains('.'))
        else {
            return;
        };
        // Innermost scope first, as protobuf resolves names.
        let mut scope = Some(self.package.as_str());
        while let Some(prefix) = scope {
            let candidate =
                if prefix.is_empty() { relative.to_string() } else { format!("{prefix}.{relative}") };
            // What follows the package is a message or enum, and those begin with a capital.
            let known = |package: &String| {
                let rest = candidate.strip_prefix(package.as_str()).and_then(|rest| rest.strip_prefix('.'));
                rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()))
            };
            if self.imported.iter().any(known) {
                *name = Some(format!(".{candidate}"));
                return;
            }
            scope = match prefix.rsplit_once('.') {
                Some((outer, _)) => Some(outer),
                None if prefix.is_empty() => None,
                None => Some(""),
            };
        }
    }
}
