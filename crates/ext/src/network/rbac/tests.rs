use crate::network::testing::Case;
use nuncio_core::address::Address;
use nuncio_core::info::{ConnInfo, ListenerInfo};
use nuncio_core::network_filter::Access;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

#[test]
fn rules_and_shadow_rules() {
    let case = Case::new(include_str!("example.yaml"));
    let mut inside = case.connect();
    assert_eq!(case.data(&mut inside), Access::Granted);
    assert_eq!((case.stat("tcp.rbac.allowed"), case.stat("tcp.rbac.next_.shadow_denied")), (1, 1));
    let metadata = inside.info.metadata.borrow();
    let said = metadata.get("envoy.filters.network.rbac", ["next_shadow_effective_policy_id"]);
    assert_eq!(
        said.and_then(|v| v.kind.clone()),
        Some(prost_types::value::Kind::StringValue("port 80".into()))
    );
    drop(metadata);

    let address = |a: &str| Address::Ip(a.parse().expect("an address"));
    let listener = Arc::new(ListenerInfo::default());
    let mut outside = case.connect();
    outside.info = Rc::new(ConnInfo::new(2, listener, address("192.0.2.1:1"), address("10.9.9.9:80")));
    assert_eq!(case.data(&mut outside), Access::Refused(Duration::ZERO, "rbac_deny_close"));
    assert_eq!(case.stat("tcp.rbac.denied"), 1);
    assert_eq!(*outside.info.end().termination.borrow(), "rbac_access_denied_matched_policy[none]");
}

#[test]
fn matcher_trees() {
    let case = Case::new(
        "- name: envoy.filters.network.rbac
  typed_config:
    '@type': type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC
    stat_prefix: tcp.
    delay_deny: 0.2s
    matcher:
      matcher_tree:
        input: {name: port, typed_config: {'@type': type.googleapis.com/envoy.extensions.matching.common_inputs.network.v3.DestinationPortInput}}
        exact_match_map:
          map:
            '80': {action: {name: deny, typed_config: {'@type': type.googleapis.com/envoy.config.rbac.v3.Action, name: not here, action: DENY}}}
",
    );
    let mut c = case.connect();
    assert_eq!(case.data(&mut c), Access::Refused(Duration::from_millis(200), "rbac_deny_close"));
    assert_eq!(*c.info.end().termination.borrow(), "rbac_access_denied_matched_policy[not_here]");
}
