//! Headers with which a caller directs the router, refused when nobody could make sense of them (`strict_check_headers`).

use super::retry::conditions::RetryOn;
use nuncio_core::{Flag, LocalReply};
use nuncio_wire::{HeaderMap, HeaderName};

/// The headers that are looked at.
pub struct StrictHeaders(Vec<(HeaderName, Check)>);

type Check = fn(&str) -> bool;

impl StrictHeaders {
    /// From configuration; none if no header is to be looked at.
    pub fn new(names: &[String]) -> Option<StrictHeaders> {
        let check = |name: &str| -> Check {
            match name {
                "x-envoy-retry-on" => RetryOn::is_http,
                "x-envoy-retry-grpc-on" => RetryOn::is_grpc,
                _ => is_number,
            }
        };
        let all: Vec<_> = names.iter().map(|n| (HeaderName::new(n), check(n))).collect();
        (!all.is_empty()).then_some(StrictHeaders(all))
    }
    /// The answer to a request with a value that means nothing. As in Envoy the first value of a header counts.
    pub fn refuse(&self, h: &HeaderMap) -> Option<LocalReply> {
        let (name, value) = self.0.iter().find_map(|(name, check)| {
            let value = h.get(name)?;
            let valid = std::str::from_utf8(value).is_ok_and(check);
            (!valid).then(|| (name.as_str(), String::from_utf8_lossy(value)))
        })?;
        let body = format!("invalid header '{name}' with value '{value}'");
        let reply = LocalReply::new(400, body, format!("request_headers_failed_strict_check{{{name}}}"));
        Some(reply.flag(Flag::InvalidEnvoyRequestHeaders))
    }
}

/// A number as Envoy reads it (`absl::SimpleAtoi`): blanks around it do not matter.
fn is_number(value: &str) -> bool {
    value.trim_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']).parse::<u64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_nothing_is_refused() {
        let names = ["x-envoy-max-retries", "x-envoy-retry-on", "x-envoy-retry-grpc-on"].map(str::to_owned);
        let strict = StrictHeaders::new(&names).expect("headers");
        let ask = |name: &str, value: &str| {
            let h: HeaderMap = [(name, value)].into_iter().collect();
            strict.refuse(&h).map(|r| (r.status, r.details.into_owned()))
        };
        for (name, value) in [
            ("x-envoy-max-retries", " 3 "),
            ("x-envoy-retry-on", "5xx,reset"),
            ("x-envoy-retry-grpc-on", "cancelled"),
            ("x-envoy-upstream-rq-timeout-ms", "soon"),
        ] {
            assert_eq!(ask(name, value), None, "{name}: {value}");
        }
        for (name, value) in [
            ("x-envoy-max-retries", "-1"),
            ("x-envoy-max-retries", ""),
            ("x-envoy-retry-on", "5xx,cancelled"),
            ("x-envoy-retry-grpc-on", "5xx"),
        ] {
            let details = format!("request_headers_failed_strict_check{{{name}}}");
            assert_eq!(ask(name, value), Some((400, details)), "{name}: {value}");
        }
        assert!(StrictHeaders::new(&[]).is_none());
    }
}
