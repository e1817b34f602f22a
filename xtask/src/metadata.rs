//! The workspace as `cargo metadata` tells it.

use crate::tree;
use serde_json::Value;
use std::process::Command;

/// A crate of the workspace.
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its `Cargo.toml`.
    pub manifest: String,
    /// What it depends on, straight.
    pub dependencies: Vec<Dependency>,
}

/// One entry under `[dependencies]` and the like.
pub struct Dependency {
    /// Name of the package, also when it is renamed.
    pub name: String,
    /// In which table it stands.
    pub kind: Kind,
    /// Never built: it stands under a `cfg` that is never set.
    pub never: bool,
}

/// Which table of `Cargo.toml`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `[dependencies]`
    Normal,
    /// `[build-dependencies]`
    Build,
    /// `[dev-dependencies]`
    Dev,
}

/// All crates of the workspace.
///
/// # Panics
/// When cargo does not answer.
pub fn workspace() -> Vec<Package> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]).current_dir(tree::root());
    let output = command.output().expect("cargo runs: it runs this");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let json: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    list(&json["packages"]).map(package).collect()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn package(json: &Value) -> Package {
    let dependencies = list(&json["dependencies"]).map(|d| Dependency {
        name: text(&d["name"]),
        kind: match d["kind"].as_str() {
            Some("build") => Kind::Build,
            Some("dev") => Kind::Dev,
            _ => Kind::Normal,
        },
        never: d["target"] == "cfg(envoy_protos_only)",
    });
    Package {
        name: text(&json["name"]),
        manifest: text(&json["manifest_path"]),
        dependencies: dependencies.collect(),
    }
}
