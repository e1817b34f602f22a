use crate::access_log::grpc::entry::{Common, tcp};
use crate::testing::{logger, with_entry};
use nuncio_core::clock;
use nuncio_core::format::FormatCx;

const CONFIG: &str = "envoy.extensions.access_loggers.grpc.v3.TcpGrpcAccessLogConfig";

#[test]
fn what_is_said_of_a_connection() {
    with_entry(|cx| {
        cx.info.bytes_received.set(3);
        cx.info.bytes_sent.set(4);
        cx.info.times.us_tx_beg.set(Some(clock::now()));
        *cx.conn.end().transport_failure.borrow_mut() = "why".into();
        let common = Common::new(&Default::default()).unwrap();
        let e = tcp(&FormatCx { request: None, response: None, ..*cx }, &common);
        let bytes = e.connection_properties.map(|c| (c.received_bytes, c.sent_bytes));
        assert_eq!(bytes, Some((3, 4)));
        let c = e.common_properties.unwrap();
        assert_eq!(c.downstream_transport_failure_reason, "why");
        assert!(c.time_to_first_upstream_tx_byte.is_some() && c.time_to_last_upstream_tx_byte.is_none());
        assert!(c.tls_properties.is_none() && c.upstream_remote_address.is_none());
    });
}

#[test]
fn refusals() {
    let config = "common_config: {log_name: a, grpc_service: {envoy_grpc: {cluster_name: c}}}";
    assert!(logger(CONFIG, config).err().unwrap().contains("V2"));
}
