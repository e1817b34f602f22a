//! Tests of the header map.

use super::*;
use crate::name;

fn text(m: &HeaderMap) -> String {
    m.iter()
        .map(|h| format!("{}={};", String::from_utf8_lossy(h.name), String::from_utf8_lossy(h.value)))
        .collect()
}

#[test]
fn keeps_order_and_multiple_values() {
    let mut m: HeaderMap = [("b", "1"), ("a", "2"), ("b", "3")].into_iter().collect();
    assert_eq!(text(&m), "b=1;a=2;b=3;");
    assert_eq!(m.get("b"), Some(&b"1"[..]));
    assert_eq!(m.get_all("b").collect::<Vec<_>>(), [b"1", b"3"]);
    assert_eq!(m.joined("b").as_deref(), Some(&b"1,3"[..]));
    assert_eq!(m.remove("b"), 2);
    assert_eq!(text(&m), "a=2;");
}

#[test]
fn pseudo_headers_stay_in_front() {
    let mut m: HeaderMap = [("x", "1")].into_iter().collect();
    m.append(name::METHOD, b"GET");
    m.append(name::PATH, b"/");
    assert_eq!(text(&m), ":method=GET;:path=/;x=1;");
}

#[test]
fn set_replaces_in_place() {
    let mut m: HeaderMap = [("a", "1"), ("b", "2"), ("a", "3")].into_iter().collect();
    m.set("a", b"longer than before");
    assert_eq!(text(&m), "a=longer than before;b=2;");
    m.set("a", b"s");
    assert_eq!(text(&m), "a=s;b=2;");
    m.set("c", b"new");
    assert_eq!(text(&m), "a=s;b=2;c=new;");
}

#[test]
fn append_to_grows_a_value() {
    let mut m: HeaderMap = [("x-forwarded-for", "1.1.1.1"), ("z", "")].into_iter().collect();
    m.append_to(name::X_FORWARDED_FOR, b",", b"2.2.2.2");
    m.append_to(name::X_FORWARDED_FOR, b",", b"3.3.3.3");
    m.append_to("z", b",", b"v");
    m.append_to("new", b",", b"v");
    assert_eq!(text(&m), "x-forwarded-for=1.1.1.1,2.2.2.2,3.3.3.3;z=v;new=v;");
}

#[test]
fn written_case_is_kept_on_demand() {
    let mut m = HeaderMap::new();
    m.push_written(Id::OTHER, b"X-Foo", b"1", true);
    m.push_written(name::HOST, b"Host", b"h", false);
    let h: Vec<_> = m.iter().map(|h| (h.name.to_vec(), h.written.map(<[u8]>::to_vec), h.id)).collect();
    assert_eq!(h[0], (b"x-foo".to_vec(), Some(b"X-Foo".to_vec()), Id::OTHER));
    assert_eq!(h[1], (b"host".to_vec(), None, name::HOST));
}

#[test]
fn retain_and_byte_size() {
    let mut m: HeaderMap = [("x-envoy-a", "1"), ("b", "22")].into_iter().collect();
    assert_eq!(m.byte_size(), 10 + 3);
    m.retain(|h| !h.name.starts_with(b"x-envoy-"));
    assert_eq!(text(&m), "b=22;");
}

#[test]
fn a_set_is_removed_in_one_pass() {
    let mut m: HeaderMap =
        [("connection", "x"), ("a", "1"), ("te", "y"), ("keep-alive", "z")].into_iter().collect();
    m.remove_all(&IdSet::new(&[name::CONNECTION, name::KEEP_ALIVE]));
    assert_eq!(text(&m), "a=1;te=y;");
}

#[test]
fn neighbours_leave_in_one_piece() {
    let pieces = |m: &HeaderMap, leave_out: &[Id]| {
        let mut all = Vec::new();
        m.lines(&IdSet::new(leave_out), |l| all.push(String::from_utf8_lossy(l).into_owned()));
        all.retain(|l| !l.is_empty());
        all
    };
    let mut m = HeaderMap::new();
    m.push_line(AUTHORITY, b"Host: a\r\n", 4);
    m.push_line(Id::OTHER, b"X-Long-Name: 1\r\n", 11);
    m.append(name::VIA, b"2");
    assert_eq!(text(&m), ":authority=a;x-long-name=1;via=2;");
    assert_eq!(pieces(&m, &[]), ["host: a\r\nx-long-name: 1\r\nvia: 2\r\n"]);
    assert_eq!(pieces(&m, &[AUTHORITY]), ["x-long-name: 1\r\nvia: 2\r\n"]);
    m.set("x-long-name", b"longer");
    assert_eq!(pieces(&m, &[]), ["host: a\r\n", "x-long-name: longer\r\n", "via: 2\r\n"]);
    m.append_to("x-long-name", b",", b"3");
    m.set(name::VIA, b"");
    assert_eq!(pieces(&m, &[]), ["host: a\r\n", "x-long-name: longer,3\r\n", "via: \r\n"]);
    m.remove(name::VIA);
    assert_eq!(pieces(&m, &[AUTHORITY]), ["x-long-name: longer,3\r\n"]);
    assert!(m.is_plain());
}

#[test]
fn what_could_end_a_line_is_noticed() {
    let made = |edit: fn(&mut HeaderMap)| {
        let mut m: HeaderMap = [("a", "1")].into_iter().collect();
        edit(&mut m);
        m.is_plain()
    };
    assert!(made(|m| m.set("a", b"tab\tis fine")));
    assert!(!made(|m| m.append("b", b"\r\nc: d")));
    assert!(!made(|m| m.append("b: c\r\nd", b"")));
    assert!(!made(|m| m.set("a", b"\n")));
    assert!(!made(|m| m.set("a", b"longer\n")));
    assert!(!made(|m| m.append_to("a", b",", b"\0")));
    assert!(!made(|m| m.append_to("a", b"\n", b"1")));
    assert!(!made(|m| m.push_written(Id::OTHER, b"B", b"", true)));
    assert!(!made(|m| {
        m.append("b", b"\n");
        *m = m.clone();
    }));
}

#[test]
fn names_are_lowered() {
    for len in 0..20 {
        for at in 0..len {
            for c in (0..128u8).filter(|c| crate::chars::is_tchar(*c)) {
                let mut s = vec![b'Z'; len];
                s[at] = c;
                let want = s.to_ascii_lowercase();
                lower(&mut s);
                assert_eq!(s, want);
            }
        }
    }
}

#[test]
fn memory_is_reused() {
    drop(HeaderMap::from_iter([("a", "1")]));
    let p = HeaderMap::new();
    assert!(p.is_empty() && p.text.capacity() > 0);
}
