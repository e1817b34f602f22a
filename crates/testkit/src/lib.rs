//! What tests of several crates share.
//!
//! * [`filter_test`] – a chain of HTTP filters without sockets.
//! * [`server`] – the whole data plane in-process, from a [`config`] on free ports, with its stats in reach.
//! * [`upstream`] – fake hosts that do what a script says, and [`conn`] – a raw HTTP/1 connection, for them and for
//!   clients.
//! * [`h2`] – a raw HTTP/2 endpoint of either role.
//! * `plane` – a control plane that serves what a test says, and breaks as it says.
//! * [`tls`] – certificates and TLS clients and servers.
//! * [`probe`] – a filter that misbehaves on request, and an access log that tests can read.

#[cfg(feature = "server")]
pub mod config;
pub mod conn;
pub mod filter_test;
pub mod h2;
#[cfg(feature = "server")]
pub mod probe;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod tls;
pub mod upstream;

#[cfg(feature = "server")]
pub use config::Config;
pub use conn::Conn;
pub use filter_test::FilterTest;
#[cfg(feature = "server")]
pub use nuncio_plane as plane;
#[cfg(feature = "server")]
pub use server::Server;
pub use upstream::Upstream;

/// Runs a test on this thread, with `spawn_local` at hand.
///
/// # Panics
/// It takes longer than 30 seconds.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    let mut rt = tokio::runtime::Builder::new_current_thread();
    let rt = rt.enable_all().build_local(tokio::runtime::LocalOptions::default()).expect("a runtime");
    let limit = std::time::Duration::from_secs(30);
    rt.block_on(async { tokio::time::timeout(limit, test).await.expect("the test hangs") })
}
