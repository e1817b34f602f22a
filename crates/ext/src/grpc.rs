//! What several filters know of gRPC: content types, names in paths, frames, stats of clusters.

use nuncio_core::stats;
use nuncio_core::stats::{Scope, sanitize};
use nuncio_wire::{HeaderMap, name};

/// Bytes of a frame's head: flags and length.
pub const FRAME_HEAD: usize = 5;

/// The content type without its parameters.
pub fn media_type(headers: &HeaderMap) -> &[u8] {
    let t = headers.get(name::CONTENT_TYPE).unwrap_or_default();
    t.split(|b| *b == b';').next().unwrap_or_default().trim_ascii_end()
}

/// `application/grpc`, alone or with `+…`.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let t = headers.get(name::CONTENT_TYPE).unwrap_or_default();
    t.strip_prefix(b"application/grpc")
        .is_some_and(|rest| rest.is_empty() || rest[0] == b'+' || rest[0] == b';')
}

/// Service and method of a path of the form `/service/method`.
pub fn names(path: &[u8]) -> Option<(String, String)> {
    let path = path.split(|b| *b == b'?').next().unwrap_or_default();
    let path = std::str::from_utf8(path).ok()?;
    let mut parts = path.split('/').filter(|p| !p.is_empty());
    match (parts.next(), parts.next(), parts.next()) {
        (Some(service), Some(method), None) => Some((service.to_owned(), method.to_owned())),
        _ => None,
    }
}

stats! {
    /// Below `cluster.`: each with the cluster's name, the protocol, and perhaps service and method.
    pub struct GrpcStats {
        counters: CounterFamily = "",
        times: HistogramFamily(Milliseconds) = "",
    }
}

impl GrpcStats {
    /// Those of all clusters.
    pub fn of_clusters(scope: &Scope) -> GrpcStats {
        GrpcStats::new(&crate::config::root(scope).scope("cluster"))
    }
    /// Where the stats of an exchange stand: `protocol` is `grpc` or `grpc-web`.
    pub fn prefix(cluster: &str, protocol: &str, names: Option<&(String, String)>) -> String {
        let cluster = sanitize(cluster);
        match names {
            Some((service, method)) => format!("{cluster}.{protocol}.{service}.{method}"),
            None => format!("{cluster}.{protocol}"),
        }
    }
    /// Adds to one of them.
    pub fn add(&self, prefix: &str, what: &str, n: u64) {
        self.counters().get(&format!("{prefix}.{what}")).add(n);
    }
    /// Counts a status, and whether it is a success.
    pub fn status(&self, prefix: &str, status: &[u8]) {
        self.add(prefix, &String::from_utf8_lossy(status), 1);
        self.success(prefix, status == b"0");
    }
    /// Counts a success or a failure.
    pub fn success(&self, prefix: &str, success: bool) {
        self.add(prefix, if success { "success" } else { "failure" }, 1);
        self.add(prefix, "total", 1);
    }
}

/// Counts the frames of a body.
#[derive(Default, Debug)]
pub struct FrameCounter {
    head: [u8; FRAME_HEAD],
    head_len: usize,
    /// Of the frame's content.
    left: u64,
    /// Frames whose first byte was seen.
    pub count: u64,
}

impl FrameCounter {
    /// Looks at more of the body; says how many frames began in it.
    pub fn inspect(&mut self, mut data: &[u8]) -> u64 {
        let before = self.count;
        while !data.is_empty() {
            if self.left > 0 {
                let n = data.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.left -= n as u64;
                data = &data[n..];
                continue;
            }
            if self.head_len == 0 {
                self.count += 1;
            }
            self.head[self.head_len] = data[0];
            self.head_len += 1;
            data = &data[1..];
            if self.head_len == FRAME_HEAD {
                let [_, length @ ..] = self.head;
                self.left = u64::from(u32::from_be_bytes(length));
                self.head_len = 0;
            }
        }
        self.count - before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_paths() {
        let of = |p: &str| names(p.as_bytes()).map(|(s, m)| format!("{s} {m}"));
        assert_eq!(of("/a.B/C").as_deref(), Some("a.B C"));
        assert_eq!(of("/a.B/C?q/r").as_deref(), Some("a.B C"));
        assert_eq!(of("a//b/").as_deref(), Some("a b"));
        for none in ["", "/", "/a", "/a/", "/a/b/c"] {
            assert_eq!(of(none), None, "{none}");
        }
    }

    #[test]
    fn frames_are_counted_however_they_are_cut() {
        let body = [&[0, 0, 0, 0, 3][..], b"abc", &[1, 0, 0, 0, 0], &[0, 0, 0, 1, 0], &[b'x'; 256], &[0, 0]]
            .concat();
        for size in 1..body.len() {
            let mut c = FrameCounter::default();
            let found: u64 = body.chunks(size).map(|part| c.inspect(part)).sum();
            assert_eq!((found, c.count), (4, 4), "{size}");
        }
    }

    #[test]
    fn content_types() {
        let is = |t: &str| is_grpc(&[("content-type", t)].into_iter().collect());
        assert!(is("application/grpc") && is("application/grpc+proto") && is("application/grpc;a=b"));
        assert!(!is("application/grpc-web") && !is("application/grpcx") && !is("") && !is("text/plain"));
    }
}
