//! HTTP filters (`envoy.filters.http`).

extensions![header_mutation, health_check];
