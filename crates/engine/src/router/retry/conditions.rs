//! Why a request may be sent again (`RetryPolicy.retry_on`, `x-envoy-retry-on`, `x-envoy-retry-grpc-on`).

use std::ops::{BitOr, BitOrAssign};

/// A set of conditions.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct RetryOn(u32);

macro_rules! conditions {
    ($list:ident: $($name:ident = $bit:literal $text:literal),* $(,)?) => {
        impl RetryOn {
            $(#[doc = concat!("`", $text, "`")] pub const $name: RetryOn = RetryOn(1 << $bit);)*
        }
        const $list: &[(&str, RetryOn)] = &[$(($text, RetryOn::$name)),*];
    };
}

conditions! { HTTP:
    FIVE_XX = 0 "5xx",
    GATEWAY_ERROR = 1 "gateway-error",
    CONNECT_FAILURE = 2 "connect-failure",
    ENVOY_RATELIMITED = 3 "envoy-ratelimited",
    RETRIABLE_4XX = 4 "retriable-4xx",
    REFUSED_STREAM = 5 "refused-stream",
    RETRIABLE_STATUS_CODES = 6 "retriable-status-codes",
    RETRIABLE_HEADERS = 7 "retriable-headers",
    RESET = 8 "reset",
    RESET_BEFORE_REQUEST = 9 "reset-before-request",
    HTTP3_POST_CONNECT_FAILURE = 10 "http3-post-connect-failure",
}
conditions! { GRPC:
    CANCELLED = 11 "cancelled",
    DEADLINE_EXCEEDED = 12 "deadline-exceeded",
    RESOURCE_EXHAUSTED = 13 "resource-exhausted",
    UNAVAILABLE = 14 "unavailable",
    INTERNAL = 15 "internal",
}

impl RetryOn {
    /// The conditions of HTTP in a list with commas; names that are unknown are passed over, as in Envoy.
    pub fn http(list: &str) -> RetryOn {
        read(list, HTTP)
    }
    /// The conditions of gRPC in a list with commas.
    pub fn grpc(list: &str) -> RetryOn {
        read(list, GRPC)
    }
    /// True for a list in which Envoy knows every name.
    pub fn is_http(list: &str) -> bool {
        knows(list, HTTP)
    }
    /// The same, of gRPC.
    pub fn is_grpc(list: &str) -> bool {
        knows(list, GRPC)
    }
    /// The condition of a gRPC status.
    pub fn of_grpc_status(status: u32) -> RetryOn {
        match status {
            1 => RetryOn::CANCELLED,
            4 => RetryOn::DEADLINE_EXCEEDED,
            8 => RetryOn::RESOURCE_EXHAUSTED,
            13 => RetryOn::INTERNAL,
            14 => RetryOn::UNAVAILABLE,
            _ => RetryOn::default(),
        }
    }
    /// True when some condition is in both sets.
    pub fn any(self, of: RetryOn) -> bool {
        self.0 & of.0 != 0
    }
    /// True without a condition.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for RetryOn {
    type Output = RetryOn;
    fn bitor(self, other: RetryOn) -> RetryOn {
        RetryOn(self.0 | other.0)
    }
}
impl BitOrAssign for RetryOn {
    fn bitor_assign(&mut self, other: RetryOn) {
        self.0 |= other.0;
    }
}

fn knows(list: &str, known: &[(&str, RetryOn)]) -> bool {
    let mut names =
        list.split(',').map(|name| name.trim_matches([' ', '\t'])).filter(|name| !name.is_empty());
    names.all(|name| known.iter().any(|(text, _)| *text == name))
}

fn read(list: &str, known: &[(&str, RetryOn)]) -> RetryOn {
    let known = |name: &str| known.iter().find(|(text, _)| *text == name).map(|(_, c)| *c);
    list.split(',')
        .filter_map(|name| known(name.trim_matches([' ', '\t'])))
        .fold(RetryOn::default(), BitOr::bitor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_by_kind() {
        let both = "5xx, unavailable,nonsense ,connect-failure,";
        assert_eq!(RetryOn::http(both), RetryOn::FIVE_XX | RetryOn::CONNECT_FAILURE);
        assert_eq!(RetryOn::grpc(both), RetryOn::UNAVAILABLE);
        assert!(RetryOn::http("").is_empty() && RetryOn::http("5XX").is_empty());
        assert!(RetryOn::http("reset").any(RetryOn::RESET | RetryOn::FIVE_XX));
        assert!(!RetryOn::http("reset").any(RetryOn::RESET_BEFORE_REQUEST));
    }
    #[test]
    fn every_condition_is_its_own() {
        let all: Vec<_> = HTTP.iter().chain(GRPC).collect();
        let union = all.iter().fold(RetryOn::default(), |a, (_, c)| a | *c);
        assert_eq!(union.0.count_ones() as usize, all.len());
        for (status, text) in [
            (1, "cancelled"),
            (4, "deadline-exceeded"),
            (8, "resource-exhausted"),
            (13, "internal"),
            (14, "unavailable"),
        ] {
            assert_eq!(RetryOn::of_grpc_status(status), RetryOn::grpc(text));
        }
        assert!(RetryOn::of_grpc_status(2).is_empty());
    }
}
