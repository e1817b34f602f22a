//! `nuncio --mode validate` over 153 small changes to one configuration, held against what Envoy 1.40.0 said to each
//! (`crates/api/tests/variants/VERDICTS.tsv`). There is a third verdict, `not implemented yet: …`: the files that get it
//! are listed in `not_implemented_yet.txt`, a list that may only become shorter.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A phrase that differs on purpose: yaml-cpp notices the tab at the colon of the key after it, our parser at the key.
/// In the other, Envoy reads the two members of the oneof in the order of a hash table, we in that of the file.
const OTHER_PHRASES: [&str; 2] = ["tabs.yaml", "al_two.yaml"];
/// How the third verdict begins.
const NOT_YET: &str = "not implemented yet: ";

fn variants() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../api/tests/variants")
}

#[derive(Debug)]
enum Verdict {
    Accepted,
    Rejected(String),
    #[expect(dead_code, reason = "shown by Debug, when it is wrong")]
    NotYet(String),
}

/// What the binary says to a file.
fn validate(path: &Path) -> Verdict {
    let file = path.to_str().expect("a path in UTF-8");
    let output = Command::new(env!("CARGO_BIN_EXE_nuncio"))
        .args(["--mode", "validate", "--config-path", file])
        .output()
        .expect("the binary runs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    match output.status.code() {
        Some(0) => {
            assert!(out.contains(&format!("configuration '{file}' OK")), "{out}{err}");
            Verdict::Accepted
        }
        Some(1) => {
            let said = format!("error initializing configuration '{file}': ");
            let (_, phrase) = err.split_once(&said).unwrap_or_else(|| panic!("no phrase in {err}"));
            let phrase = phrase.lines().next().unwrap_or_default().to_owned();
            match phrase.strip_prefix(NOT_YET) {
                Some(what) => {
                    assert!(!what.is_empty(), "{file}: what is not implemented?");
                    Verdict::NotYet(what.to_owned())
                }
                None => Verdict::Rejected(phrase),
            }
        }
        other => panic!("{file}: exit code {other:?}\n{err}"),
    }
}

/// A phrase up to what depends on how Envoy writes the document anew (positions in it, the document itself), with single
/// blanks.
fn comparable(phrase: &str) -> String {
    let end = [", near ", "): {", "): ["].iter().filter_map(|cut| phrase.find(cut)).min();
    let words: Vec<&str> = phrase[..end.unwrap_or(phrase.len())].split_whitespace().collect();
    words.join(" ").trim_end_matches(')').to_owned()
}

#[test]
fn the_binary_says_what_envoy_says_or_that_it_cannot_yet() {
    let verdicts = std::fs::read_to_string(variants().join("VERDICTS.tsv")).expect("the verdicts");
    let listed: Vec<&str> =
        include_str!("not_implemented_yet.txt").lines().filter(|l| !l.starts_with('#')).collect();
    let (mut wrong, mut count, mut not_yet) = (Vec::new(), 0, Vec::new());
    for line in verdicts.lines().skip(1) {
        let mut columns = line.split('\t');
        let mut next = || columns.next().unwrap_or_default();
        let (file, verdict, phrase) = (next(), next(), next());
        count += 1;
        match (verdict, validate(&variants().join(file))) {
            ("accept", Verdict::Accepted) => {}
            ("accept", Verdict::NotYet(_)) => not_yet.push(file),
            ("reject", Verdict::Rejected(got)) => {
                let (got, want) = (comparable(&got), comparable(phrase));
                // The table holds the first 500 characters.
                let same = got == want || phrase.chars().count() >= 500 && got.starts_with(&want);
                if !same && !OTHER_PHRASES.contains(&file) {
                    wrong.push(format!("{file}\n  want {want}\n  got  {got}"));
                }
            }
            (_, got) => wrong.push(format!("{file}: want {verdict} {phrase}, got {got:?}")),
        }
    }
    assert_eq!(count, 153);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(not_yet, listed, "not_implemented_yet.txt lists what Envoy accepts and we cannot do yet");
}

#[test]
fn what_nobody_reads_is_refused_with_its_place() {
    let path = variants().join("new140_realm.yaml");
    let output = Command::new(env!("CARGO_BIN_EXE_nuncio"))
        .args(["--mode", "validate", "-c"])
        .arg(&path)
        .output()
        .expect("the binary runs");
    let err = String::from_utf8_lossy(&output.stderr);
    let line = err.lines().find(|l| l.starts_with(&path.display().to_string())).unwrap_or_default();
    let mut place = line.split_at(path.display().to_string().len()).1.split(':').skip(1);
    let mut number = || place.next().and_then(|n| n.trim().parse::<u32>().ok());
    assert!(number().is_some() && number().is_some(), "line and column in {line:?} of {err}");
    assert!(line.contains("virtual_hosts[0].typed_per_filter_config.realm"), "{line}");
    assert!(line.ends_with("not implemented yet: BasicAuthPerRoute.realm"), "{line}");
}
