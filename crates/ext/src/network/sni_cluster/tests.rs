use crate::network::testing::Case;
use nuncio_core::network_filter::Access;

#[test]
fn the_server_name_is_the_cluster() {
    let case = Case::new(include_str!("example.yaml"));
    let open = |sni: Option<&str>| {
        let mut c = case.connect();
        sni.into_iter().for_each(|s| c.info.sni.set(s.to_owned()).expect("set once"));
        assert_eq!(case.opens(&mut c), Access::Granted);
        c.info.filter_state.borrow().get("envoy.tcp_proxy.cluster").and_then(|o| o.text())
    };
    assert_eq!(open(Some("a.test")).as_deref(), Some("a.test"));
    assert_eq!(open(Some("")), None);
    assert_eq!(open(None), None);
}
