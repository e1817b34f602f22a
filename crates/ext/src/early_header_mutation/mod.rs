//! Changes of requests before the connection manager looks at them (`envoy.http.early_header_mutation`).

extensions![header_mutation];
