//! Network filters that stand before the last one of a chain (`envoy.filters.network`).

extensions![connection_limit, local_ratelimit, ratelimit, rbac, set_filter_state];

#[cfg(test)]
mod testing;
