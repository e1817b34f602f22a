use super::super::Regex;
use super::translate;

fn error(p: &str) -> String {
    translate(p).expect_err(p)
}

/// Texts measured on Envoy 1.40.0 (`--mode validate`, `safe_regex` of a route).
#[test]
fn errors_are_those_of_re2() {
    for (pattern, text) in [
        ("[", "missing ]: ["),
        ("[a", "missing ]: [a"),
        ("a[b-", "missing ]: [b-"),
        ("[a-z", "missing ]: [a-z"),
        ("[[:alpha:]", "missing ]: [[:alpha:]"),
        ("[[:alpha:", "missing ]: [[:alpha:"),
        ("[^", "missing ]: [^"),
        ("(abc", "missing ): (abc"),
        ("(a|b", "missing ): (a|b"),
        ("(?:", "missing ): (?:"),
        ("(?P<n>", "missing ): (?P<n>"),
        ("abc)", "unexpected ): abc)"),
        ("(a))", "unexpected ): (a))"),
        ("*", "no argument for repetition operator: *"),
        ("x|*", "no argument for repetition operator: *"),
        ("(*)", "no argument for repetition operator: *"),
        ("a|+", "no argument for repetition operator: +"),
        ("{1}", "no argument for repetition operator: {1}"),
        ("a**", "bad repetition operator: **"),
        ("a+*", "bad repetition operator: +*"),
        ("x*+", "bad repetition operator: *+"),
        ("a???", "bad repetition operator: ???"),
        ("a{2}+", "bad repetition operator: {2}+"),
        ("a{2}??", "bad repetition operator: {2}??"),
        ("a{1,2}{3}", "bad repetition operator: {1,2}{3}"),
        ("a{1001}", "invalid repetition size: {1001}"),
        ("a{2,1}", "invalid repetition size: {2,1}"),
        ("(a{100}){100}", "invalid repetition size: {100}"),
        ("((((a{100}){10}){10}){10}){10}", "invalid repetition size: {10}"),
        ("\\", "trailing \\"),
        ("a\\", "trailing \\"),
        ("[a\\", "trailing \\"),
        ("\\y", "invalid escape sequence: \\y"),
        ("\\8", "invalid escape sequence: \\8"),
        ("\\1", "invalid escape sequence: \\1"),
        ("\\18", "invalid escape sequence: \\1"),
        ("\\777", "invalid escape sequence: \\777"),
        ("\\Z", "invalid escape sequence: \\Z"),
        ("\\E", "invalid escape sequence: \\E"),
        ("[\\b]", "invalid escape sequence: \\b"),
        ("[\\Q]\\E]", "invalid escape sequence: \\Q"),
        ("[a-\\d]", "invalid escape sequence: \\d"),
        ("\\x4", "invalid escape sequence: \\x4"),
        ("\\xg", "invalid escape sequence: \\xg"),
        ("\\x{}", "invalid escape sequence: \\x{}"),
        ("\\x{41", "invalid escape sequence: \\x{41"),
        ("\\x{100}", "invalid escape sequence: \\x{100"),
        ("\\x{10FFFF}", "invalid escape sequence: \\x{10F"),
        ("\\é", "invalid escape sequence: \\Ã"),
        ("[z-a]", "invalid character class range: z-a"),
        ("[a--b]", "invalid character class range: a--"),
        ("[z-\\x41]", "invalid character class range: z-\\x41"),
        ("[[:foo:]]", "invalid character class range: [:foo:]"),
        ("\\p{Foo}", "invalid character class range: \\p{Foo}"),
        ("\\pX", "invalid character class range: \\pX"),
        ("\\p", "invalid character class range: \\p"),
        ("\\p{", "invalid character class range: \\p{"),
        ("(?=a)", "invalid perl operator: (?="),
        ("(?<=a)", "invalid perl operator: (?<="),
        ("(?P=n)", "invalid perl operator: (?P"),
        ("(?P>n)", "invalid perl operator: (?P"),
        ("(?P<", "invalid perl operator: (?P<"),
        ("(?z)", "invalid perl operator: (?z"),
        ("(?", "invalid perl operator: (?"),
        ("(?i", "invalid perl operator: (?i"),
        ("(?--i)", "invalid perl operator: (?--"),
        ("(?i-)", "invalid perl operator: (?i-)"),
        ("(?#c)a", "invalid perl operator: (?#"),
        ("(?P<n", "invalid named capture group: (?P<n"),
        ("(?P<>a)", "invalid named capture group: (?P<>"),
        ("(?P<n-x>a)", "invalid named capture group: (?P<n-x>"),
        ("(?<n", "invalid named capture group: (?<n"),
        ("(?<n a)", "invalid named capture group: (?<n a)"),
    ] {
        assert_eq!(error(pattern), text, "{pattern}");
    }
}

/// All accepted by Envoy 1.40.0.
#[test]
fn what_re2_accepts_is_accepted() {
    for pattern in [
        "[[:alpha:]]",
        "(?<n>a)",
        "(?P<n>a)(?P<n>b)",
        "(?P<1a>b)",
        "(?i)abc",
        "(?i:abc)",
        "(?-s).*",
        "(?U)a+",
        "\\pL",
        "\\p{Greek}",
        "\\C",
        "\\Qa.b\\E",
        "\\Qa.b",
        "\\xff",
        "\\A\\z",
        "a{,2}",
        "a{",
        "a{x}",
        "a??",
        "[]a]",
        "[^]a]",
        "[a&&b]",
        "[a-]",
        "[-a]",
        "[\\d-z]",
        "[[]",
        "\\b\\B",
        "\\a\\f\\v",
        "\\07",
        "|",
        "()",
        "(|a)*",
        "\\_",
        "^*",
        "$+",
        "\\b+",
        "\\pN*",
        "\\z*",
        "(?i-s:a)",
        "(?ii)",
        "(?i-i)a",
        "(?-i:a)",
        "(?ims-U:a)",
        "[é]",
        "é",
        "(?i)é",
        "\\x{FF}",
        "[[:^alpha:]]",
        "[[:word:]]",
        "[\\pL]",
        "[\\pN-z]",
        "[^\\D\\s]",
        "\\08",
        "a{1,",
        "a{0}",
        "(?:(?i)a)b",
        "\\p{^Greek}",
        "\\P{^L}",
        "a{2}?",
        "(?s)",
        "\\Q",
        "\\Q\\",
        "\\-\\/\\\"\\'\\<\\>",
        "a{1000}",
        "(?)a",
        "[^\\x00-\\xff]",
    ] {
        if let Err(e) = Regex::parse(pattern) {
            panic!("{pattern}: {e}");
        }
    }
}

#[test]
fn matches_bytes_as_latin_1() {
    let yes = |p: &str, v: &[u8]| assert!(Regex::parse(p).unwrap().matches(v), "{p} should match {v:?}");
    let no = |p: &str, v: &[u8]| assert!(!Regex::parse(p).unwrap().matches(v), "{p} should not match {v:?}");
    yes("/a.*", b"/a\xff\xfe"); // CVE-2026-73552
    yes("a.", b"a\xe9");
    no("a.", "aé".as_bytes());
    yes("a..", "aé".as_bytes());
    yes("é", "é".as_bytes());
    yes("[é]", b"\xc3");
    no(".", b"\n");
    yes("(?s).", b"\n");
    yes("\\C", b"\n");
    yes("[^a]", b"\n");
    no("\\s", b"\x0b");
    yes("[[:space:]]", b"\x0b");
    no("\\w", b"\xe9");
    yes("\\pL", b"\xe9");
    no("\\PL", b"\xe9");
    yes("[^\\pL]", b"5");
    yes("[]a]+", b"]a");
    yes("[a&&b]+", b"a&b");
    yes("[[]", b"[");
    yes("a{,2}", b"a{,2}");
    yes("\\Qa.b\\E+", b"a.bb");
    no("\\Qa.b\\E", b"axb");
    yes("\\x41\\101\\0", b"AA\0");
    yes("(?i)[^b]c", b"aC");
    no("(?i)[^b]c", b"Bc");
    no("[^\\x00-\\xff]", b"a");
    yes("(?)a", b"a");
}

#[test]
fn matches_the_whole_value() {
    let r = Regex::parse("a|ab").unwrap();
    assert!(r.matches(b"ab") && r.matches(b"a") && !r.matches(b"abc") && !r.matches(b"xa"));
    assert!(Regex::parse("(?i)x|y").unwrap().matches(b"Y"));
    assert!(!Regex::parse("a$").unwrap().matches(b"a\n"));
    assert_eq!(r.source(), "a|ab");
}

/// Whatever is translated the crate takes, and nothing panics.
#[test]
fn random_patterns() {
    crate::rng::seed(26);
    const PIECES: &[&str] = &[
        "a",
        "b",
        "é",
        "(",
        ")",
        "(?:",
        "(?i)",
        "(?-s:",
        "(?P<n>",
        "[",
        "]",
        "[^",
        "-",
        "\\d",
        "\\W",
        "\\pL",
        "\\P{Greek}",
        "|",
        "*",
        "+",
        "?",
        "{2}",
        "{1,3}",
        "{,2}",
        "{",
        "}",
        ".",
        "^",
        "$",
        "\\b",
        "\\Q",
        "\\E",
        "\\x41",
        "\\x{ff}",
        "\\0",
        "[:alpha:]",
        "&&",
        "~~",
        "#",
        " ",
        "\\.",
        "\\",
        "[[:^word:]]",
        "\\C",
        "\\z",
    ];
    let mut taken = 0;
    for _ in 0..4_000 {
        let n = 1 + crate::rng::below(8);
        let p: String = (0..n).map(|_| PIECES[crate::rng::below(PIECES.len() as u64) as usize]).collect();
        if let Ok(t) = translate(&p) {
            taken += 1;
            match Regex::parse(&p) {
                Ok(r) => _ = r.matches(p.as_bytes()),
                Err(e) => assert_eq!(e.0, "pattern too large - compile failed", "{p} as {t}"),
            }
        }
    }
    assert!(taken > 400, "only {taken} patterns were valid");
}
