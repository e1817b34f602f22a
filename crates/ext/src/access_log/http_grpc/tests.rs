use crate::access_log::grpc::entry::{Common, Headers, header_names, http};
use crate::testing::{logger, with_entry};
use nuncio_api::envoy::data::accesslog::v3 as pb;
use nuncio_api::envoy::extensions::access_loggers::grpc::v3::CommonGrpcAccessLogConfig;
use nuncio_core::filter_state::{LifeSpan, NumberObject, StringObject};
use nuncio_core::flags::Flag;
use nuncio_core::format::FormatCx;
use nuncio_wire::HeaderMap;
use std::rc::Rc;

const CONFIG: &str = "envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig";

fn entry(cx: &FormatCx<'_>, state: &[&str], request: &[&str]) -> pb::HttpAccessLogEntry {
    let strings = |all: &[&str]| all.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let config =
        CommonGrpcAccessLogConfig { filter_state_objects_to_log: strings(state), ..Default::default() };
    let wanted = Headers {
        request: header_names(&strings(request)),
        response: header_names(&strings(&[":status", "none"])),
        trailers: vec![],
    };
    http(cx, &Common::new(&config).unwrap(), &wanted)
}

#[test]
fn what_is_said_of_a_request() {
    let mut request: HeaderMap =
        [(":method", "GET"), (":path", "/p"), (":authority", "a"), ("x-a", "1"), ("x-a", "2")]
            .into_iter()
            .collect();
    request.append("user-agent", b"\xffx");
    with_entry(|cx| {
        cx.info.filter_state.borrow_mut().set("s", LifeSpan::Request, Rc::new(StringObject("text".into())));
        cx.conn.filter_state.borrow_mut().set("n", LifeSpan::Connection, Rc::new(NumberObject(7)));
        let e = entry(&FormatCx { request: Some(&request), ..*cx }, &["s", "n", "none"], &["X-A", "host"]);
        let (common, r) = (e.common_properties.unwrap(), e.request.unwrap());
        assert_eq!((&*r.path, &*r.authority, &*r.user_agent, r.request_method), ("/p", "a", "!x", 1));
        let headers: Vec<_> = r.request_headers.iter().map(|(k, v)| format!("{k}: {v}")).collect();
        assert_eq!(headers, ["host: a", "x-a: 1,2"]);
        let answer = e.response.unwrap();
        assert_eq!((answer.response_code, answer.response_headers_bytes), (Some(200), 10));
        assert_eq!(answer.response_headers.get(":status").map(String::as_str), Some("200"));
        assert_eq!(answer.response_headers.len(), 1);
        let packed = |k: &str| common.filter_state_objects.get(k).map(|a| (&*a.type_url, &*a.value));
        let string = "type.googleapis.com/google.protobuf.StringValue";
        assert_eq!(packed("s"), Some((string, &b"\x0a\x04text"[..])));
        let number = "type.googleapis.com/google.protobuf.UInt32Value";
        assert_eq!(packed("n"), Some((number, &b"\x08\x07"[..])));
        assert_eq!(common.filter_state_objects.len(), 2);
        assert!(common.duration.is_some() && !common.intermediate_log_entry);
        assert_eq!(common.response_flags, None);
    });
}

#[test]
fn an_entry_in_between_is_told_apart() {
    with_entry(|cx| {
        let e = entry(&FormatCx { log_type: pb::AccessLogType::DownstreamPeriodic, ..*cx }, &[], &[]);
        let common = e.common_properties.unwrap();
        assert!(common.duration.is_none() && common.intermediate_log_entry);
    });
}

#[test]
fn every_flag_has_its_field() {
    for f in Flag::ALL {
        with_entry(|cx| {
            cx.info.set_flag(*f);
            let common = entry(cx, &[], &[]).common_properties.unwrap();
            let word = !matches!(f, Flag::DropOverload | Flag::UnconditionalDropOverload);
            assert_eq!(common.response_flags.is_some(), word, "{f:?}");
        });
    }
}

#[test]
fn refusals() {
    let refusal = |config: &str| logger(CONFIG, config).err().unwrap();
    let service = "log_name: a, grpc_service: {envoy_grpc: {cluster_name: c}}";
    assert!(logger(CONFIG, &format!("common_config: {{{service}, transport_api_version: V3}}")).is_ok());
    assert!(refusal(&format!("common_config: {{{service}}}")).contains("V2"), "an old version");
}
