//! The repository's files, without what builds and tools leave behind.

use std::path::{Path, PathBuf};

/// A text file of the repository.
pub struct File {
    /// Path from the root, with `/`.
    pub path: String,
    /// What it holds.
    pub text: String,
}

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

/// Folders of results, at any depth. `corpus` and `artifacts` are the fuzzer's.
const RESULTS: [&str; 5] = ["target", "__pycache__", "node_modules", "artifacts", "corpus"];
/// Folders whose names begin with a dot and which are ours.
const DOTTED: [&str; 2] = [".ci", ".cargo"];

/// All text files (UTF-8), sorted by path. Walks the folders, so that it also works where there is no git.
///
/// # Panics
/// When a folder cannot be read: the guards would not guard.
pub fn files() -> Vec<File> {
    let root = root();
    let (mut folders, mut found) = (vec![root.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).expect("the repository's folders are readable");
        for entry in entries.flatten() {
            let (name, path) = (entry.file_name().to_string_lossy().into_owned(), entry.path());
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                let ours = !name.starts_with('.') || DOTTED.contains(&name.as_str());
                if ours && !RESULTS.contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if kind.is_file()
                && let Ok(text) = std::fs::read_to_string(&path)
            {
                let path = path.strip_prefix(&root).unwrap_or(&path).to_string_lossy().into_owned();
                found.push(File { path, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// The files whose names end so.
pub fn with_ending(ending: &str) -> Vec<File> {
    files().into_iter().filter(|f| f.path.ends_with(ending)).collect()
}
