use crate::testing::early_mutation;
use nuncio_core::StreamShared;
use nuncio_core::address::Address;
use nuncio_core::info::{ConnInfo, ListenerInfo};
use nuncio_core::stats::Store;
use nuncio_wire::HeaderMap;
use std::rc::Rc;
use std::sync::Arc;

const TYPE: &str =
    "type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation";

fn changed(mutations: &str, headers: &[(&str, &str)]) -> Result<Vec<String>, String> {
    let yaml = format!("name: m\ntyped_config: {{'@type': {TYPE}, mutations: [{mutations}]}}");
    let m = early_mutation(&yaml, &Store::new())?;
    let address = |a: &str| Address::Ip(a.parse().expect("an address"));
    let conn =
        ConnInfo::new(1, Arc::new(ListenerInfo::default()), address("10.0.0.1:1"), address("10.0.0.2:2"));
    let mut h: HeaderMap = headers.iter().copied().collect();
    m.mutate(&mut h, &StreamShared::new(Rc::new(conn), None));
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    Ok(h.iter().map(|h| format!("{}: {}", text(h.name), text(h.value))).collect())
}

#[test]
fn headers_change() {
    let got = changed(
        "{remove: x-a}, {append: {header: {key: x-b, value: '%DOWNSTREAM_REMOTE_ADDRESS%'}}}, \
         {append: {header: {key: x-c, value: '%REQ(x-d)%'}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}}, \
         {remove_on_match: {key_matcher: {prefix: x-e}}}",
        &[("x-a", "1"), ("x-c", "2"), ("x-d", "3"), ("x-e1", "4")],
    );
    assert_eq!(got.expect("it is good"), ["x-d: 3", "x-b: 10.0.0.1:1", "x-c: 3"]);
}

#[test]
fn what_must_not_be_set() {
    let got = changed("{append: {header: {key: ':path', value: a}}}", &[]);
    assert_eq!(got.expect_err("refused"), ":-prefixed or host headers may not be modified");
}
