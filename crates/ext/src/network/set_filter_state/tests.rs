use crate::network::testing::Case;
use nuncio_core::network_filter::Access;

#[test]
fn a_new_connection_gets_its_objects() {
    let case = Case::new(include_str!("example.yaml"));
    let mut c = case.connect();
    assert_eq!(case.opens(&mut c), Access::Granted);
    let state = c.info.filter_state.borrow();
    assert_eq!(state.get("from").and_then(|o| o.text()).as_deref(), Some("10.1.2.3"));
}
