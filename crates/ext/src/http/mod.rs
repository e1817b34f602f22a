//! HTTP filters (`envoy.filters.http`).

extensions![buffer, header_mutation, health_check];
