//! `nuncio sandbox front-proxy`: Envoy's front-proxy sandbox on one machine, without containers.
//!
//! A front proxy and two services, each behind a sidecar proxy of its own, run from the Envoy configuration files in
//! `examples/front-proxy/`. What containers give each other – an address of their own, and names – comes from two
//! small substitutes: every "container" has its own loopback address (so the ports of the files stay as they are),
//! and names are answered by a DNS server in this process, which the proxies use through the ordinary
//! `typed_dns_resolver_config`. The proxies are separate processes of the same binary that anybody would start
//! (`nuncio -c FILE`); the services live in this process.
//!
//! In the order in which a start passes them: `args` – [`topology`] (who has which address) – [`run_dir`] (files and
//! the control socket) – [`dns`] – [`service`] and [`fleet`] (the instances of a service) – [`certificate`] –
//! [`config`] (the files, made to fit loopback) – [`proxy`] and [`guard`] (child processes) – [`http_get`] (are they
//! ready?) – [`front_proxy`] (all of it together) – [`control`] (`sandbox scale` and friends talk to it).
//!
//! `nuncio sandbox dynamic` is the other one: a proxy that gets everything from a control plane ([`dynamic`], [`control_plane`]).

mod args;
mod certificate;
mod config;
mod control;
mod control_plane;
mod dns;
mod dynamic;
mod fleet;
mod front_proxy;
mod guard;
mod http_get;
mod proxy;
mod run_dir;
mod service;
mod signals;
mod topology;

use std::io::Write;
use std::process::ExitCode;

use args::Command;

/// One line for the binary's list of subcommands.
pub const SUMMARY: &str =
    "run a sandbox on loopback: Envoy's front proxy with its services, or a proxy and its control plane";

/// Why a command failed: the text for the user, without the program's name in front.
type Failure = String;

/// Runs `nuncio sandbox ARGS…` to its end. `args` are the words after `sandbox`.
///
/// The exit code is 0 when all went well (the sandbox was stopped by Ctrl-C, SIGTERM or `sandbox stop`), 1 otherwise;
/// the reason is on stderr.
pub fn run(args: &[String]) -> ExitCode {
    let outcome = match args::parse(args) {
        Ok(Command::Help(text)) => {
            say(text.trim_end());
            Ok(())
        }
        Ok(Command::FrontProxy(options)) => block_on(front_proxy::run(options)),
        Ok(Command::Dynamic(options)) => block_on(dynamic::run(options)),
        Ok(Command::ControlPlane(options)) => block_on(control_plane::run(options)),
        Ok(Command::Service(options)) => block_on(service::run(options)),
        Ok(Command::Control { request, base_port }) => block_on(control::ask(request, base_port)),
        Ok(Command::Check { url }) => block_on(http_get::check(url)),
        Ok(Command::Certificate { directory }) => certificate::write_new(&directory).map(|()| {
            say(&format!("wrote {} and its key to {}", certificate::CERTIFICATE, directory.display()));
        }),
        Ok(Command::Guard(command)) => guard::run(&command),
        Err(usage) => Err(usage),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            // A closed stderr leaves nobody to tell.
            let _ = writeln!(std::io::stderr(), "nuncio sandbox: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a future on this thread alone: guarded children live as long as the thread that started them (see [`guard`]).
fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("cannot start: {e}"))?
        .block_on(work)
}

/// Prints a line. A reader that went away (`| head`) is not our failure.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
