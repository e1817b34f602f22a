//! Upgrades over HTTP/2 (RFC 8441): extended CONNECT there is `Upgrade` everywhere else in the proxy, as in Envoy.

use nuncio_wire::{HeaderMap, IdSet, RequestHead, ResponseHead, name};

const HOP: IdSet = IdSet::new(&[name::CONNECTION, name::UPGRADE]);

/// A client's extended CONNECT becomes the request for an upgrade that it means.
pub fn request_from_h2(head: &mut RequestHead) {
    if !head.is_connect() {
        return;
    }
    let Some(kind) = head.headers.get(name::PROTOCOL).map(<[u8]>::to_vec) else { return };
    let h = &mut head.headers;
    h.set(name::METHOD, b"GET");
    h.remove(name::PROTOCOL);
    h.set(name::UPGRADE, &kind);
    h.set(name::CONNECTION, b"upgrade");
}

/// An accepted upgrade as HTTP/2 says it; `None`: the head is no such answer.
pub fn response_to_h2(head: &ResponseHead) -> Option<ResponseHead> {
    let mut head = (head.status == 101).then(|| head.clone())?;
    head.status = 200;
    without_hop(&mut head.headers);
    Some(head)
}

/// A request for an upgrade as an HTTP/2 host is to get it, and the upgrade; `None`: the head is no such request.
pub fn request_to_h2(head: &RequestHead) -> Option<(RequestHead, Box<[u8]>)> {
    let kind: Box<[u8]> = head.headers.get(name::UPGRADE)?.into();
    let mut head = head.clone();
    head.headers.set(name::METHOD, b"CONNECT");
    head.headers.append(name::PROTOCOL, &kind);
    without_hop(&mut head.headers);
    Some((head, kind))
}

/// What an HTTP/2 host answered to the request for the upgrade `kind`, as HTTP/1 says it.
pub fn response_from_h2(head: &mut ResponseHead, kind: &[u8]) {
    if head.status == 200 {
        head.status = 101;
        head.headers.set(name::UPGRADE, kind);
        head.headers.set(name::CONNECTION, b"upgrade");
    }
}

fn without_hop(h: &mut HeaderMap) {
    h.remove_all(&HOP);
    if h.get(name::CONTENT_LENGTH) == Some(b"0") {
        h.remove(name::CONTENT_LENGTH);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(h: &HeaderMap) -> String {
        let line = |h: nuncio_wire::headers::Header<'_>| {
            format!("{}={};", String::from_utf8_lossy(h.name), String::from_utf8_lossy(h.value))
        };
        h.iter().map(line).collect()
    }

    #[test]
    fn there_and_back() {
        let h2 = [(":method", "CONNECT"), (":path", "/a"), (":protocol", "websocket"), ("x", "1")];
        let mut head = RequestHead { headers: h2.into_iter().collect(), ..Default::default() };
        request_from_h2(&mut head);
        assert_eq!(text(&head.headers), ":method=GET;:path=/a;x=1;upgrade=websocket;connection=upgrade;");
        let (back, kind) = request_to_h2(&head).expect("an upgrade");
        assert_eq!(text(&back.headers), ":method=CONNECT;:path=/a;:protocol=websocket;x=1;");
        assert_eq!(&*kind, b"websocket");

        let mut answer = ResponseHead { status: 200, ..Default::default() };
        response_from_h2(&mut answer, &kind);
        assert_eq!((answer.status, &*text(&answer.headers)), (101, "upgrade=websocket;connection=upgrade;"));
        let back = response_to_h2(&answer).expect("it is accepted");
        assert_eq!((back.status, &*text(&back.headers)), (200, ""));
        assert!(response_to_h2(&back).is_none());
    }

    #[test]
    fn plain_connect_stays() {
        let headers: HeaderMap = [(":method", "CONNECT"), (":authority", "a:1")].into_iter().collect();
        let mut head = RequestHead { headers, ..Default::default() };
        request_from_h2(&mut head);
        assert_eq!(text(&head.headers), ":method=CONNECT;:authority=a:1;");
        assert!(request_to_h2(&head).is_none());
    }
}
