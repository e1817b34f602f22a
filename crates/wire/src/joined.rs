//! Headers of which Envoy keeps one entry ("inline" headers): when a message repeats one, the values are joined with
//! `,` in the place of the first. Every other name keeps its lines. Measured on Envoy 1.40.

use crate::headers::HeaderMap;
use crate::name::{self, Id, IdSet};

/// Joins the repeated headers of a request as Envoy does when it reads one.
pub fn join_request(headers: &mut HeaderMap) {
    headers.join_repeated(in_requests);
}

/// Joins the repeated headers of a response as Envoy does when it reads one.
pub fn join_response(headers: &mut HeaderMap) {
    headers.join_repeated(in_responses);
}

/// True when a request has at most one entry of this name.
#[inline]
pub fn in_requests(id: Id) -> bool {
    const SET: IdSet = REQUESTS.with_all(&BOTH);
    SET.has(id)
}

/// True when a response has at most one entry of this name.
#[inline]
pub fn in_responses(id: Id) -> bool {
    const SET: IdSet = RESPONSES.with_all(&BOTH);
    SET.has(id)
}

const REQUESTS: IdSet = {
    use name::*;
    IdSet::new(&[
        ACCEPT,
        ACCEPT_ENCODING,
        ACCESS_CONTROL_REQUEST_HEADERS,
        ACCESS_CONTROL_REQUEST_METHOD,
        ACCESS_CONTROL_REQUEST_PRIVATE_NETWORK,
        AUTHORIZATION,
        CDN_LOOP,
        EXPECT,
        GRPC_ACCEPT_ENCODING,
        GRPC_TIMEOUT,
        IF_MATCH,
        IF_MODIFIED_SINCE,
        IF_NONE_MATCH,
        IF_RANGE,
        IF_UNMODIFIED_SINCE,
        ORIGIN,
        PRAGMA,
        REFERER,
        TE,
        USER_AGENT,
        X_CLIENT_TRACE_ID,
        X_ENVOY_DOWNSTREAM_SERVICE_CLUSTER,
        X_ENVOY_DOWNSTREAM_SERVICE_NODE,
        X_ENVOY_EXPECTED_RQ_TIMEOUT_MS,
        X_ENVOY_EXTERNAL_ADDRESS,
        X_ENVOY_FORCE_TRACE,
        X_ENVOY_HEDGE_ON_PER_TRY_TIMEOUT,
        X_ENVOY_INTERNAL,
        X_ENVOY_IP_TAGS,
        X_ENVOY_IS_TIMEOUT_RETRY,
        X_ENVOY_MAX_RETRIES,
        X_ENVOY_ORIGINAL_HOST,
        X_ENVOY_ORIGINAL_PATH,
        X_ENVOY_ORIGINAL_URL,
        X_ENVOY_RETRIABLE_HEADER_NAMES,
        X_ENVOY_RETRIABLE_STATUS_CODES,
        X_ENVOY_RETRY_GRPC_ON,
        X_ENVOY_RETRY_ON,
        X_ENVOY_UPSTREAM_ALT_STAT_NAME,
        X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS,
        X_ENVOY_UPSTREAM_RQ_TIMEOUT_ALT_RESPONSE,
        X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS,
        X_ENVOY_UPSTREAM_STREAM_DURATION_MS,
        X_FORWARDED_CLIENT_CERT,
        X_FORWARDED_FOR,
        X_FORWARDED_HOST,
        X_FORWARDED_PORT,
        X_FORWARDED_PROTO,
    ])
};

const RESPONSES: IdSet = {
    use name::*;
    IdSet::new(&[
        ACCESS_CONTROL_ALLOW_CREDENTIALS,
        ACCESS_CONTROL_ALLOW_HEADERS,
        ACCESS_CONTROL_ALLOW_METHODS,
        ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_ALLOW_PRIVATE_NETWORK,
        ACCESS_CONTROL_EXPOSE_HEADERS,
        ACCESS_CONTROL_MAX_AGE,
        AGE,
        DATE,
        ETAG,
        EXPIRES,
        GRPC_MESSAGE,
        GRPC_STATUS,
        LAST_MODIFIED,
        LOCATION,
        SERVER,
        VARY,
        X_ENVOY_DEGRADED,
        X_ENVOY_IMMEDIATE_HEALTH_CHECK_FAIL,
        X_ENVOY_RATELIMITED,
        X_ENVOY_UPSTREAM_CANARY,
        X_ENVOY_UPSTREAM_HEALTHCHECKED_CLUSTER,
        X_ENVOY_UPSTREAM_SERVICE_TIME,
    ])
};

const BOTH: IdSet = {
    use name::*;
    IdSet::new(&[
        CACHE_CONTROL,
        CONNECTION,
        CONTENT_ENCODING,
        CONTENT_TYPE,
        KEEP_ALIVE,
        PROXY_CONNECTION,
        PROXY_STATUS,
        TRANSFER_ENCODING,
        UPGRADE,
        VIA,
        X_ENVOY_ATTEMPT_COUNT,
        X_ENVOY_DECORATOR_OPERATION,
        X_REQUEST_ID,
    ])
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_in_the_place_of_the_first() {
        let pairs = [("via", "1"), ("cookie", "a"), ("via", ""), ("x", "y"), ("cookie", "b"), ("via", "2")];
        let mut m: HeaderMap = pairs.into_iter().collect();
        join_request(&mut m);
        let want = [("via", "1,2"), ("cookie", "a"), ("x", "y"), ("cookie", "b")];
        assert_eq!(m, want.into_iter().collect());
    }

    #[test]
    fn an_empty_first_value_takes_the_next_without_a_comma() {
        let mut m: HeaderMap = [("te", ""), ("te", "trailers")].into_iter().collect();
        join_request(&mut m);
        assert_eq!(m, [("te", "trailers")].into_iter().collect());
    }

    #[test]
    fn depends_on_the_direction() {
        let pairs = [("location", "a"), ("location", "b"), ("accept", "c"), ("accept", "d")];
        let (mut q, mut r): (HeaderMap, HeaderMap) =
            (pairs.into_iter().collect(), pairs.into_iter().collect());
        join_request(&mut q);
        join_response(&mut r);
        assert_eq!(q, [("location", "a"), ("location", "b"), ("accept", "c,d")].into_iter().collect());
        assert_eq!(r, [("location", "a,b"), ("accept", "c"), ("accept", "d")].into_iter().collect());
    }

    #[test]
    fn many_repetitions_cost_their_length() {
        let mut m = HeaderMap::new();
        for _ in 0..5000 {
            m.append(name::VIA, b"v");
            m.append(name::PRAGMA, b"p");
        }
        join_request(&mut m);
        assert_eq!((m.len(), m.get(name::VIA).map(<[u8]>::len)), (2, Some(9999)));
    }
}
