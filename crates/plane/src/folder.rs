//! Files in a folder as the source of resources. Each file (`.yaml`, `.yml`, `.json`) holds what a file of Envoy's filesystem
//! subscriptions holds, a `DiscoveryResponse`: `resources:`, each with its `"@type"`. Kinds may be mixed.
//!
//! A file that cannot be read does not count, and what it last held stays.

use crate::kinds::by_url;
use crate::world::name_in;
use bytes::Bytes;
use nuncio_api::envoy::service::discovery::v3::DiscoveryResponse;
use nuncio_api::load::{Format, UnknownFields, parse_message};
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A resource: type URL, name, bytes.
pub type Loaded = (String, String, Bytes);

/// What has been read of a folder.
pub struct Folder {
    path: PathBuf,
    files: BTreeMap<PathBuf, File>,
}

#[derive(Default)]
struct File {
    /// Time of its last change, and its length.
    stamp: Option<(SystemTime, u64)>,
    resources: Vec<Loaded>,
}

/// What a look at the folder found.
#[derive(Debug, Default)]
pub struct Found {
    /// All resources, when any file has changed.
    pub resources: Option<Vec<Loaded>>,
    /// What is wrong with files that have changed, in lines for the user.
    pub problems: Vec<String>,
}

impl Folder {
    /// Nothing is read yet.
    pub fn new(path: impl Into<PathBuf>) -> Folder {
        Folder { path: path.into(), files: BTreeMap::new() }
    }
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// Reads what has changed since the last look.
    pub fn look(&mut self) -> Found {
        let mut found = Found::default();
        let entries = match std::fs::read_dir(&self.path) {
            Ok(all) => all,
            Err(e) => {
                found.problems.push(format!("{}: {e}", self.path.display()));
                return found;
            }
        };
        let there: BTreeMap<PathBuf, (SystemTime, u64)> = entries
            .flatten()
            .map(|e| e.path())
            .filter(|p| p.extension().is_some_and(|x| x == "yaml" || x == "yml" || x == "json"))
            .filter_map(|p| {
                let m = std::fs::metadata(&p).ok().filter(|m| m.is_file())?;
                Some((p, (m.modified().unwrap_or(SystemTime::UNIX_EPOCH), m.len())))
            })
            .collect();
        let before = self.files.len();
        self.files.retain(|p, _| there.contains_key(p));
        let mut changed = self.files.len() != before;
        for (path, stamp) in there {
            let file = self.files.entry(path.clone()).or_default();
            if file.stamp == Some(stamp) {
                continue;
            }
            file.stamp = Some(stamp);
            match read(&path) {
                Ok(resources) => (file.resources, changed) = (resources, true),
                Err(why) => found.problems.push(why),
            }
        }
        if changed {
            found.resources = Some(self.all(&mut found.problems));
        }
        found
    }
    fn all(&self, problems: &mut Vec<String>) -> Vec<Loaded> {
        let (mut seen, mut all) = (HashSet::new(), vec![]);
        for (path, file) in &self.files {
            for r in &file.resources {
                match seen.insert((&r.0, &r.1)) {
                    true => all.push(r.clone()),
                    false => problems.push(format!("{}: {} is already in another file", path.display(), r.1)),
                }
            }
        }
        all
    }
}

fn read(path: &Path) -> Result<Vec<Loaded>, String> {
    let shown = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|e| format!("{shown}: {e}"))?;
    let parsed =
        parse_message::<DiscoveryResponse>(&bytes, Format::of_path(path), &shown, UnknownFields::Refuse);
    let message = parsed.map_err(|e| e.to_string())?.message;
    let mut all = vec![];
    for any in message.resources {
        if by_url(&any.type_url).is_none() {
            return Err(format!("{shown}: {} is nothing that a control plane brings", any.type_url));
        }
        let name = name_in(&any.value);
        if name.is_empty() {
            return Err(format!("{shown}: a resource of {} has no name", any.type_url));
        }
        all.push((any.type_url, name, Bytes::from(any.value)));
    }
    Ok(all)
}
