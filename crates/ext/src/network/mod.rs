//! Network filters that stand before the last one of a chain (`envoy.filters.network`).

extensions![connection_limit, local_ratelimit, ratelimit, rbac, set_filter_state, sni_dynamic_forward_proxy];

#[cfg(test)]
mod testing;
