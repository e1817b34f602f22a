//! `GrpcService.GoogleGrpc`: Envoy's second gRPC client, with a channel in place of a cluster. Here a channel is a cluster
//! that nobody else sees; this file says which, and what differs on the wire and in the stats.

mod args;
mod cluster;
mod target;

use super::{Status, code};
use crate::coverage::Covered;
use crate::error::{BuildError, BuildResult, ResetReason};
use crate::filter::BuildCx;
use crate::stats::Scope;
use crate::{stats, worker};
use args::Args;
use nuncio_api::envoy::config::cluster::v3::Cluster;
use nuncio_api::envoy::config::core::v3 as core;
use nuncio_api::envoy::config::core::v3::grpc_service::GoogleGrpc;
use nuncio_api::envoy::config::core::v3::grpc_service::google_grpc as google;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use target::Target;

/// What is read of `GrpcService.GoogleGrpc`.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.config.core.v3.GrpcService.GoogleGrpc",
        &[
            "target_uri",
            "channel_credentials",
            "call_credentials",
            "stat_prefix",
            "credentials_factory_name",
            "per_stream_buffer_limit_bytes",
            "channel_args",
        ],
    ),
    Covered::new(
        "envoy.config.core.v3.GrpcService.GoogleGrpc.ChannelCredentials",
        &["ssl_credentials", "local_credentials"],
    ),
    Covered::new(
        "envoy.config.core.v3.GrpcService.GoogleGrpc.SslCredentials",
        &["root_certs", "private_key", "cert_chain"],
    ),
    Covered::new("envoy.config.core.v3.GrpcService.GoogleGrpc.GoogleLocalCredentials", &[]),
    Covered::new("envoy.config.core.v3.GrpcService.GoogleGrpc.CallCredentials", &["access_token"]),
    Covered::new("envoy.config.core.v3.GrpcService.GoogleGrpc.ChannelArgs", &["args"]),
    Covered::new(
        "envoy.config.core.v3.GrpcService.GoogleGrpc.ChannelArgs.Value",
        &["string_value", "int_value"],
    ),
];

/// Longest message that is taken when `grpc.max_receive_message_length` does not say, in bytes.
const RECEIVE: u32 = 4 << 20;
/// `per_stream_buffer_limit_bytes` when it is not set.
const BUFFER: usize = 1 << 20;
/// What is different from calls to a cluster of the configuration.
#[derive(Debug)]
pub(super) struct Channel {
    /// `target_uri`
    pub uri: String,
    /// `:authority`
    pub authority: String,
    /// Whether its connections are encrypted.
    pub tls: bool,
    /// Longest message that is received, in bytes.
    pub receive: u32,
    /// Longest message that is sent, in bytes.
    pub send: Option<u32>,
    /// So many bytes may wait to be sent.
    pub buffer: usize,
    /// `user-agent`
    pub agent: String,
    /// `authorization`, of a token.
    pub token: Option<String>,
    /// What is counted.
    pub stats: Counts,
}

stats! {
    /// `grpc.<stat_prefix>.`
    pub struct ChannelStats {
        google_grpc_client_creation: Counter,
        streams_total: Counter,
        streams_closed_0: Counter,
        streams_closed_1: Counter,
        streams_closed_2: Counter,
        streams_closed_3: Counter,
        streams_closed_4: Counter,
        streams_closed_5: Counter,
        streams_closed_6: Counter,
        streams_closed_7: Counter,
        streams_closed_8: Counter,
        streams_closed_9: Counter,
        streams_closed_10: Counter,
        streams_closed_11: Counter,
        streams_closed_12: Counter,
        streams_closed_13: Counter,
        streams_closed_14: Counter,
        streams_closed_15: Counter,
        streams_closed_16: Counter,
    }
}

/// The stats of a channel, which are there from its first use on.
#[derive(Debug)]
pub(super) struct Counts {
    scope: Scope,
    stats: OnceLock<ChannelStats>,
    /// A bit for each thread that has used it: Envoy makes a client for each.
    used: AtomicU64,
}

impl Counts {
    fn new(scope: Scope) -> Counts {
        Counts { scope, stats: OnceLock::new(), used: AtomicU64::new(0) }
    }
    /// A stream begins.
    pub fn begin(&self) {
        let stats = self.stats.get_or_init(|| ChannelStats::new(&self.scope));
        let bit = 1 << (worker::current_index() % 64);
        if self.used.load(Ordering::Relaxed) & bit == 0
            && self.used.fetch_or(bit, Ordering::Relaxed) & bit == 0
        {
            stats.google_grpc_client_creation().inc();
        }
        stats.streams_total().inc();
    }
    /// The other side has ended a stream.
    pub fn end(&self, status: u32) {
        let Some(s) = self.stats.get() else { return };
        let counter = match status {
            code::OK => s.streams_closed_0(),
            code::CANCELLED => s.streams_closed_1(),
            code::INVALID_ARGUMENT => s.streams_closed_3(),
            code::DEADLINE_EXCEEDED => s.streams_closed_4(),
            code::NOT_FOUND => s.streams_closed_5(),
            code::ALREADY_EXISTS => s.streams_closed_6(),
            code::PERMISSION_DENIED => s.streams_closed_7(),
            code::RESOURCE_EXHAUSTED => s.streams_closed_8(),
            code::FAILED_PRECONDITION => s.streams_closed_9(),
            code::ABORTED => s.streams_closed_10(),
            code::OUT_OF_RANGE => s.streams_closed_11(),
            code::UNIMPLEMENTED => s.streams_closed_12(),
            code::INTERNAL => s.streams_closed_13(),
            code::UNAVAILABLE => s.streams_closed_14(),
            code::DATA_LOSS => s.streams_closed_15(),
            code::UNAUTHENTICATED => s.streams_closed_16(),
            _ => s.streams_closed_2(), // UNKNOWN, and what is no code
        };
        counter.inc();
    }
}

/// What the library says of a call that was cut off after its response had begun.
pub(super) fn cut_off(r: ResetReason) -> Status {
    match r {
        ResetReason::ConnectionTermination => Status::new(code::UNAVAILABLE, "Socket closed"),
        _ => Status::new(code::INTERNAL, "Received RST_STREAM"),
    }
}

/// Checks `initial_metadata` (gRPC over HTTP/2, "Custom-Metadata").
///
/// # Errors
/// A name or a value that gRPC does not know.
pub(super) fn check_metadata(all: &[core::HeaderValue]) -> BuildResult<()> {
    for h in all {
        let name = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if h.key.is_empty() || !h.key.bytes().all(name) {
            let text = format!("Illegal characters in gRPC initial metadata header key: {}.", h.key);
            return Err(text.into());
        }
        if !h.key.ends_with("-bin") && !h.value.bytes().all(|b| (b' '..=b'~').contains(&b)) {
            return Err(
                format!("Illegal ASCII value for gRPC initial metadata header key: {}.", h.key).into()
            );
        }
    }
    Ok(())
}

/// Builds the channel, and the cluster that it is here.
pub(super) fn channel(g: &GoogleGrpc, cx: &BuildCx<'_>) -> BuildResult<(Channel, Cluster)> {
    const DEFAULT: &str = "envoy.grpc_credentials.default";
    if !g.credentials_factory_name.is_empty() && g.credentials_factory_name != DEFAULT {
        return Err(format!("Unknown google grpc credentials factory: {}", g.credentials_factory_name).into());
    }
    let (target, name) = target::target(&g.target_uri)?;
    let args = Args::new(g)?;
    let authority = args.authority.clone().unwrap_or(name);
    let socket = match credentials(g) {
        Some(google::channel_credentials::CredentialSpecifier::SslCredentials(ssl)) => {
            let host = args.tls_name.clone().unwrap_or_else(|| target::host_of(&authority).to_owned());
            Some(cluster::transport_socket(ssl, &host)?)
        }
        Some(google::channel_credentials::CredentialSpecifier::LocalCredentials(_)) => match target {
            Target::Unix(_) => None,
            _ => return Err("local_credentials are for targets of unix: only".into()),
        },
        Some(google::channel_credentials::CredentialSpecifier::GoogleDefault(_)) => {
            return Err(BuildError::not_implemented("ChannelCredentials.google_default"));
        }
        None => None,
    };
    let token = g.call_credentials.iter().find_map(|c| match &c.credential_specifier {
        Some(google::call_credentials::CredentialSpecifier::AccessToken(t)) => Some(format!("Bearer {t}")),
        _ => None,
    });
    if token.is_some() && socket.is_none() {
        return Err(
            "call_credentials need ssl_credentials: without them a token would be readable on the way".into(),
        );
    }
    let [first, second] = args.agents.clone();
    let own = concat!("grpc-nuncio/", env!("CARGO_PKG_VERSION"));
    let agent =
        [first.as_deref(), Some(own), second.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(" ");
    let scope = cx.scope.store().root().scope("grpc").scope(&g.stat_prefix);
    let channel = Channel {
        uri: g.target_uri.clone(),
        authority,
        tls: socket.is_some(),
        receive: Args::length(args.receive).unwrap_or(RECEIVE),
        send: Args::length(args.send),
        buffer: g.per_stream_buffer_limit_bytes.map_or(BUFFER, |n| n as usize),
        agent,
        token,
        stats: Counts::new(scope),
    };
    Ok((channel, cluster::cluster_of(&target, socket, &args)))
}

fn credentials(g: &GoogleGrpc) -> Option<&google::channel_credentials::CredentialSpecifier> {
    g.channel_credentials.as_ref()?.credential_specifier.as_ref()
}
