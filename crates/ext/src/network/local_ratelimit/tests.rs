use crate::network::testing::Case;
use nuncio_core::clock::sim::Sim;
use nuncio_core::network_filter::Access;
use std::time::Duration;

#[test]
fn connections_without_a_token_are_closed() {
    let sim = Sim::new();
    let case = Case::new(include_str!("example.yaml"));
    let granted = || case.opens(&mut case.connect()) == Access::Granted;
    assert!(granted() && granted() && !granted());
    assert_eq!(case.stat("local_rate_limit.l.rate_limited"), 1);
    sim.advance(Duration::from_millis(1001));
    assert!(granted() && !granted());
}
