//! Network filters (`envoy.filters.network`): those that stand before the last one of a chain, and those that are the last
//! and answer themselves ([`echo`], [`direct_response`]).

extensions![
    connection_limit,
    direct_response,
    echo,
    local_ratelimit,
    ratelimit,
    rbac,
    set_filter_state,
    sni_cluster,
    sni_dynamic_forward_proxy,
];

#[cfg(test)]
mod testing;
