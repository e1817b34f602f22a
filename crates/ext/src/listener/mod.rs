//! Listener filters (`envoy.filters.listener`).

extensions![tls_inspector];
