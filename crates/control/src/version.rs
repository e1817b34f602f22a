//! Which build this is.

/// The release of Envoy whose behaviour this build follows.
pub const ENVOY: (u32, u32, u32) = (1, 40, 0);

/// The commit this was built from, where the build knew it.
pub fn sha() -> &'static str {
    option_env!("NUNCIO_GIT_SHA").unwrap_or("0000000000000000000000000000000000000000")
}

/// `Clean`, or `Modified` where the build said so.
pub fn status() -> &'static str {
    option_env!("NUNCIO_GIT_STATUS").unwrap_or("Clean")
}

/// `RELEASE` or `DEBUG`.
pub fn build_type() -> &'static str {
    if cfg!(debug_assertions) { "DEBUG" } else { "RELEASE" }
}

/// The TLS library.
pub const SSL: &str = "rustls";

/// Our own version.
pub const OWN: &str = env!("CARGO_PKG_VERSION");

/// The version text of `--version` and `/server_info`: commit, the release of Envoy that tools ask for, tree, build
/// type, TLS library. Our own version is in the help.
pub fn full() -> String {
    let (major, minor, patch) = ENVOY;
    format!("{}/{major}.{minor}.{patch}/{}/{}/{SSL}", sha(), status(), build_type())
}
