//! Envoy's loggers, in the order in which `/logging` lists them.

macro_rules! loggers {
    ($($variant:ident $name:literal)+) => {
        /// A logger of Envoy's; each has a threshold of its own.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        #[allow(missing_docs)] // the names are Envoy's and say all there is to say
        pub enum Logger { $($variant),+ }

        const ALL: &[(Logger, &str)] = &[$((Logger::$variant, $name)),+];
    };
}

loggers! {
    A2a "a2a"
    Admin "admin"
    AiProtocolManager "ai_protocol_manager"
    AlternateProtocolsCache "alternate_protocols_cache"
    Aws "aws"
    Assert "assert"
    Backtrace "backtrace"
    BasicAuth "basic_auth"
    CacheFilter "cache_filter"
    Client "client"
    Config "config"
    Connection "connection"
    ConnHandler "conn_handler"
    Compression "compression"
    CredentialInjector "credential_injector"
    Decompression "decompression"
    Dns "dns"
    Dubbo "dubbo"
    EnvoyBug "envoy_bug"
    ExtAuthz "ext_authz"
    ExtProc "ext_proc"
    Rocketmq "rocketmq"
    File "file"
    Filter "filter"
    ForwardProxy "forward_proxy"
    Geolocation "geolocation"
    Grpc "grpc"
    HappyEyeballs "happy_eyeballs"
    Hc "hc"
    HealthChecker "health_checker"
    Http "http"
    Http2 "http2"
    Hystrix "hystrix"
    Init "init"
    Io "io"
    Jwt "jwt"
    JsonRpc "json_rpc"
    Kafka "kafka"
    KeyValueStore "key_value_store"
    Lua "lua"
    LocalRateLimit "local_rate_limit"
    Main "main"
    Matcher "matcher"
    Mcp "mcp"
    Misc "misc"
    Mongo "mongo"
    MultiConnection "multi_connection"
    Notification "notification"
    Oauth2 "oauth2"
    Quic "quic"
    QuicStream "quic_stream"
    Pool "pool"
    RateLimitQuota "rate_limit_quota"
    Rbac "rbac"
    Rds "rds"
    Redis "redis"
    Router "router"
    Runtime "runtime"
    Stats "stats"
    Secret "secret"
    Sse "sse"
    Tap "tap"
    Testing "testing"
    Thrift "thrift"
    Tracing "tracing"
    Upstream "upstream"
    Udp "udp"
    Wasm "wasm"
    Websocket "websocket"
    Golang "golang"
    StatsSinks "stats_sinks"
    DynamicModules "dynamic_modules"
    IpTagging "ip_tagging"
}

impl Logger {
    /// How many there are.
    pub(super) const COUNT: usize = ALL.len();

    /// All loggers, in Envoy's order.
    pub fn all() -> impl Iterator<Item = Logger> {
        ALL.iter().map(|(l, _)| *l)
    }
    /// The name.
    pub fn name(self) -> &'static str {
        ALL[self as usize].1
    }
    /// The logger with this name.
    pub fn from_name(name: &str) -> Option<Logger> {
        ALL.iter().find(|(_, n)| *n == name).map(|(l, _)| *l)
    }
}
