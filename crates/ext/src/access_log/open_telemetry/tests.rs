use super::*;
use crate::testing::{logger, with_entry};
use nuncio_core::filter_state::{LifeSpan, NumberObject, StringObject};
use nuncio_core::stats::Store;
use nuncio_testkit::filter_test::{Calls, Reply};
use nuncio_wire::HeaderMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

const CONFIG: &str = "envoy.extensions.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig";

fn string(t: &str) -> AnyValue {
    text(t.to_owned())
}
fn list(all: &[(&str, AnyValue)]) -> nuncio_api::opentelemetry::proto::common::v1::KeyValueList {
    let values = all.iter().map(|(k, v)| attribute((*k).to_owned(), v.clone())).collect();
    nuncio_api::opentelemetry::proto::common::v1::KeyValueList { values }
}

#[test]
fn texts_lists_and_maps_are_made_for_each_record() {
    let request: HeaderMap = [(":method", "GET")].into_iter().collect();
    let array = nuncio_api::opentelemetry::proto::common::v1::ArrayValue {
        values: vec![string("x"), string("%REQ(:method)%")],
    };
    let nested = AnyValue { value: Some(Value::KvlistValue(list(&[("m", string("%REQ(x-none)%"))]))) };
    let wanted = list(&[
        ("b", string("%REQ(:method)% %RESPONSE_CODE%")),
        ("a", AnyValue { value: Some(Value::ArrayValue(array)) }),
        ("n", nested),
    ]);
    let all = Template::list(Some(&wanted), &[]).expect("good formats");
    with_entry(|cx| {
        let cx = FormatCx { request: Some(&request), ..*cx };
        let said: Vec<_> = all.iter().map(|(k, t)| (k.as_str(), format!("{:?}", t.value(&cx)))).collect();
        assert_eq!(said[0], ("b", format!("{:?}", string("GET 200"))));
        assert!(said[1].0 == "a" && said[1].1.contains("\"x\"") && said[1].1.contains("\"GET\""), "{said:?}");
        assert!(said[2].0 == "n" && said[2].1.contains("\"-\""), "{said:?}");
    });
    let number = AnyValue { value: Some(Value::IntValue(1)) };
    assert!(Template::new(&number, &[]).is_err(), "only texts are made");
}

#[test]
fn ids_are_bytes() {
    assert_eq!(trace_id("0102030405060708090a0b0c0d0e0f10"), (1..=16).collect::<Vec<u8>>());
    assert_eq!(trace_id("0102030405060708"), [&[0; 8][..], &[1, 2, 3, 4, 5, 6, 7, 8]].concat());
    assert_eq!((trace_id("01"), unhex("xy"), unhex("0")), (vec![], vec![], vec![]));
}

#[test]
fn objects_are_said_as_json() {
    assert_eq!(json(&StringObject("a\"b".into())).as_deref(), Some(r#""a\"b""#));
    assert_eq!(json(&NumberObject(7)).as_deref(), Some("7"));
    with_entry(|cx| {
        cx.info.filter_state.borrow_mut().set("s", LifeSpan::Request, Rc::new(StringObject("t".into())));
        assert_eq!(json(&*cx.info.filter_state.borrow().get("s").expect("set")).as_deref(), Some("\"t\""));
    });
}

/// What has become of two records that leave together, when the collector answers so.
fn counted(answer: Option<Reply>) -> (u64, u64, usize) {
    let (calls, store) = (Calls::default(), Store::new());
    answer.into_iter().for_each(|a| calls.answer(a));
    let to = To::Grpc(crate::testing::grpc_client(&calls));
    let settings = Settings { interval: None, size: Some(40), resource: vec![] };
    let plan = Arc::new(export::Plan::new(to, settings, &store.root()));
    let record = LogRecord { body: Some(string("twenty bytes of body")), ..Default::default() };
    nuncio_testkit::run(async {
        let buffer = Rc::new(export::Buffer::new(plan.clone()));
        buffer.add(record.clone());
        buffer.add(record);
        poll_fn(|cx| match plan.counted() {
            (0, 0) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            _ => Poll::Ready(()),
        })
        .await;
    });
    let (written, dropped) = plan.counted();
    (written, dropped, calls.seen().len())
}

fn response(message: &impl prost::Message) -> Reply {
    let bytes = message.encode_to_vec();
    let framed = [&nuncio_core::grpc::frame::head(bytes.len() as u32)[..], &bytes].concat();
    Reply::new(200).header("content-type", "application/grpc").body(framed).trailer("grpc-status", "0")
}

#[test]
fn records_count_as_the_collector_says() {
    use nuncio_api::opentelemetry::proto::collector::logs::v1::{
        ExportLogsPartialSuccess, ExportLogsServiceResponse,
    };
    let partial = |n: i64| {
        let p = ExportLogsPartialSuccess { rejected_log_records: n, ..Default::default() };
        response(&ExportLogsServiceResponse { partial_success: Some(p) })
    };
    assert_eq!(counted(Some(response(&ExportLogsServiceResponse::default()))), (2, 0, 1));
    assert_eq!(counted(Some(partial(1))), (1, 1, 1));
    assert_eq!(counted(Some(partial(9))), (0, 2, 1));
    assert_eq!(counted(None), (0, 2, 1));
}

#[test]
fn refusals() {
    let refusal = |config: &str| logger(CONFIG, config).err().unwrap_or_default();
    let (grpc, http) = (
        "grpc_service: {envoy_grpc: {cluster_name: c}}",
        "http_service: {http_uri: {uri: http://c/v1/logs, cluster: c, timeout: 1s}}",
    );
    assert!(logger(CONFIG, grpc).is_ok() && logger(CONFIG, http).is_ok());
    assert!(refusal(&format!("{grpc}, {http}")).contains("can only have one transport configured"));
    assert!(refusal("log_name: a").contains("requires one of: grpc_service"));
    assert!(refusal(&format!("{grpc}, body: {{int_value: 1}}")).contains("Only string values"));
}
