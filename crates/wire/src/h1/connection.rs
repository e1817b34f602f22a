//! The `Connection` header: hop-by-hop options (RFC 9110 §7.6.1) and upgrades (§7.8).

use super::chars::{list, list_has, trim};
use super::error::Cause;
use super::fields::Facts;
use super::settings::IgnoreUpgrade;
use crate::head::Version;
use crate::headers::HeaderMap;
use crate::name;

/// Envoy refuses a `connection` header with this many members or more.
const MAX_NOMINATED: usize = 10;
/// Envoy refuses a nominated `te` of this length or more.
const MAX_TE: usize = 256;

/// True when the connection must close after this message.
pub(super) fn closes(version: Version, chunked: bool, headers: &HeaderMap, facts: &Facts) -> bool {
    if chunked && version == Version::Http10 {
        return true; // RFC 9112 §6.1: a peer this old that sends chunks cannot be trusted with framing.
    }
    let has = |set: bool, n, token: &[u8]| set && headers.get(n).is_some_and(|v| list_has(v, token));
    match version {
        Version::Http10 if !has(facts.connection, name::CONNECTION, b"keep-alive") => return true,
        Version::Http11 if has(facts.connection, name::CONNECTION, b"close") => return true,
        _ => {}
    }
    has(facts.proxy_connection, name::PROXY_CONNECTION, b"close")
}

/// True for `connection: upgrade` with an `upgrade` header.
pub(super) fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.contains(name::UPGRADE) && headers.get(name::CONNECTION).is_some_and(|v| list_has(v, b"upgrade"))
}

/// Removes what is to be ignored: `h2c` (with `http2-settings`), and what `ignore` names.
pub(super) fn drop_ignored_upgrades(headers: &mut HeaderMap, ignore: Option<&IgnoreUpgrade>) {
    let upgrade = headers.get(name::UPGRADE).unwrap_or_default();
    if upgrade.eq_ignore_ascii_case(b"h2c") {
        headers.remove(name::UPGRADE);
        headers.remove(name::HTTP2_SETTINGS);
        remove_options(headers, |t| {
            t.eq_ignore_ascii_case(b"upgrade") || t.eq_ignore_ascii_case(b"http2-settings")
        });
    } else if let Some(IgnoreUpgrade(ignore)) = ignore {
        let kept: Vec<&[u8]> = list(upgrade).filter(|t| !ignore(t)).collect();
        if kept.is_empty() {
            headers.remove(name::UPGRADE);
            remove_options(headers, |t| t.eq_ignore_ascii_case(b"upgrade"));
        } else if kept.len() < list(upgrade).count() {
            let joined = kept.join(&b","[..]);
            headers.set(name::UPGRADE, &joined);
        }
    }
}

/// Takes the options for which `gone` holds out of `connection`.
fn remove_options(headers: &mut HeaderMap, gone: impl Fn(&[u8]) -> bool) {
    let Some(v) = headers.get(name::CONNECTION) else { return };
    let kept: Vec<&[u8]> = list(v).filter(|t| !gone(t)).collect();
    if kept.is_empty() {
        headers.remove(name::CONNECTION);
    } else {
        let joined = kept.join(&b","[..]);
        headers.set(name::CONNECTION, &joined);
    }
}

/// Removes the headers that `connection` names. Refuses names whose removal would hide something
/// (`x-forwarded-*`, pseudo-headers) and lists that are too long.
pub(super) fn sanitize(headers: &mut HeaderMap) -> Result<(), Cause> {
    let value = headers.get(name::CONNECTION).unwrap_or_default();
    if value.split(|&c| c == b',').filter(|t| !t.is_empty()).count() >= MAX_NOMINATED {
        return Err(Cause::Nominated);
    }
    let plain = |t: &[u8]| {
        [&b"close"[..], b"keep-alive", b"upgrade", b"http2-settings"]
            .iter()
            .any(|p| t.eq_ignore_ascii_case(p))
    };
    if value.split(|&c| c == b',').map(trim).all(|t| t.is_empty() || plain(t)) {
        return Ok(());
    }
    let tokens: Vec<Vec<u8>> = list(value).filter(|t| !plain(t)).map(<[u8]>::to_ascii_lowercase).collect();
    let mut kept_te = false;
    for t in &tokens {
        match &t[..] {
            b"x-forwarded-for" | b"x-forwarded-host" | b"x-forwarded-proto" => return Err(Cause::Nominated),
            [b':', ..] => return Err(Cause::Nominated),
            b"connection" => {}
            b"te" => {
                let te = headers.get(name::TE).unwrap_or_default();
                if te.len() >= MAX_TE {
                    return Err(Cause::Nominated);
                }
                if list_has(te, b"trailers") {
                    headers.set(name::TE, b"trailers");
                    kept_te = true;
                } else {
                    headers.remove(name::TE);
                }
            }
            b"host" => drop(headers.remove(name::AUTHORITY)),
            other => drop(headers.remove(other)),
        }
    }
    let stays = |t: &[u8]| plain(t) || (kept_te && t.eq_ignore_ascii_case(b"te"));
    remove_options(headers, |t| !stays(t));
    Ok(())
}
