use crate::network::testing::Case;
use nuncio_core::network_filter::Access;
use std::time::Duration;

#[test]
fn a_connection_too_many_is_closed() {
    let case = Case::new(include_str!("example.yaml"));
    let (mut a, mut b, mut c) = (case.connect(), case.connect(), case.connect());
    assert_eq!((case.opens(&mut a), case.opens(&mut b)), (Access::Granted, Access::Granted));
    assert_eq!(case.opens(&mut c), Access::Refused(Duration::from_millis(500), "over_connection_limit"));
    let stat = |name: &str| case.stat(&format!("connection_limit.l.{name}"));
    assert_eq!((stat("active_connections"), stat("limited_connections")), (3, 1));
    drop((a, c));
    assert_eq!(stat("active_connections"), 1);
    assert_eq!(case.opens(&mut case.connect()), Access::Granted, "there is room again");
}
