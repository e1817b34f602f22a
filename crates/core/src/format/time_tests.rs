use super::*;
use std::time::Duration;

fn at(secs: i64, nanos: u32) -> SystemTime {
    let base = SystemTime::UNIX_EPOCH;
    let secs = if secs < 0 {
        base - Duration::from_secs(secs.unsigned_abs())
    } else {
        base + Duration::from_secs(secs as u64)
    };
    secs + Duration::from_nanos(nanos.into())
}
fn format(f: &str, secs: i64, nanos: u32) -> String {
    let mut out = Vec::new();
    TimeFormat::new(f).unwrap().append(at(secs, nanos), &mut out);
    String::from_utf8(out).unwrap()
}

/// Every line measured on Envoy 1.40.0, at this very time.
#[test]
fn as_envoy_prints_it() {
    for (f, text) in [
        ("", "2026-11-21T09:23:54.214Z"),
        ("%Y-%m-%dT%H:%M:%S", "2026-11-21T09:23:54"),
        ("%s", "1795253034"),
        ("%f", "214317000"),
        ("%1f", "2"),
        ("%3f", "214"),
        ("%6f", "214317"),
        ("%9f", "214317000"),
        ("%*f", "214317"),
        ("%E3S", "54.214"),
        ("%E*S", "54.214317"),
        ("%E4f", "2143"),
        ("%E*f", "214317"),
        ("%Ez", "+00:00"),
        ("%E*z", "+00:00:00"),
        ("%Z", "UTC"),
        ("%z", "+0000"),
        ("%:z", "+00:00"),
        ("%::z", "+00:00:00"),
        ("%a %A %b %B %h", "Sat Saturday Nov November Nov"),
        ("%e %d %j %U %u %w %W %p %P", "21 21 325 46 6 6 46 AM am"),
        ("%I|%l|%k|%y|%C|%D|%F", "09| 9| 9|26|20|11/21/26|2026-11-21"),
        (
            "%T|%R|%r|%c|%x|%X|%t|%G|%g|%V",
            "09:23:54|09:23|09:23:54 AM|Sat Nov 21 09:23:54 2026|11/21/26|09:23:54|\t|2026|26|47",
        ),
        ("%Q|%E4Y|%ET|%Et|%s.%3f|%E0S|%0f|%Es|%q", "%Q|2026|T|t|1795253034.214|54|%0f|1795253034|%q"),
        ("%-d|%_d|%+|%N|%v|%i|%5S|x%|%Od|%Ey|%O", "21|21|%+|%N|%v|%i|00054|x%|21|26|%O"),
        (
            "%EY|%E|%%|%%f|%%s|%%%s|%L|%J|%K|%4Y|%ES|%E1Y|%OS",
            "2026|%E|%|%214317000|%1795253034|%1795253034|%L|%J|%K|2026|%ES|%E1Y|54",
        ),
    ] {
        assert_eq!(format(f, 1_795_253_034, 214_317_000), text, "{f}");
    }
}

#[test]
fn no_line_feed() {
    for f in ["%n", "a%0n", "%-3En", "%On"] {
        assert!(TimeFormat::new(f).is_err(), "{f}");
    }
    assert!(!format("%E0n|%10n", 0, 0).contains('\n'));
}

#[test]
fn fractions_of_nothing() {
    assert_eq!(format("%*f|%E*f|%E*S|%3f", 1, 0), "0|0|01|000");
    assert_eq!(format("%E*S", 1, 500_000_000), "01.5");
}

#[test]
fn calendar() {
    for (secs, text) in [
        (0, "1970-01-01 001 Thu 1970-W01 00:00:00"),
        (951_782_399, "2000-02-28 059 Mon 2000-W09 23:59:59"),
        (951_782_400, "2000-02-29 060 Tue 2000-W09 00:00:00"),
        (978_220_800, "2000-12-31 366 Sun 2000-W52 00:00:00"),
        (1_104_537_600, "2005-01-01 001 Sat 2004-W53 00:00:00"),
        (1_230_681_600, "2008-12-31 366 Wed 2009-W01 00:00:00"),
        (4_107_542_400, "2100-03-01 060 Mon 2100-W09 00:00:00"),
        (-1, "1969-12-31 365 Wed 1970-W01 23:59:59"),
    ] {
        assert_eq!(format("%F %j %a %G-W%V %T", secs, 0), text);
    }
}
