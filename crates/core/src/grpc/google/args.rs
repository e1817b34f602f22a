//! `channel_args`.

use crate::error::{BuildError, BuildResult};
use nuncio_api::envoy::config::core::v3::grpc_service::GoogleGrpc;
use nuncio_api::envoy::config::core::v3::grpc_service::google_grpc as google;

/// Arguments of channels that only tune the library's own machinery.
const HARMLESS: [&str; 14] = [
    "grpc.client_idle_timeout_ms",
    "grpc.dns_enable_srv_queries",
    "grpc.dns_min_time_between_resolutions_ms",
    "grpc.enable_channelz",
    "grpc.enable_retries",
    "grpc.experimental.tcp_max_read_chunk_size",
    "grpc.experimental.tcp_min_read_chunk_size",
    "grpc.http2.bdp_probe",
    "grpc.http2.lookahead_bytes",
    "grpc.http2.min_time_between_pings_ms",
    "grpc.http2.max_pings_without_data",
    "grpc.initial_reconnect_backoff_ms",
    "grpc.max_reconnect_backoff_ms",
    "grpc.use_local_subchannel_pool",
];

/// `channel_args`, as far as they matter here.
#[derive(Default)]
pub(super) struct Args {
    pub receive: Option<i64>,
    pub send: Option<i64>,
    pub authority: Option<String>,
    pub tls_name: Option<String>,
    pub agents: [Option<String>; 2],
    pub keepalive: Option<i64>,
    pub keepalive_timeout: Option<i64>,
}

impl Args {
    pub fn new(g: &GoogleGrpc) -> BuildResult<Args> {
        use google::channel_args::value::ValueSpecifier as V;
        let mut args = Args::default();
        let all = g.channel_args.as_ref().map(|a| &a.args);
        for (name, value) in all.into_iter().flatten() {
            let (text, number) = match &value.value_specifier {
                Some(V::StringValue(s)) => (Some(s.clone()), None),
                Some(V::IntValue(n)) => (None, Some(*n)),
                None => return Err(format!("channel_args '{name}': value is required").into()),
            };
            match name.as_str() {
                "grpc.max_receive_message_length" => args.receive = number,
                "grpc.max_send_message_length" => args.send = number,
                "grpc.default_authority" => args.authority = text,
                "grpc.ssl_target_name_override" => args.tls_name = text,
                "grpc.primary_user_agent" => args.agents[0] = text,
                "grpc.secondary_user_agent" => args.agents[1] = text,
                "grpc.keepalive_time_ms" => args.keepalive = number,
                "grpc.keepalive_timeout_ms" => args.keepalive_timeout = number,
                // Pings without calls, and without data, are sent here anyway.
                "grpc.keepalive_permit_without_calls" => {}
                other if HARMLESS.contains(&other) => {}
                other => return Err(BuildError::not_implemented(format_args!("channel_args {other}"))),
            }
        }
        Ok(args)
    }
    /// A length that the library may be told: -1 is none.
    pub fn length(n: Option<i64>) -> Option<u32> {
        n.map(|n| u32::try_from(n).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn arguments_are_read_or_refused() {
        use google::channel_args::{Value, value::ValueSpecifier as V};
        let args = |name: &str, v: V| {
            let args = BTreeMap::from([(name.to_owned(), Value { value_specifier: Some(v) })]);
            Args::new(&GoogleGrpc { channel_args: Some(google::ChannelArgs { args }), ..Default::default() })
        };
        let read = args("grpc.max_receive_message_length", V::IntValue(-1)).expect("known");
        assert_eq!(Args::length(read.receive), Some(u32::MAX));
        assert!(args("grpc.enable_retries", V::IntValue(0)).is_ok());
        let why = args("grpc.lb_policy_name", V::StringValue("x".into())).err().expect("unknown");
        assert_eq!(why.0, "not implemented yet: channel_args grpc.lb_policy_name");
    }
}
