//! A layer of the runtime from files (`RuntimeLayer.disk_layer`): each file is a value, and the folders it is in are its key.
//! All of them are read again when something is moved to `symlink_root`.

use nuncio_api::envoy::config::bootstrap::v3::runtime_layer::DiskLayer;
use nuncio_core::runtime::RuntimeValue;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Deepest folder, and longest file in bytes.
const DEPTH: usize = 16;
const LONGEST: u64 = 1 << 20;

/// See the module.
pub struct Disk {
    /// Its place among the layers.
    pub layer: usize,
    /// What is replaced.
    pub root: PathBuf,
    folder: PathBuf,
    /// The folder was there when it was read last.
    pub there: bool,
}

impl Disk {
    /// Of the layer at this place.
    pub fn new(layer: usize, c: &DiskLayer, service_cluster: &str) -> Disk {
        let root = PathBuf::from(&c.symlink_root);
        let mut folder = match c.subdirectory.is_empty() {
            true => root.clone(),
            false => root.join(c.subdirectory.trim_start_matches('/')),
        };
        if c.append_service_cluster {
            folder.push(service_cluster);
        }
        Disk { layer, root, folder, there: false }
    }
    /// What the files say; none when the folder is not there.
    ///
    /// # Errors
    /// Something cannot be read, or is no value.
    pub fn read(&self) -> Result<Option<BTreeMap<String, RuntimeValue>>, String> {
        if !self.folder.is_dir() {
            return Ok(None);
        }
        let mut values = BTreeMap::new();
        walk(&self.folder, "", 1, &mut values)?;
        Ok(Some(values))
    }
}

fn walk(
    folder: &Path,
    prefix: &str,
    depth: usize,
    values: &mut BTreeMap<String, RuntimeValue>,
) -> Result<(), String> {
    if depth > DEPTH {
        return Err(format!("Walk recursion depth exceeded {DEPTH}"));
    }
    let failed = |e: std::io::Error| format!("{}: {e}", folder.display());
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let key = if prefix.is_empty() { name.into_owned() } else { format!("{prefix}.{name}") };
        // Follows links, as the root is one. One that leads nowhere is passed over.
        let Ok(facts) = std::fs::metadata(&path) else { continue };
        if facts.is_dir() {
            walk(&path, &key, depth + 1, values)?;
        } else if facts.is_file() {
            if facts.len() > LONGEST {
                return Err(format!("{} is longer than {LONGEST} bytes", path.display()));
            }
            let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            values.insert(key, RuntimeValue::of_text(&value(&text))?);
        }
    }
    Ok(())
}

/// The text of a file without its comments, which are lines that begin with `#`.
fn value(text: &str) -> String {
    let lines: Vec<_> = text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).collect();
    lines.join("\n").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_values_and_folders_their_keys() {
        let root = std::env::temp_dir().join(format!("nuncio-disk-{}", std::process::id()));
        let write = |name: &str, text: &str| {
            let path = root.join("envoy/cl").join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, text).expect("written");
        };
        let c = DiskLayer {
            symlink_root: root.display().to_string(),
            subdirectory: "envoy".into(),
            append_service_cluster: true,
        };
        let mut disk = Disk::new(0, &c, "cl");
        assert!(disk.read().expect("nothing to read").is_none());
        write("a/b/c", "# a comment\n5\n");
        write("flag", "true");
        write("text", "one\n\n# no\ntwo  \n");
        write("empty", "# nothing yet\n");
        let values = disk.read().expect("readable").expect("there");
        let all: Vec<_> = values.iter().map(|(k, v)| (k.as_str(), &*v.text)).collect();
        assert_eq!(all, [("a.b.c", "5"), ("empty", ""), ("flag", "true"), ("text", "one\ntwo")]);
        assert_eq!((values["a.b.c"].number, values["flag"].boolean), (Some(5), Some(true)));
        write(&format!("{}x", "d/".repeat(DEPTH)), "1");
        assert_eq!(disk.read().unwrap_err(), "Walk recursion depth exceeded 16");
        disk.there = true;
        std::fs::remove_dir_all(&root).expect("removed");
    }
}
