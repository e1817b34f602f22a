use super::*;
use nuncio_api::envoy::data::accesslog::v3::{AccessLogCommon, TcpAccessLogEntry};
use nuncio_api::envoy::service::accesslog::v3::stream_access_logs_message::LogEntries;
use nuncio_core::grpc::frame::Decoder;
use nuncio_core::stats::Store;
use nuncio_testkit::filter_test::Calls;
use std::future::poll_fn;
use std::task::Poll;

/// Who says so, and the entries of a message.
type Said = (String, Vec<String>);

/// Runs `f` with a buffer of this size for connections, and gives back what was sent.
fn sent(size: usize, f: impl Fn(&Rc<Buffer>)) -> (Vec<Said>, ReporterStats) {
    let (calls, store) = (Calls::default(), Store::new());
    let stats = ReporterStats::new(&store.root());
    nuncio_testkit::run(async {
        let identifier = Identifier { log_name: "log".into(), ..Default::default() };
        let first = StreamAccessLogsMessage { identifier: Some(identifier), log_entries: None };
        let plan = Plan {
            about: About::Connections,
            client: crate::testing::grpc_client(&calls),
            identifier: first.encode_to_vec(),
            interval: Duration::from_secs(3600),
            size,
            stats: ReporterStats::new(&store.root()),
            clusters: None,
        };
        let buffer = Rc::new(Buffer::new(Arc::new(plan)));
        f(&buffer);
        // Dropped, it sends the rest, and ends its stream; the timer holds it yet.
        buffer.flush();
        drop(buffer.open.take());
        poll_fn(|cx| match calls.seen().is_empty() {
            true => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            false => Poll::Ready(()),
        })
        .await;
    });
    let mut decoder = Decoder::new(4 << 20);
    calls.seen().iter().for_each(|c| decoder.push(&c.body));
    let mut all = vec![];
    while let Some(m) = decoder.message().expect("messages") {
        let m = StreamAccessLogsMessage::decode(m).expect("a message");
        let entries = match m.log_entries {
            Some(LogEntries::TcpLogs(l)) => l.log_entry,
            other => panic!("{other:?}"),
        };
        let names = entries.into_iter().map(|e| e.common_properties.expect("set").route_name);
        all.push((m.identifier.map(|i| i.log_name).unwrap_or_default(), names.collect()));
    }
    (all, stats)
}

fn entry(name: &str) -> TcpAccessLogEntry {
    let common = AccessLogCommon { route_name: name.to_owned(), ..Default::default() };
    TcpAccessLogEntry { common_properties: Some(Box::new(common)), ..Default::default() }
}

fn said(who: &str, names: &[&str]) -> Said {
    (who.to_owned(), names.iter().map(|n| (*n).to_owned()).collect())
}

#[test]
fn entries_wait_until_there_are_enough_of_them() {
    let one = entry("a").encoded_len();
    let (all, stats) = sent(2 * one, |b| ["a", "b", "c"].iter().for_each(|n| b.add(&entry(n))));
    assert_eq!(all, [said("log", &["a", "b"]), said("", &["c"])]);
    assert_eq!(stats.grpc_entries_flushed().value(), 3);
}

#[test]
fn without_a_size_nothing_waits() {
    let (all, _) = sent(0, |b| ["a", "b"].iter().for_each(|n| b.add(&entry(n))));
    assert_eq!(all, [said("log", &["a"]), said("", &["b"])]);
}

#[test]
fn what_the_service_does_not_take_has_a_limit() {
    let long = "x".repeat(1 << 20);
    let (all, stats) = sent(0, |b| (0..40).for_each(|_| b.add(&entry(&long))));
    let entries: Vec<usize> = all.iter().map(|(_, names)| names.len()).collect();
    // The first leaves at once, the second fills the stream; what comes then waits, until there is no more room.
    assert_eq!(entries, [1, 1], "the rest was not taken");
    let dropped = stats.logs_dropped().value();
    assert!((20..30).contains(&dropped), "{dropped}");
    assert!(stats.grpc_entries_flush_failed().value() > 16);
}
