//! What strangers can send us, fuzzed: one function per parser, which takes any bytes and panics when something is wrong.
//!
//! * HTTP: [`http1::h1_request`], [`http1::h1_response`], [`http2::h2_server`], [`http2::h2_client`], [`hpack::hpack`].
//! * Configuration: [`config::config`], [`text::format`], [`text::regex`].
//!
//! They are driven in two ways. `cargo fuzz run h1_request` (nightly) is guided by coverage and goes on for as long as
//! you like. [`driver`] is bounded, seeded and needs nothing but stable Rust: `cargo test --manifest-path fuzz/Cargo.toml`.
//! README.md has the commands.

pub mod config;
pub mod driver;
pub mod hpack;
pub mod http1;
pub mod http2;
pub mod seeds;
pub mod text;

/// A parser under test.
pub struct Target {
    /// Its name, for `cargo fuzz run` too.
    pub name: &'static str,
    /// Takes any bytes; panics when something is wrong.
    pub run: fn(&[u8]),
    /// Where mutations begin.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// What is worth inserting.
    pub pieces: &'static [&'static [u8]],
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "h1_request", run: http1::h1_request, seeds: seeds::h1_request, pieces: seeds::H1_PIECES },
    Target {
        name: "h1_response",
        run: http1::h1_response,
        seeds: seeds::h1_response,
        pieces: seeds::H1_PIECES,
    },
    Target { name: "hpack", run: hpack::hpack, seeds: seeds::hpack, pieces: seeds::H2_PIECES },
    Target { name: "h2_server", run: http2::h2_server, seeds: seeds::h2_server, pieces: seeds::H2_PIECES },
    Target { name: "h2_client", run: http2::h2_client, seeds: seeds::h2_client, pieces: seeds::H2_PIECES },
    Target { name: "config", run: config::config, seeds: seeds::config, pieces: seeds::CONFIG_PIECES },
    Target { name: "format", run: text::format, seeds: seeds::format, pieces: seeds::FORMAT_PIECES },
    Target { name: "regex", run: text::regex, seeds: seeds::regex, pieces: seeds::REGEX_PIECES },
];

/// The target of that name.
///
/// # Panics
/// When there is none.
pub fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|t| t.name == name).unwrap_or_else(|| panic!("no target {name}"))
}

/// The main function of a file in `fuzz_targets/`: libFuzzer's under `cargo fuzz`, else [`driver::main`].
#[macro_export]
macro_rules! target {
    ($name:ident) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|data: &[u8]| ($crate::target(stringify!($name)).run)(data));

        #[cfg(not(fuzzing))]
        fn main() {
            $crate::driver::main($crate::target(stringify!($name)));
        }
    };
}
