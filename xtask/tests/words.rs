//! Words that do not belong into the repository.
//!
//! Each is written in two pieces here, so that this file passes too.

use std::path::{Component, Path, PathBuf};
use xtask::tree::{self, File};

/// What may not be said, where, and why.
struct Rule {
    words: &'static [&'static str],
    endings: &'static [&'static str],
    why: &'static str,
    /// Paths (or their beginnings) where it is right, each with its reason.
    except: &'static [(&'static str, &'static str)],
}

const RULES: &[Rule] = &[
    Rule {
        words: &[concat!("FIX", "ME"), concat!("TO", "DO"), concat!("XX", "X")],
        endings: &[""],
        why: "do it, or leave it to an issue",
        except: &[],
    },
    Rule {
        words: &[concat!("to", "do!("), concat!("un", "implemented!(")],
        endings: &[".rs"],
        why: "configuration that is not built yet is refused at load, with its name",
        except: &[],
    },
    Rule {
        words: &[concat!("allow(un", "safe_code"), concat!("expect(un", "safe_code")],
        endings: &[".rs"],
        why: "the proxy is safe Rust throughout",
        except: &[],
    },
    Rule {
        words: &[concat!("/ro", "ot/"), concat!("/ho", "me/")],
        endings: &[""],
        why: "folders of one machine mean nothing on another",
        except: &[],
    },
    Rule {
        words: &[concat!("TRA", "PS"), concat!("CON", "TRACT"), concat!("DES", "IGN")],
        endings: &[""],
        why: "notes that readers do not have",
        except: &[],
    },
    Rule {
        words: &[concat!("--index", "-url"), concat!("--extra-index", "-url"), concat!("[sour", "ce.")],
        endings: &["run", "setup", ".toml", ".txt", ".md", ".py", "Dockerfile"],
        why: "packages come from the public registries, as each machine reaches them",
        except: &[],
    },
];

impl Rule {
    fn broken_by(&self, file: &File) -> Option<String> {
        if !self.endings.iter().any(|e| file.path.ends_with(e))
            || self.except.iter().any(|(path, _)| file.path.starts_with(path))
        {
            return None;
        }
        let (at, word) = self.words.iter().find_map(|w| find(&file.text, w).map(|at| (at, w)))?;
        let line = file.text[..at].matches('\n').count() + 1;
        Some(format!("{}:{line}: {word} ({})", file.path, self.why))
    }
}

/// Where `word` stands by itself: no letter, digit or underscore touches a side of it that is one too.
fn find(text: &str, word: &str) -> Option<usize> {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    let touches =
        |a: Option<char>, b: Option<char>| a.is_some_and(part_of_word) && b.is_some_and(part_of_word);
    text.match_indices(word).map(|(at, _)| at).find(|&at| {
        let (before, behind) = (&text[..at], &text[at + word.len()..]);
        !touches(before.chars().next_back(), word.chars().next())
            && !touches(word.chars().next_back(), behind.chars().next())
    })
}

#[test]
fn nothing_is_said_that_does_not_belong_here() {
    let files = tree::files();
    assert!(files.len() > 400, "the files were not found");
    let broken: Vec<String> =
        files.iter().flat_map(|f| RULES.iter().filter_map(|r| r.broken_by(f))).collect();
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn every_exception_is_still_needed() {
    let files = tree::files();
    for rule in RULES {
        for (path, reason) in rule.except {
            let free = Rule { except: &[], ..*rule };
            let needed = files.iter().any(|f| f.path.starts_with(path) && free.broken_by(f).is_some());
            assert!(needed, "{path} ({reason}) needs no exception for {:?} any more", rule.words);
        }
    }
}

/// The folder this checkout lies in, as long as its name says anything.
#[test]
fn nobody_names_the_folder_of_their_checkout() {
    let root = tree::root();
    let said_anyway = ["/", "/tmp", "/var/tmp", "/home", "/src", "/app", "/opt", "/build", "/mnt", "/srv"];
    let mut folders = vec![root.display().to_string()];
    let parent = root.parent().unwrap_or(&root).display().to_string();
    if !said_anyway.contains(&parent.as_str()) {
        folders.push(parent + "/");
    }
    for f in tree::files() {
        for folder in folders.iter().filter(|folder| folder.len() > 4) {
            // A path of ours may end like theirs: only where it begins.
            let stands = f.text.match_indices(folder.as_str()).any(|(at, _)| {
                let before = f.text[..at].chars().next_back();
                !before.is_some_and(|c| c.is_alphanumeric() || "._-}$/*".contains(c))
            });
            assert!(!stands, "{} names {folder}", f.path);
        }
    }
}

/// Relative paths stay inside: there is nothing beside the repository that a reader has too.
#[test]
fn no_path_leaves_the_repository() {
    let ours = |f: &File| {
        [".rs", ".md", ".toml", ".py", ".yaml", "run", "setup", "Dockerfile"].iter().any(|e| f.path.ends_with(e))
            // Test inputs and the engine's path rules hold dot segments on purpose.
            && !["crates/", "conformance/cases/", "fuzz/src/"].iter().any(|p| f.path.starts_with(p) && !f.path.ends_with(".toml"))
    };
    for f in tree::files().iter().filter(|f| ours(f)) {
        for path in relative_paths(&f.text) {
            let folder = Path::new(&f.path).parent().unwrap_or(Path::new(""));
            // Scripts may start from the root instead of their own folder.
            assert!(
                stays(&folder.join(&path)) || stays(Path::new(&path)),
                "{}: {path} leaves the repository",
                f.path
            );
        }
    }
}

fn relative_paths(text: &str) -> Vec<String> {
    let end = |c: char| c.is_whitespace() || "\"'`()<>[]{},;|$".contains(c);
    text.split(end).filter(|word| word.starts_with("../")).map(str::to_owned).collect()
}

fn stays(path: &Path) -> bool {
    let mut depth = 0i32;
    path.components().all(|c| {
        match c {
            Component::ParentDir => depth -= 1,
            Component::Normal(_) => depth += 1,
            _ => {}
        }
        depth >= 0
    })
}

#[test]
fn the_rules_find_what_is_wrong() {
    let file = |path: &str, text: String| File { path: path.into(), text };
    for rule in RULES {
        for word in rule.words {
            let name = format!("crates/x/src/file{}", rule.endings[0]);
            assert!(rule.broken_by(&file(&name, format!("a line\n// {word} x"))).is_some(), "{word}");
            assert!(rule.broken_by(&file(&name, "nothing".into())).is_none());
        }
    }
    assert_eq!(find("MASTODON", concat!("TO", "DO")), None);
    assert!(!stays(&PathBuf::from("bench/../../x")) && stays(Path::new("bench/../x")));
    assert_eq!(relative_paths("see [x](../y.md)"), ["../y.md"]);
}

/// Where the lock files say that packages come from.
#[test]
fn packages_come_from_crates_io() {
    for f in tree::with_ending("Cargo.lock") {
        for line in f.text.lines().filter(|l| l.starts_with("source = ")) {
            assert_eq!(
                line, r#"source = "registry+https://github.com/rust-lang/crates.io-index""#,
                "{}",
                f.path
            );
        }
    }
}

/// Packages beside the workspace do not inherit its lints.
#[test]
fn packages_beside_the_workspace_are_safe_too() {
    for name in ["bench/origin", "fuzz"] {
        let manifest = tree::root().join(name).join("Cargo.toml");
        let text = std::fs::read_to_string(&manifest).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(text.contains(r#"unsafe_code = "deny""#), "{name} allows what the workspace does not");
    }
}
