//! `%XFCC_VALUE(key)%`: one value of `x-forwarded-client-cert`.
//!
//! The header is a list of elements (`,`), one per proxy, each a list of `key=value` (`;`). Values with one of these
//! characters are quoted, with `\"` inside. The leftmost element that has the key wins.

/// Appends the value of `key` (lower case); `false` when there is none or the quotes do not match.
pub(super) fn append(header: &[u8], key: &str, out: &mut Vec<u8>) -> bool {
    let mut at = 0;
    while at <= header.len() {
        // The end of a pair is the next separator outside quotes.
        let (mut end, mut quoted) = (at, false);
        while end < header.len() && (quoted || !matches!(header[end], b',' | b';')) {
            match header[end] {
                b'"' => quoted = !quoted,
                b'\\' if header.get(end + 1).is_some_and(|b| matches!(b, b'"' | b'\\')) => end += 1,
                _ => {}
            }
            end += 1;
        }
        if quoted {
            return false;
        }
        let pair = &header[at..end.min(header.len())];
        if let Some(eq) = pair.iter().position(|b| *b == b'=')
            && pair[..eq].trim_ascii().eq_ignore_ascii_case(key.as_bytes())
        {
            unquote(pair[eq + 1..].trim_ascii(), out);
            return true;
        }
        at = end + 1;
    }
    false
}

fn unquote(value: &[u8], out: &mut Vec<u8>) {
    let value = match value {
        [b'"', inner @ .., b'"'] => inner,
        other => other,
    };
    let mut bytes = value.iter().copied().peekable();
    while let Some(b) = bytes.next() {
        let escaped = b == b'\\' && bytes.peek().is_some_and(|n| matches!(n, b'"' | b'\\'));
        out.push(if escaped { bytes.next().unwrap_or(b) } else { b });
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn values() {
        let get = |h: &str, k: &str| {
            let mut out = Vec::new();
            super::append(h.as_bytes(), k, &mut out).then(|| String::from_utf8(out).expect("text"))
        };
        let h = r#"By=http://f;Hash=1;Subject="/C=US,CN=Te\"s;t";URI= u1 ;DNS=d, URI=u2;DNS=e"#;
        assert_eq!(get(h, "by").as_deref(), Some("http://f"));
        assert_eq!(get(h, "subject").as_deref(), Some(r#"/C=US,CN=Te"s;t"#));
        assert_eq!(get(h, "uri").as_deref(), Some("u1"));
        assert_eq!(get(h, "dns").as_deref(), Some("d"));
        assert_eq!(get(h, "cert"), None);
        assert_eq!(get("", "uri"), None);
        assert_eq!(get("By=\"x", "uri"), None);
        assert_eq!(get(r#"Subject="a\\",URI=u"#, "uri").as_deref(), Some("u"));
        assert_eq!(get("URI=", "uri").as_deref(), Some(""));
    }
}
