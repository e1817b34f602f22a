use super::*;
use crate::address::Address;
use crate::clock::sim::Sim;
use crate::filter_state::{LifeSpan, StringObject};
use crate::flags::Flag;
use crate::info::{CertInfo, HostInfo, ListenerInfo, StreamShared, TlsInfo};
use crate::metadata::Metadata;
use crate::route::PerFilter;
use nuncio_wire::{RequestHead, Version};
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

struct TestRoute(Metadata);
impl Route for TestRoute {
    fn name(&self) -> &str {
        "r1"
    }
    fn virtual_host(&self) -> &str {
        "vh"
    }
    fn metadata(&self) -> &Metadata {
        &self.0
    }
    fn per_filter(&self, _: &StreamShared) -> [Option<&PerFilter>; 4] {
        [None; 4]
    }
    fn cluster<'a>(&'a self, _: &'a RequestHead, _: &StreamShared) -> Option<Cow<'a, str>> {
        None
    }
}

fn v(k: Kind) -> Value {
    Value { kind: Some(k) }
}
fn text(s: &str) -> Value {
    v(Kind::StringValue(s.into()))
}
fn object(fields: impl IntoIterator<Item = (&'static str, Value)>) -> Struct {
    Struct { fields: fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect() }
}
fn list(values: impl IntoIterator<Item = Value>) -> Value {
    v(Kind::ListValue(ListValue { values: values.into_iter().collect() }))
}
const NULL: Value = Value { kind: Some(Kind::NullValue(0)) };

/// An exchange that took 5 ms.
struct Fixture {
    sim: Sim,
    request: HeaderMap,
    response: HeaderMap,
    trailers: HeaderMap,
    info: StreamInfo,
    conn: ConnInfo,
    route: Option<TestRoute>,
}

impl Fixture {
    fn new() -> Fixture {
        // 2026-11-21T04:07:33.667Z
        let sim = Sim::at(SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_234_053_667));
        let listener = ListenerInfo { name: "l_http".into(), ..Default::default() };
        let (remote, local) = ("127.0.0.1:35546", "127.0.0.1:19101");
        let conn = ConnInfo::new(
            3,
            Arc::new(listener),
            Address::Ip(remote.parse().unwrap()),
            Address::Ip(local.parse().unwrap()),
        );
        let info = StreamInfo::new();
        info.protocol.set(Some(Version::Http11));
        info.response_code.set(200);
        info.bytes_sent.set(11);
        info.attempts.set(1);
        info.set_details("via_upstream");
        {
            let mut up = info.upstream.borrow_mut();
            let host = HostInfo {
                address: Some(Address::Ip("127.0.0.1:19201".parse().unwrap())),
                address_text: "127.0.0.1:19201".into(),
                ..Default::default()
            };
            up.host = Some(Arc::new(host));
            up.hosts_attempted = [up.host.clone().unwrap()].into_iter().collect();
            up.cluster = Some("ok".into());
            up.connection_id = Some(4);
            up.connections_attempted = [2, 4].into_iter().collect();
            up.remote_address = Some(Address::Ip("127.0.0.1:19201".parse().unwrap()));
        }
        sim.advance(Duration::from_millis(4));
        info.times.us_rx_beg.set(Some(crate::clock::now()));
        sim.advance(Duration::from_micros(1226));
        info.times.ds_tx_end.set(Some(crate::clock::now()));
        let request = [
            (":method", "GET"),
            (":path", "/ok?q=a%0ab%22c&z=1&x=%41%7e%26%3d%25%20%7F%3C%2f%5c%00%61+%g1%4"),
            (":authority", "127.0.0.1:19101"),
            ("user-agent", "curl/7.88.1"),
            ("x-forwarded-for", "192.0.2.2"),
            ("x-request-id", "4c9c74bb-e5a2-4cd8-94e4-096af64eeff8"),
            ("x", "abc"),
            ("x", "def"),
            ("empty", ""),
        ];
        let ns = object([
            ("s", text("str\"qé")),
            ("n", v(Kind::NumberValue(3.0))),
            ("f", v(Kind::NumberValue(1.25))),
            ("b", v(Kind::BoolValue(true))),
            ("l", list([v(Kind::NumberValue(1.0)), text("a")])),
            (
                "o",
                v(Kind::StructValue(object([
                    ("z", v(Kind::NumberValue(1.0))),
                    ("k", text("v")),
                    ("a", NULL),
                ]))),
            ),
            ("nul", NULL),
        ]);
        let mut metadata = Metadata::default();
        metadata.merge("ns", ns);
        Fixture {
            sim,
            request: request.into_iter().collect(),
            response: [("x-envoy-upstream-service-time", "0"), ("server", "envoy")].into_iter().collect(),
            trailers: HeaderMap::new(),
            info,
            conn,
            route: Some(TestRoute(metadata)),
        }
    }
    fn cx(&self) -> FormatCx<'_> {
        FormatCx {
            request: Some(&self.request),
            response: Some((200, &self.response)),
            trailers: Some(&self.trailers),
            route: self.route.as_ref().map(|r| r as &dyn Route),
            local_reply_body: b"no\nbody",
            log_type: AccessLogType::DownstreamEnd,
            ..FormatCx::new(&self.info, &self.conn)
        }
    }
    fn run(&self, f: &Formatter) -> String {
        let mut out = b"> ".to_vec();
        f.append(&self.cx(), &mut out);
        String::from_utf8(out.split_off(2)).unwrap()
    }
    /// The entry of the connection, without a request.
    fn connection_text(&self, format: &str) -> String {
        let mut out = Vec::new();
        let cx = FormatCx { request: None, ..self.cx() };
        Formatter::text(format, Purpose::Log).unwrap().append(&cx, &mut out);
        String::from_utf8(out).unwrap()
    }
    fn text(&self, format: &str) -> String {
        self.run(&Formatter::text(format, Purpose::Log).unwrap())
    }
    fn json(&self, format: Struct, omit_empty_values: bool) -> String {
        let format = Some(pb::substitution_format_string::Format::JsonFormat(format));
        let c = pb::SubstitutionFormatString { omit_empty_values, format, ..Default::default() };
        self.run(&Formatter::new(&c, Purpose::Log).unwrap())
    }
    fn header(&self, value: &str) -> String {
        let mut out = Vec::new();
        HeaderFormatter::new(value).unwrap().append(&self.cx(), &mut out);
        String::from_utf8(out).unwrap()
    }
}

fn error(format: &str) -> String {
    match Formatter::text(format, Purpose::Log) {
        Ok(_) => "OK".into(),
        Err(e) => e.0,
    }
}

/// The first line of an access log of Envoy 1.40.0.
#[test]
fn default_format() {
    let f = Fixture::new();
    let mut request = f.request.clone();
    request.set(":path", b"/ok");
    let cx = FormatCx { request: Some(&request), ..f.cx() };
    let mut out = Vec::new();
    Formatter::default_access_log().append(&cx, &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "[2026-11-21T04:07:33.667Z] \"GET /ok HTTP/1.1\" 200 - 0 11 5 0 \"192.0.2.2\" \"curl/7.88.1\" \
         \"4c9c74bb-e5a2-4cd8-94e4-096af64eeff8\" \"127.0.0.1:19101\" \"127.0.0.1:19201\"\n"
    );
}

#[test]
fn default_format_without_http() {
    let f = Fixture::new();
    f.info.protocol.set(None);
    f.info.response_code.set(0);
    let cx = FormatCx { request: None, response: None, trailers: None, ..f.cx() };
    let mut out = Vec::new();
    Formatter::default_access_log().append(&cx, &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "[2026-11-21T04:07:33.667Z] \"- - -\" 0 - 0 11 5 - \"-\" \"-\" \"-\" \"-\" \"127.0.0.1:19201\"\n"
    );
}

/// Texts measured on Envoy 1.40.0 (`--mode validate`).
#[test]
fn parse_errors() {
    for (format, text) in [
        ("%NOPE%", "Not supported field in StreamInfo: NOPE"),
        ("%REQ_WITHOUT_QUERY(:path)%", "Not supported field in StreamInfo: REQ_WITHOUT_QUERY"),
        ("%UPSTREAM_PEER_SERIAL%", "Not supported field in StreamInfo: UPSTREAM_PEER_SERIAL"),
        (
            "%DOWNSTREAM_REMOTE_ADDRESS_ENDPOINT_ID%",
            "Not supported field in StreamInfo: DOWNSTREAM_REMOTE_ADDRESS_ENDPOINT_ID",
        ),
        ("%REQ%", "REQ requires parameters"),
        ("%REQ()%", "REQ requires parameters"),
        ("%REQ(A?B?C)%", "More than 1 alternative header specified in token: A?B?C"),
        ("%REQ(a b)%", "Invalid header configuration. Format string contains invalid characters."),
        ("%REQ(:)%", "Invalid header configuration. Format string contains invalid characters."),
        ("%REQ(A))%", "Invalid header configuration. Format string contains invalid characters."),
        ("%REQ(X):a%", "Incorrect configuration: %REQ(X):a%. Couldn't find valid command at position 0"),
        ("%REQ(X):%", "Incorrect configuration: %REQ(X):%. Couldn't find valid command at position 0"),
        (
            "%REQ(X):99999999999999999999999%",
            "Incorrect configuration: %REQ(X):99999999999999999999999%. Couldn't find valid command at position 0",
        ),
        ("%REQ(X)", "Incorrect configuration: %REQ(X). Couldn't find valid command at position 0"),
        ("%", "Incorrect configuration: %. Couldn't find valid command at position 0"),
        ("50%", "Incorrect configuration: 50%. Couldn't find valid command at position 2"),
        ("%req(x)%", "Incorrect configuration: %req(x)%. Couldn't find valid command at position 0"),
        (
            "abc %REQ(A)% %bad format",
            "Incorrect configuration: abc %REQ(A)% %bad format. Couldn't find valid command at position 13",
        ),
        ("%PROTOCOL():3%", "PROTOCOL does not take any parameters or length"),
        ("%PROTOCOL:3%", "PROTOCOL does not take any parameters or length"),
        ("%PROTOCOL(x)%", "PROTOCOL does not take any parameters or length"),
        ("%UNIQUE_ID:3%", "UNIQUE_ID does not take any parameters or length"),
        ("%START_TIME(%n)%", "Invalid header configuration. Format string contains newline."),
        ("%START_TIME(%Y):3%", "START_TIME does not allow length to be specified."),
        ("%START_TIME:3%", "START_TIME does not allow length to be specified."),
        (
            "%GRPC_STATUS(FOO)%",
            "GrpcStatusFormatter only supports CAMEL_STRING, SNAKE_STRING or NUMBER. Got: FOO",
        ),
        ("%GRPC_STATUS_NUMBER(FOO)%", "GRPC_STATUS_NUMBER does not take any parameters or length"),
        ("%GRPC_STATUS(NUMBER):3%", "GRPC_STATUS does not allow length to be specified."),
        ("%PATH(XX)%", "Invalid PATH option: 'XX', only 'WQ'/'NQ' are allowed"),
        ("%PATH(WQ:FOO)%", "Invalid PATH option: 'FOO', only 'ORIG'/'PATH'/'ORIG_OR_PATH' are allowed"),
        ("%QUERY_PARAM%", "QUERY_PARAM requires parameters"),
        ("%QUERY_PARAMS(FOO)%", "Invalid QUERY_PARAMS option: 'FOO', only 'ORIG'/'DECODED' are allowed"),
        ("%METADATA(FOO:a)%", "FOO is not supported type of metadata"),
        ("%METADATA%", " is not supported type of metadata"),
        ("%DYNAMIC_METADATA%", "DYNAMIC_METADATA requires parameters"),
        ("%UPSTREAM_METADATA(a):3%", "UPSTREAM_METADATA does not allow length to be specified."),
        ("%FILTER_STATE%", "Invalid filter state configuration, key cannot be empty."),
        ("%FILTER_STATE(:PLAIN)%", "Invalid filter state configuration, key cannot be empty."),
        ("%FILTER_STATE(a:FOO)%", "Invalid filter state serialize type, only support PLAIN/TYPED/FIELD."),
        (
            "%FILTER_STATE(a:FIELD)%",
            "Invalid filter state serialize type, FIELD should be used with the field name.",
        ),
        (
            "%FILTER_STATE(a:PLAIN:x)%",
            "Invalid filter state serialize type, FIELD should be used with the field name.",
        ),
        ("%UPSTREAM_FILTER_STATE%", "Invalid filter state configuration, key cannot be empty."),
        ("%COMMON_DURATION%", "COMMON_DURATION requires parameters"),
        ("%COMMON_DURATION(A)%", "Invalid common duration configuration: A."),
        ("%COMMON_DURATION(A:B:C)%", "Invalid common duration precision: C."),
        ("%COMMON_DURATION(A:B:ms:X)%", "Invalid common duration configuration: A:B:ms:X."),
        ("%COMMON_DURATION(A:B):3%", "COMMON_DURATION does not allow length to be specified."),
        ("%ENVIRONMENT%", "ENVIRONMENT requires parameters"),
        ("%XFCC_VALUE%", "XFCC_VALUE command requires a subcommand"),
        ("%XFCC_VALUE(foo)%", "XFCC_VALUE command does not support subcommand: foo"),
        (
            "%REQUESTED_SERVER_NAME(FOO)%",
            "Invalid REQUESTED_SERVER_NAME option: 'FOO', only 'SNI_ONLY'/'SNI_FIRST'/'HOST_FIRST' are allowed",
        ),
        (
            "%REQUESTED_SERVER_NAME(SNI_FIRST:FOO)%",
            "Invalid REQUESTED_SERVER_NAME option: 'FOO', only 'ORIG_OR_HOST'/'HOST'/'ORIG' are allowed",
        ),
        ("%RESPONSE_CODE_DETAILS:3%", "RESPONSE_CODE_DETAILS does not allow length to be specified."),
        (
            "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(24):3%",
            "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT does not allow length to be specified.",
        ),
        ("%UPSTREAM_HOST_NAME(x)%", "UPSTREAM_HOST_NAME does not take any parameters or length"),
        ("%CEL(f(1))%", "failed to create an expression: No overload found in reference resolve step for f"),
    ] {
        assert_eq!(error(format), text, "{format}");
    }
    assert!(error("%COALESCE(x)%").starts_with("COALESCE: failed to parse JSON configuration: "));
}

/// All accepted by Envoy 1.40.0.
#[test]
fn accepted() {
    for format in [
        "",
        "%%",
        "%REQ(?b)%",
        "%REQ(a?)%",
        "%PROTOCOL()%",
        "%START_TIME(%E0n)%",
        "%PATH(WQ:ORIG:X)%",
        "%PATH:3%",
        "%QUERY_PARAMS:3%",
        "%DYNAMIC_METADATA(a:b):3%",
        "%METADATA(ROUTE:a):3%",
        "%COMMON_DURATION(A:B)%",
        "%ENVIRONMENT(A):3%",
        "%XFCC_VALUE(URI)%",
        "%XFCC_VALUE(uri):3%",
        "%RESPONSE_CODE_DETAILS(FOO)%",
        "%SPAN_ID%",
        "%STREAM_INFO_REQ(a)%",
        "%REQUEST_HEADER(a?b):3%",
        "%RESPONSE_HEADER(a?b):3%",
        "%RESPONSE_TRAILER(a?b):3%",
        "%REQ(A)%%PROTOCOL%",
        "%START_TIME(%s(%3f))%",
        "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(x)%",
        "%DOWNSTREAM_PEER_CERT_V_START(%Y)%",
        "%UPSTREAM_TLS_GROUP%",
        "%UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID%",
        "%UPSTREAM_SERVER_NAME%",
        "%DOWNSTREAM_CX_RTT%",
        "%UPSTREAM_DETECTED_CLOSE_TYPE%",
        "%TRACE_ID%",
    ] {
        assert_eq!(error(format), "OK", "{format}");
    }
}

#[test]
fn headers() {
    let f = Fixture::new();
    assert_eq!(
        f.text("%REQ(X?y)%|%REQ(nope?x)%|%REQ(x):1%|%REQ(x):0%|%REQ(nope)%|%REQ(empty)%"),
        "abc|abc|a||-|"
    );
    assert_eq!(
        f.text("%REQ(host)%|%REQ(:authority)%|%RESP(:status)%|%RESP(SERVER)%|%TRAILER(x)%|%%|a%%b"),
        "127.0.0.1:19101|127.0.0.1:19101|200|envoy|-|%|a%b"
    );
    assert_eq!(f.text("%REQUEST_HEADER(x)%|%RESPONSE_HEADER(server)%|%STREAM_INFO_REQ(x)%"), "abc|envoy|abc");
    assert_eq!(f.text("%RESPONSE_HEADERS_BYTES% %RESPONSE_TRAILERS_BYTES%"), "51 0");
}

#[test]
fn paths_and_queries() {
    let mut f = Fixture::new();
    assert_eq!(
        f.text("%PATH(NQ)%|%PATH(WQ:ORIG)%|%PATH(NQ:PATH):2%|%QUERY_PARAM(z)%|%QUERY_PARAM(nope)%"),
        "/ok|-|/o|1|-"
    );
    assert_eq!(
        f.text("%QUERY_PARAMS(DECODED)%"),
        "q=a%0ab%22c&z=1&x=A~&=%%20%7F%3C/%5c%00a+%g1%4".replace("%3C", "<")
    );
    f.request.append("x-envoy-original-path", b"/orig?a=1");
    assert_eq!(f.text("%PATH%|%PATH(NQ)%|%PATH(NQ:PATH)%|%PATH(WQ:ORIG)%"), "/orig?a=1|/orig|/ok|/orig?a=1");
    f.request.set(":path", b"/plain");
    assert_eq!(f.text("%QUERY_PARAMS%|%QUERY_PARAM(q)%"), "-|-");
    let extras = vec![pb::TypedExtensionConfig {
        name: "x".into(),
        typed_config: Some(prost_types::Any {
            type_url: "type.googleapis.com/envoy.extensions.formatter.req_without_query.v3.ReqWithoutQuery"
                .into(),
            value: Vec::new(),
        }),
    }];
    let source = pb::DataSource {
        specifier: Some(pb::data_source::Specifier::InlineString(
            "%REQ_WITHOUT_QUERY(X-ENVOY-ORIGINAL-PATH?:PATH):3%".into(),
        )),
        ..Default::default()
    };
    let format = Some(pb::substitution_format_string::Format::TextFormatSource(source));
    let c = pb::SubstitutionFormatString { formatters: extras, format, ..Default::default() };
    assert_eq!(f.run(&Formatter::new(&c, Purpose::Log).unwrap()), "/or");
}

#[test]
fn facts_of_the_stream() {
    let f = Fixture::new();
    f.info.set_flag(Flag::UpstreamRetryLimitExceeded);
    f.info.set_flag(Flag::UpstreamRequestTimeout);
    f.info.set_details("a b{c\td}");
    *f.conn.end().transport_failure.borrow_mut() = "TLS error: x".into();
    assert_eq!(
        f.text("%RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG%"),
        "URX,UT UpstreamRetryLimitExceeded,UpstreamRequestTimeout"
    );
    assert_eq!(
        f.text("%RESPONSE_CODE_DETAILS%|%RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES)%"),
        "a_b{c_d}|a b{c\td}"
    );
    assert_eq!(f.text("%DOWNSTREAM_TRANSPORT_FAILURE_REASON%"), "-", "a request has none");
    assert_eq!(f.connection_text("%DOWNSTREAM_TRANSPORT_FAILURE_REASON%"), "TLS_error:_x");

    assert_eq!(
        f.text(
            "%RESPONSE_DURATION% %RESPONSE_TX_DURATION% %REQUEST_DURATION% %DURATION% %ROUNDTRIP_DURATION%"
        ),
        "4 1 - 5 -"
    );
    assert_eq!(
        f.text("%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)% %COMMON_DURATION(DS_RX_BEG:DS_TX_END:ns)% %COMMON_DURATION(DS_TX_END:DS_RX_BEG)% %COMMON_DURATION(FOO:DS_TX_END)%"),
        "5226 5226000 - -"
    );
    assert_eq!(
        f.text("%ACCESS_LOG_TYPE% %CONNECTION_ID% %LISTENER_NAME% %FILTER_CHAIN_NAME% %ROUTE_NAME% %VIRTUAL_CLUSTER_NAME%"),
        "DownstreamEnd 3 l_http - r1 -"
    );
    assert_eq!(f.text("%UNIQUE_ID%").len(), 36);
    assert_ne!(f.text("%UNIQUE_ID%"), f.text("%UNIQUE_ID%"));
    assert_eq!(f.text("%STREAM_ID%"), "4c9c74bb-e5a2-4cd8-94e4-096af64eeff8");
    assert_eq!(f.text("%TRACE_ID% %CUSTOM_FLAGS%"), "- ");
    assert_eq!(f.text("%ENVIRONMENT(NO_SUCH_VARIABLE)%"), "-");
    assert!(!f.text("%ENVIRONMENT(PATH)%|%HOSTNAME%").contains('-') || f.text("%HOSTNAME%") != "-");
}

#[test]
fn upstream() {
    let f = Fixture::new();
    assert_eq!(
        f.text("%UPSTREAM_HOST%|%UPSTREAM_HOST_NAME%|%UPSTREAM_HOST_NAME_WITHOUT_PORT%|%UPSTREAM_CLUSTER%|%UPSTREAM_CLUSTER_RAW%"),
        "127.0.0.1:19201|127.0.0.1:19201|127.0.0.1|ok|ok"
    );
    assert_eq!(
        f.text("%UPSTREAM_CONNECTION_ID%|%UPSTREAM_CONNECTION_IDS_ATTEMPTED%|%UPSTREAM_HOSTS_ATTEMPTED%|%UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT%|%UPSTREAM_REQUEST_ATTEMPT_COUNT%|%UPSTREAM_LOCAL_ADDRESS%"),
        "4|2,4|127.0.0.1:19201|127.0.0.1|1|-"
    );
    *f.info.upstream.borrow_mut() = Default::default();
    assert_eq!(
        f.text("%UPSTREAM_HOST%|%UPSTREAM_CONNECTION_ID%|%UPSTREAM_CONNECTION_IDS_ATTEMPTED%|%UPSTREAM_DETECTED_CLOSE_TYPE%|%UPSTREAM_CLUSTER%"),
        "-|0|-|-|-"
    );
}

/// Measured on Envoy 1.40.0.
#[test]
fn addresses() {
    let f = Fixture::new();
    let form = |p: &str| f.text(&format!("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT({p})%"));
    for (p, text) in [
        ("33", "127.0.0.1/32"),
        ("8", "127.0.0.0/8"),
        ("0", "0.0.0.0/0"),
        ("x", "127.0.0.1"),
        ("129", "127.0.0.1/32"),
        ("-1", ""),
        (" 24", "127.0.0.0/24"),
        ("24x", "127.0.0.1"),
        ("", "127.0.0.1"),
    ] {
        assert_eq!(form(p), text, "{p}");
    }
    assert_eq!(
        f.text("%DOWNSTREAM_LOCAL_PORT% %DOWNSTREAM_DIRECT_REMOTE_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID%|%UPSTREAM_REMOTE_PORT%"),
        "19101 127.0.0.1:35546 |19201"
    );
    *f.conn.remote.borrow_mut() = Address::Ip("[2001:db8::1]:7".parse().unwrap());
    assert_eq!(
        f.text("%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(32)%"),
        "[2001:db8::1]:7 2001:db8::1 2001:db8::/32"
    );
}

/// Measured on Envoy 1.40.0.
#[test]
fn server_name() {
    let mut f = Fixture::new();
    const ALL: &str = "%REQUESTED_SERVER_NAME%|%REQUESTED_SERVER_NAME(SNI_FIRST)%|%REQUESTED_SERVER_NAME(SNI_FIRST:ORIG)%|%REQUESTED_SERVER_NAME(HOST_FIRST:HOST)%";
    assert_eq!(f.text(ALL), "-|127.0.0.1:19101|-|127.0.0.1:19101");
    f.request.append("x-envoy-original-host", b"oh");
    assert_eq!(f.text(ALL), "-|oh|oh|127.0.0.1:19101");
    f.conn.sni.set("a.example".into()).unwrap();
    assert_eq!(f.text(ALL), "a.example|a.example|a.example|127.0.0.1:19101");
}

#[test]
fn metadata_and_filter_state() {
    let f = Fixture::new();
    let m = |s: &str| f.text(&format!("%METADATA(ROUTE:{s}"));
    let whole = "{\"b\":true,\"f\":1.25,\"l\":[1,\"a\"],\"n\":3,\"nul\":null,\"o\":{\"a\":null,\"k\":\"v\",\"z\":1},\"s\":\"str\\\"qé\"}";
    assert_eq!(m("ns)%"), whole);
    for (p, text) in [
        ("ns:o)%", "{\"a\":null,\"k\":\"v\",\"z\":1}"),
        ("ns:s)%", "str\"qé"),
        ("ns:s):2%", "st"),
        ("ns:o):3%", "{\"a"),
        ("ns:n)%", "3"),
        ("ns:b)%", "true"),
        ("ns:nul)%", "-"),
        ("ns:o:k)%", "v"),
        ("ns:s:k)%", "-"),
        ("nope)%", "-"),
        (")%", "-"),
    ] {
        assert_eq!(m(p), text, "{p}");
    }
    assert_eq!(f.text("%DYNAMIC_METADATA(ns:s)%"), "-");
    f.info.set_metadata("ns", object([("s", text("x"))]));
    assert_eq!(f.text("%DYNAMIC_METADATA(ns:s)%|%METADATA(DYNAMIC:ns)%"), "x|{\"s\":\"x\"}");
    let object = || Rc::new(StringObject("a\"b".into()));
    f.conn.filter_state.borrow_mut().set("c", LifeSpan::Connection, object());
    f.info.filter_state.borrow_mut().set("s", LifeSpan::Request, object());
    assert_eq!(
        f.text("%FILTER_STATE(c:PLAIN)%|%FILTER_STATE(s:PLAIN):2%|%FILTER_STATE(s)%|%FILTER_STATE(no)%"),
        "a\"b|a\"|\"a\\\"b\"|-"
    );
}

#[test]
fn grpc() {
    let mut f = Fixture::new();
    const ALL: &str = "%GRPC_STATUS%|%GRPC_STATUS(SNAKE_STRING)%|%GRPC_STATUS(NUMBER)%|%GRPC_STATUS_NUMBER%";
    assert_eq!(f.text(ALL), "-|-|-|-");
    f.request.set("content-type", b"application/grpc+proto");
    assert_eq!(f.text(ALL), "Unknown|UNKNOWN|2|2");
    f.response.set("grpc-status", b"1");
    assert_eq!(f.text(ALL), "Canceled|CANCELLED|1|1");
    f.trailers.set("grpc-status", b"14");
    assert_eq!(f.text(ALL), "Unavailable|UNAVAILABLE|14|14");
    f.trailers.set("grpc-status", b"99");
    assert_eq!(f.text(ALL), "99|99|99|99");
}

#[test]
fn tls() {
    let f = Fixture::new();
    const ALL: &str = "%DOWNSTREAM_TLS_VERSION% %DOWNSTREAM_PEER_SUBJECT% %DOWNSTREAM_PEER_DNS_SAN% %DOWNSTREAM_PEER_IP_SAN% %DOWNSTREAM_LOCAL_URI_SAN% %DOWNSTREAM_PEER_CERT_V_START(%Y)% %DOWNSTREAM_PEER_CERT_V_END%";
    assert_eq!(f.text(ALL), "- - - - - - -");
    let peer = CertInfo {
        subject: "CN=a,O=b".into(),
        dns_sans: vec!["a".into(), "b".into()],
        not_before: Some(SystemTime::UNIX_EPOCH),
        ..Default::default()
    };
    let t = TlsInfo { version: "TLSv1.3", peer: Some(Arc::new(peer)), ..Default::default() };
    assert!(f.conn.tls.set(Rc::new(t)).is_ok());
    assert_eq!(f.text(ALL), "TLSv1.3 CN=a,O=b a,b - - 1970 -");
}

#[test]
fn coalesce() {
    let f = Fixture::new();
    let run = |json: &str, tail: &str| f.text(&format!("%COALESCE({{\"operators\":[{json}]}}){tail}%"));
    assert_eq!(run(r#"{"command":"REQ","param":"nope"},{"command":"REQ","param":"x"}"#, ""), "abc");
    assert_eq!(run(r#""FILTER_CHAIN_NAME","PROTOCOL""#, ""), "HTTP/1.1");
    assert_eq!(run(r#"{"command":"REQ","param":"x","max_length":1}"#, ""), "a");
    assert_eq!(run(r#"{"command":"REQ","param":"x"}"#, ":1"), "a");
    assert_eq!(run(r#""FILTER_CHAIN_NAME""#, ""), "-");
    assert_eq!(error(r#"%COALESCE({"operators":["NOPE"]})%"#), "Not supported field in StreamInfo: NOPE");
}

/// Measured on Envoy 1.40.0.
#[test]
fn json() {
    let f = Fixture::new();
    let number = |n: f64| v(Kind::NumberValue(n));
    let format = || {
        object([
            ("num", number(5.0)),
            ("e15", number(1e15)),
            ("b", v(Kind::BoolValue(true))),
            ("n", NULL),
            ("lit", text("a\"b\\c/é\u{1}\u{7f}")),
            (
                "l",
                list([
                    text("%REQ(x)%"),
                    number(1.0),
                    v(Kind::StructValue(object([("z", text("%REQ(nope)%")), ("a", text("x%REQ(nope)%y"))]))),
                ]),
            ),
            ("o", v(Kind::StructValue(Struct::default()))),
            ("el", list([])),
            ("pct", text("100%%")),
            ("pct2", text("%REQ(x)%%%")),
            ("multi", text("%REQ(x)%-%REQ(nope)%")),
            ("null", text("%REQ(nope)%")),
            ("code", text("%RESPONSE_CODE%")),
            ("q", text("%QUERY_PARAM(q)%")),
            ("mdk", text("%METADATA(ROUTE:ns:o)%")),
            ("mdm", text("x%METADATA(ROUTE:ns:o)%")),
            ("mdl", text("%METADATA(ROUTE:ns:s):2%")),
            ("mdn", text("%METADATA(ROUTE:ns:n)%")),
            ("env", text("%ENVIRONMENT(NO_SUCH_VARIABLE)%")),
            ("Z", number(1.0)),
            ("trunc0", text("%REQ(x):0%")),
            ("time", text("%START_TIME%")),
            ("flags", text("%RESPONSE_FLAGS%")),
        ])
    };
    assert_eq!(
        f.json(format(), false),
        concat!(
            r#"{"Z":1,"b":true,"code":200,"e15":1e+15,"el":[],"env":"-","flags":"-","l":["abc",1,{"a":"x-y","z":null}],"#,
            "\"lit\":\"a\\\"b\\\\c/é\\u0001\u{7f}\",",
            r#""mdk":{"a":null,"k":"v","z":1},"mdl":"st","mdm":"x{\"a\":null,\"k\":\"v\",\"z\":1}","mdn":3,"#,
            r#""multi":"abc--","n":null,"null":null,"num":5,"o":{},"pct":"100%","pct2":"abc%","q":"a\nb\"c","#,
            r#""time":"2026-11-21T04:07:33.667Z","trunc0":""}"#,
            "\n"
        )
    );
    assert_eq!(
        f.json(format(), true),
        concat!(
            r#"{"Z":1,"b":true,"code":200,"e15":1e+15,"el":[],"env":"-","flags":"-","l":["abc",1,{"a":"xy"}],"#,
            "\"lit\":\"a\\\"b\\\\c/é\\u0001\u{7f}\",",
            r#""mdk":{"a":null,"k":"v","z":1},"mdl":"st","mdm":"x{\"a\":null,\"k\":\"v\",\"z\":1}","mdn":3,"#,
            r#""multi":"abc-","num":5,"pct":"100%","pct2":"abc%","q":"a\nb\"c","#,
            r#""time":"2026-11-21T04:07:33.667Z","trunc0":""}"#,
            "\n"
        )
    );
    let nope = || text("%REQ(nope)%");
    let inner = || v(Kind::StructValue(object([("a", nope())])));
    let om = object([("l", list([inner(), list([]), list([nope()]), NULL, text("")])), ("m", inner())]);
    assert_eq!(f.json(om, true), "{\"l\":[[],[],\"\"]}\n");
    assert_eq!(f.json(Struct::default(), true), "{}\n");
}

#[test]
fn omit_empty_in_text() {
    let f = Fixture::new();
    let format = Some(pb::substitution_format_string::Format::TextFormat(
        "%REQ(nope)%|%RESPONSE_FLAGS%|%GRPC_STATUS%|%ENVIRONMENT(NO_SUCH_VARIABLE)%".into(),
    ));
    let c = pb::SubstitutionFormatString { omit_empty_values: true, format, ..Default::default() };
    assert_eq!(f.run(&Formatter::new(&c, Purpose::Log).unwrap()), "|-||-");
}

#[test]
fn sources() {
    let with = |specifier| {
        let source = pb::DataSource { specifier: Some(specifier), ..Default::default() };
        let format = Some(pb::substitution_format_string::Format::TextFormatSource(source));
        Formatter::new(&pb::SubstitutionFormatString { format, ..Default::default() }, Purpose::Body)
            .map(|_| ())
    };
    use pb::data_source::Specifier as S;
    assert_eq!(with(S::Filename("/no/such/file".into())), Err("Invalid path: /no/such/file".into()));
    assert_eq!(
        with(S::EnvironmentVariable("NOPE_".into())),
        Err("Environment variable doesn't exist: NOPE_".into())
    );
    assert_eq!(with(S::InlineBytes(b"%PROTOCOL%".to_vec())), Ok(()));
    assert!(with(S::InlineBytes(vec![0xff])).is_err());
    let json = Formatter::json(&Struct::default(), Purpose::Body).unwrap();
    assert_eq!(
        (json.content_type(), Formatter::text("", Purpose::Body).unwrap().content_type()),
        (Some("application/json"), None)
    );
}

/// Log injection: CVE-2024-45808 and its like.
#[test]
fn log_lines_cannot_be_forged() {
    let mut f = Fixture::new();
    f.conn.sni.set("a\r\n[forged] \"x\"".into()).unwrap();
    f.request.set("x", b"v\x1b[31m\xff\ty");
    *f.conn.end().termination.borrow_mut() = "x\ny".into();
    assert_eq!(f.text("%REQUESTED_SERVER_NAME%"), "a___forged___x_");
    assert_eq!(f.text("%QUERY_PARAM(q)%|%LOCAL_REPLY_BODY%"), "a\\x0Ab\"c|no\\x0Abody");
    assert_eq!(f.text("%CONNECTION_TERMINATION_DETAILS%"), "x\\x0Ay");
    let mut out = Vec::new();
    Formatter::text("%REQ(x)%\n", Purpose::Log).unwrap().append(&f.cx(), &mut out);
    assert_eq!(out, b"v\\x1B[31m\xff\ty\n");
    // CVE-2024-34363: not UTF-8, into JSON.
    assert_eq!(f.json(object([("x", text("%REQ(x)%"))]), false), "{\"x\":\"v\\u001b[31m\\u00ff\\u0009y\"}\n");
}

#[test]
fn bodies_are_not_escaped() {
    let f = Fixture::new();
    assert_eq!(
        f.run(&Formatter::text("%LOCAL_REPLY_BODY%:%RESPONSE_CODE%\n", Purpose::Body).unwrap()),
        "no\nbody:200\n"
    );
}

#[test]
fn header_values() {
    let f = Fixture::new();
    assert_eq!(f.header("a%%b %REQ(nope)% %REQ(x)%"), "a%b  abc");
    assert_eq!(f.header("%REQ(nope)%"), "");
    // Envoy 1.40 lets a client split the header here.
    assert_eq!(f.header("%QUERY_PARAM(q)%"), "a b\"c");
    assert_eq!(f.header("%START_TIME(%s)%"), "1795234053");
    f.info.set_metadata("ns", object([("k", text("x"))]));
    f.info.filter_state.borrow_mut().set("s", LifeSpan::Request, Rc::new(StringObject("st".into())));
    assert_eq!(f.header("%DYNAMIC_METADATA([\"ns\", \"k\"])% %PER_REQUEST_STATE(s)%!"), "x st!");
    assert_eq!(HeaderFormatter::new("a%%b").unwrap().constant(), Some(&b"a%b"[..]));
    assert_eq!(HeaderFormatter::new("").unwrap().constant(), Some(&b""[..]));
    assert_eq!(HeaderFormatter::new("%PROTOCOL%").unwrap().constant(), None);
    assert_eq!(
        HeaderFormatter::new("%NOPE%").map(|_| ()),
        Err("Not supported field in StreamInfo: NOPE".into())
    );
}

#[test]
fn time_goes_on() {
    let f = Fixture::new();
    assert_eq!(f.text("%EMIT_TIME%"), "2026-11-21T04:07:33.672Z");
    f.sim.advance(Duration::from_secs(60));
    assert_eq!(f.text("%EMIT_TIME(%H:%M:%S.%3f)% %DURATION%"), "04:08:33.672 60005");
}

/// Prints what one default line costs (`cargo test --release -- --ignored --nocapture`).
#[test]
#[ignore = "a measurement"]
fn cost_of_a_line() {
    let f = Fixture::new();
    let format = Formatter::default_access_log();
    let mut out = Vec::with_capacity(1 << 16);
    let t = std::time::Instant::now();
    const N: u32 = 500_000;
    for _ in 0..N {
        out.clear();
        format.append(&f.cx(), &mut out);
    }
    println!("default line: {:?}", t.elapsed() / N);
}

#[test]
fn random_formats_do_not_panic() {
    crate::rng::seed(34);
    const PIECES: &[&str] = &[
        "%",
        "%%",
        "REQ",
        "(",
        ")",
        ":",
        "?",
        "x",
        "é",
        "\n",
        "START_TIME",
        "%START_TIME(",
        "%Y",
        "%3f",
        "%E4Y",
        "%-d",
        "%9",
        "5",
        "99999999999999999999",
        "%METADATA(ROUTE:ns:",
        "%PATH(",
        "NQ",
        "%QUERY_PARAM(q)",
        "%ENVIRONMENT(PATH)",
        "%COALESCE(",
        "{\"operators\":[\"PROTOCOL\"]}",
        "%REQUESTED_SERVER_NAME(",
        "SNI_FIRST",
        "%FILTER_STATE(",
        "PLAIN",
        "\\",
        "\"",
    ];
    let f = Fixture::new();
    let mut taken = 0;
    for _ in 0..10_000 {
        let n = 1 + crate::rng::below(7);
        let s: String = (0..n).map(|_| PIECES[crate::rng::below(PIECES.len() as u64) as usize]).collect();
        if let Ok(format) = Formatter::text(&s, Purpose::Log) {
            taken += 1;
            f.run(&format);
        }
        _ = f.json(object([("k", text("%REQ(x)%"))]), false);
        _ = HeaderFormatter::new(&s);
    }
    assert!(taken > 400, "only {taken} formats were valid");
}
