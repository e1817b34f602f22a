use super::pattern::{c_escape, printable};
use super::*;
use std::time::Duration;

/// 2026-11-21 04:07:05.522333444 UTC, a Saturday.
fn record(message: &str) -> Record<'_> {
    Record {
        level: Level::Warning,
        logger: "main",
        source: Source { file: "crates/x/src/y.rs", line: 42, module: "x::y" },
        at: Duration::new(1_795_234_025, 522_333_444),
        elapsed: Duration::from_micros(11_681),
        thread: 77,
        message,
    }
}

fn render(pattern: &str, message: &str) -> String {
    let mut out = String::new();
    Pattern::parse(pattern).render(&record(message), &mut out);
    out
}

#[test]
fn the_default_line_is_envoys() {
    assert_eq!(
        render(DEFAULT_FORMAT, "hello"),
        "[2026-11-21 04:07:05.522][77][warning][main] [crates/x/src/y.rs:42] hello"
    );
}

/// Expected texts are what Envoy 1.40 printed for the same flags.
#[test]
fn every_flag() {
    for (flag, text) in [
        ("%%", "%"),
        ("%@", "crates/x/src/y.rs:42"),
        ("%s", "y.rs"),
        ("%!", "x::y"),
        ("%L", "W"),
        ("%^%$", ""),
        ("%*", ""),
        ("%i %u %o %O", "11681 11681000 11 0"),
        ("%E %F %f %z", "1795234025 522333444 522333 +00:00"),
        ("%D|%x|%R|%r|%X", "11/21/26|11/21/26|04:07|04:07:05 AM|04:07:05"),
        ("%c", "Sat Nov 21 04:07:05 2026"),
        ("%C %a %A %b %B %h %H %I %M %S %p %d %m", "26 Sat Saturday Nov November Nov 04 04 07 05 AM 21 11"),
        ("%q|%Z", "%q|%Z"),
        ("%=11l|%-9l|%9l|%3!l|%3l", "  warning  |warning  |  warning|war|warning"),
        ("A%%B%", "A%B"),
        ("%", ""),
    ] {
        assert_eq!(render(flag, "m"), text, "{flag}");
    }
    assert_eq!(render("%P", ""), std::process::id().to_string());
}

#[test]
fn messages_with_line_breaks() {
    assert_eq!(render("%v", "a\nb"), "a\nb");
    assert_eq!(render("%_ %+", "a\nb"), "a\\nb a\\nb");
    assert_eq!(render("%j", "a\n\"b\"\t\u{1}"), "a\\n\\\"b\\\"\\t\\u0001");
}

#[test]
fn control_characters_cannot_forge_a_line() {
    assert_eq!(
        printable("a\n[2026][critical] gone\r\x1b[2J\u{85}\tb", false),
        "a\\n[2026][critical] gone\\r\\u{1b}[2J\\u{85}\tb"
    );
    assert_eq!(printable("a\nb", true), "a\nb");
}

#[test]
fn escaped_as_c() {
    assert_eq!(c_escape("it's \"é\"\\\n\x01"), "it\\'s \\\"\\303\\251\\\"\\\\\\n\\001");
}

#[test]
fn dates() {
    for (at, text) in [
        (0, "Thu Jan 1 00:00:00 1970"),
        (951_782_400, "Tue Feb 29 00:00:00 2000"),
        (1_709_251_199, "Thu Feb 29 23:59:59 2024"),
        (4_107_542_400, "Mon Mar 1 00:00:00 2100"),
    ] {
        let mut out = String::new();
        Pattern::parse("%c").render(&Record { at: Duration::from_secs(at), ..record("") }, &mut out);
        assert_eq!(out, text);
    }
    assert_eq!(render("%I %p", ""), "04 AM");
    let noon = Record { at: Duration::from_secs(12 * 3600), ..record("") };
    let mut out = String::new();
    Pattern::parse("%I %p").render(&noon, &mut out);
    assert_eq!(out, "12 PM");
}

#[test]
fn names() {
    assert_eq!(Logger::all().count(), 73);
    for l in Logger::all() {
        assert_eq!(Logger::from_name(l.name()), Some(l));
    }
    for l in LEVELS {
        assert_eq!(Level::from_name(l.name()), Some(l));
    }
    assert_eq!(Level::from_name("warn"), Some(Level::Warning));
    assert_eq!((Level::from_name("bogus"), Logger::from_name("bogus")), (None, None));
}

#[test]
fn thresholds_are_per_logger() {
    set_level(Logger::Testing, Level::Error);
    assert!(enabled(Logger::Testing, Level::Error) && enabled(Logger::Testing, Level::Critical));
    assert!(!enabled(Logger::Testing, Level::Warning));
    assert_eq!(level(Logger::Testing), Level::Error);
    set_level(Logger::Testing, Level::Off);
    assert!(!enabled(Logger::Testing, Level::Critical));
}

/// One test drives the sink, which is the process's.
#[test]
fn lines_reach_the_file_and_a_rotated_file_is_opened_anew() {
    let dir = std::env::temp_dir().join(format!("nuncio-log-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (path, moved) = (dir.join("a.log"), dir.join("a.log.1"));
    set_file(&path).unwrap();
    crate::log!(Sse, Error, "before {}", "the writer");
    start_writer().unwrap();
    crate::log!(Sse, Info, "one\ntwo");
    crate::log!(Sse, Debug, "not written");
    flush();
    std::fs::rename(&path, &moved).unwrap();
    reopen().unwrap();
    crate::log_lines!(Sse, Info, "three\nfour");
    flush();
    let (old, new) = (std::fs::read_to_string(&moved).unwrap(), std::fs::read_to_string(&path).unwrap());
    assert!(
        old.contains("][error][sse] [crates/core/src/log/tests.rs:") || old.contains("src/log/tests.rs:"),
        "{old}"
    );
    assert!(old.contains("before the writer\n") && old.contains("one\\ntwo\n"), "{old}");
    assert!(!old.contains("not written"));
    assert!(new.ends_with("three\nfour\n"), "{new}");
    assert!(set_file(&dir.join("no/such")).is_err());
    std::fs::remove_dir_all(&dir).unwrap();
}
