//! Settings: ours (from configuration), and the peer's (RFC 9113 §6.5.2).

/// What to do with a request header whose name has an underscore (`headers_with_underscores_action`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Underscores {
    /// Keep it.
    #[default]
    Allow,
    /// Reset the stream.
    Reject,
    /// Drop the header.
    DropHeader,
}

/// Our side: `envoy.config.core.v3.Http2ProtocolOptions` and the limits of `HttpProtocolOptions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `hpack_table_size` in bytes: advertised for decoding, and the most our encoder uses.
    pub header_table_size: u32,
    /// `max_concurrent_streams`; a client also assumes it of a server that has not spoken yet.
    pub max_concurrent_streams: u32,
    /// `initial_stream_window_size` in bytes.
    pub initial_window_size: u32,
    /// `initial_connection_window_size` in bytes, 65,535 or more.
    pub connection_window: u32,
    /// SETTINGS_MAX_FRAME_SIZE in bytes, 16,384 or more; advertised when it is more.
    pub max_frame_size: u32,
    /// `allow_connect`: extended CONNECT (RFC 8441).
    pub enable_connect_protocol: bool,
    /// `custom_settings_parameters`: identifier and value, advertised first.
    pub custom: Vec<(u16, u32)>,
    /// `max_request_headers_kb` (`max_response_headers_kb`) in bytes: names and values of one header block.
    pub max_headers_bytes: u32,
    /// `max_headers_count`.
    pub max_headers_count: u32,
    /// `headers_with_underscores_action`, for servers.
    pub underscores: Underscores,
    /// `override_stream_error_on_invalid_http_message`: a malformed message resets its stream only.
    pub stream_error_on_invalid_messaging: bool,
    /// `max_outbound_frames`: frames that may wait for a peer which does not read.
    pub max_outbound_frames: u32,
    /// `max_outbound_control_frames`: PING and SETTINGS acknowledgements and RST_STREAM among them.
    pub max_outbound_control_frames: u32,
    /// `max_consecutive_inbound_frames_with_empty_payload`.
    pub max_consecutive_empty_frames: u32,
    /// `max_inbound_priority_frames_per_stream`.
    pub max_priority_frames_per_stream: u32,
    /// `max_inbound_window_update_frames_per_data_frame_sent`.
    pub max_window_updates_per_data_frame: u32,
    /// `send_data` takes no more while this many bytes wait to be written.
    pub out_limit: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            header_table_size: 4096,
            max_concurrent_streams: 1024,
            initial_window_size: 16 << 20,
            connection_window: 24 << 20,
            max_frame_size: DEFAULT_FRAME,
            enable_connect_protocol: false,
            custom: Vec::new(),
            max_headers_bytes: 60 * 1024,
            max_headers_count: 100,
            underscores: Underscores::Allow,
            stream_error_on_invalid_messaging: false,
            max_outbound_frames: 10_000,
            max_outbound_control_frames: 1000,
            max_consecutive_empty_frames: 1,
            max_priority_frames_per_stream: 100,
            max_window_updates_per_data_frame: 10,
            out_limit: 128 * 1024,
        }
    }
}

/// Initial size of all windows (RFC 9113 §6.9.2).
pub(super) const DEFAULT_WINDOW: u32 = 65_535;
/// Initial SETTINGS_MAX_FRAME_SIZE.
pub(super) const DEFAULT_FRAME: u32 = 16_384;
pub(super) const MAX_WINDOW: u32 = 0x7fff_ffff;

pub(super) const HEADER_TABLE_SIZE: u16 = 1;
pub(super) const ENABLE_PUSH: u16 = 2;
pub(super) const MAX_CONCURRENT_STREAMS: u16 = 3;
pub(super) const INITIAL_WINDOW_SIZE: u16 = 4;
pub(super) const MAX_FRAME_SIZE: u16 = 5;
pub(super) const ENABLE_CONNECT_PROTOCOL: u16 = 8;

impl Settings {
    /// The parameters as they go on the wire, in Envoy's order.
    pub(super) fn advertised(&self, client: bool) -> Vec<(u16, u32)> {
        let mut all = Vec::with_capacity(6 + self.custom.len());
        if client {
            all.push((ENABLE_PUSH, 0));
        }
        all.extend_from_slice(&self.custom);
        all.push((HEADER_TABLE_SIZE, self.header_table_size));
        all.push((ENABLE_CONNECT_PROTOCOL, self.enable_connect_protocol.into()));
        all.push((MAX_CONCURRENT_STREAMS, self.max_concurrent_streams));
        all.push((INITIAL_WINDOW_SIZE, self.initial_window_size));
        if self.max_frame_size > DEFAULT_FRAME {
            all.push((MAX_FRAME_SIZE, self.max_frame_size));
        }
        all
    }
}

/// What the peer said, or what holds until it does.
pub(super) struct Peer {
    pub initial_window: u32,
    pub max_concurrent: u32,
    pub connect_protocol: bool,
}

impl Peer {
    pub fn new(own: &Settings) -> Peer {
        Peer {
            initial_window: DEFAULT_WINDOW,
            max_concurrent: own.max_concurrent_streams,
            connect_protocol: false,
        }
    }
}
