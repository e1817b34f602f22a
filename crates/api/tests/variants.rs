//! 153 small changes to one configuration, each with what Envoy 1.40.0 says to it (`variants/VERDICTS.tsv`).

use nuncio_api::load::{LoadOptions, load_bootstrap};
use std::path::{Path, PathBuf};

/// Phrases that differ on purpose: file, and why.
const OTHER_PHRASES: [(&str, &str); 2] = [
    (
        "al_two.yaml",
        "Envoy reads the two members of the oneof in the order of a hash table, we in that of the file",
    ),
    ("tabs.yaml", "yaml-cpp notices the tab at the colon of the key after it, our parser at the key"),
];

fn variants() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/variants")
}

/// Phrases without what is random in Envoy's: positions in a document that it made itself, doubled blanks, and its dumps
/// of the document.
fn normalized(phrase: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut rest = phrase.split_whitespace().peekable();
    while let Some(word) = rest.next() {
        if word == "near" && rest.peek().is_some_and(|next| next.starts_with(|c: char| c.is_ascii_digit())) {
            let place = rest.next().unwrap_or_default();
            if rest.peek() == Some(&"(offset") {
                rest.next();
                rest.next();
            }
            // "…, near 1:2 (offset 3): reason" becomes "…: reason".
            assert!(place.contains(':'), "{phrase}");
            if let Some(last) = words.last_mut() {
                *last = last.trim_end_matches(',').to_string() + ":";
            }
            continue;
        }
        words.push(word.to_string());
    }
    let text = words.join(" ");
    let text = text.split_once("): {").map_or(text.as_str(), |(before, _)| before);
    let text = text.split_once("): [").map_or(text, |(before, _)| before);
    text.trim_end_matches(')').to_string()
}

#[test]
fn verdicts_and_phrases_are_those_of_envoy() {
    let verdicts = std::fs::read_to_string(variants().join("VERDICTS.tsv")).expect("the verdicts");
    let mut count = 0;
    let mut wrong = Vec::new();
    for line in verdicts.lines().skip(1) {
        let mut columns = line.split('\t');
        let (file, verdict) = (columns.next().expect("a file"), columns.next().expect("a verdict"));
        let phrase = columns.next().unwrap_or_default();
        count += 1;
        let path = variants().join(file);
        let loaded = load_bootstrap(&LoadOptions { path: Some(&path), ..LoadOptions::default() });
        match (verdict, loaded) {
            ("accept", Ok(_)) => {}
            ("reject", Err(errors)) => {
                let (got, want) = (normalized(errors.envoy_phrase()), normalized(phrase));
                // The table holds the first 500 characters.
                let same = got == want || phrase.chars().count() >= 500 && got.starts_with(&want);
                let expected = OTHER_PHRASES.iter().all(|(other, _)| *other != file);
                if same != expected {
                    wrong.push(format!("{file}\n  want {want}\n  got  {got}"));
                }
                for error in errors.errors() {
                    assert!(error.to_string().starts_with(&path.display().to_string()), "{error}");
                }
            }
            (_, loaded) => {
                wrong.push(format!("{file}: want {verdict} {phrase}, got {:?}", loaded.map(|_| ())))
            }
        }
    }
    assert_eq!(count, 153);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_refusal_but_that_of_a_whole_file_has_a_place() {
    for entry in std::fs::read_dir(variants()).expect("the variants") {
        let path = entry.expect("a file").path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let Err(errors) = load_bootstrap(&LoadOptions { path: Some(&path), ..LoadOptions::default() }) else {
            continue;
        };
        for error in errors.errors() {
            let whole = error.phrase.starts_with("Unable to convert YAML as JSON");
            assert_eq!(error.position.is_none(), whole, "{}: {error}", path.display());
        }
    }
}
