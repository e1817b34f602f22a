//! Listener filters (`envoy.filters.listener`).

extensions![http_inspector, original_dst, proxy_protocol, tls_inspector];
