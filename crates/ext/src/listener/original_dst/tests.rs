use crate::testing::listener_filters;
use nuncio_core::address::Address;
use nuncio_core::info::{ConnInfo, ListenerInfo};
use nuncio_core::listener_filter::{Detected, Inspection, Verdict};
use std::sync::Arc;

fn address(text: &str) -> Address {
    Address::Ip(text.parse().expect("an address"))
}

#[test]
fn the_clients_destination_is_the_local_address() {
    let (filters, _store) = listener_filters(include_str!("example.yaml"));
    assert!(filters[0].wants_original_dst());
    for (original_dst, local) in [(Some(address("10.0.0.1:80")), "10.0.0.1:80"), (None, "127.0.0.1:1")] {
        let here = || address("127.0.0.1:1");
        let conn = ConnInfo::new(1, Arc::new(ListenerInfo::default()), here(), here());
        let mut detected = Detected::default();
        let mut at = Inspection { conn: &conn, detected: &mut detected, original_dst };
        let mut st = filters[0].state();
        assert_eq!(filters[0].on_accept(&mut *st, &mut at), Verdict::Next(0));
        assert_eq!((conn.local.borrow().to_string(), conn.direct_local), (local.to_owned(), here()));
    }
}
