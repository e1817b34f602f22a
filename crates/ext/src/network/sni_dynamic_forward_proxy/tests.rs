use crate::network::testing::Case;
use nuncio_core::network_filter::Access;

#[test]
fn a_server_name_is_resolved_for_the_port_of_the_filter() {
    let case = Case::new(include_str!("example.yaml"));
    let open = |sni: &str| {
        let mut c = case.connect();
        let _ = c.info.sni.set(sni.to_owned());
        let access = case.opens(&mut c);
        let port = c.info.filter_state.borrow().get("envoy.upstream.dynamic_port").and_then(|p| p.text());
        (access, port)
    };
    let port = || Some("443".to_owned());
    assert_eq!(open("known.test"), (Access::Granted, port()));
    assert_eq!(open("later.test"), (Access::Granted, port()));
    assert_eq!(open(""), (Access::Granted, None));
    assert_eq!(open("full.test"), (Access::Refused(std::time::Duration::ZERO, ""), port()));
    assert_eq!(open("busy.test"), (Access::Refused(std::time::Duration::ZERO, ""), port()));
}
