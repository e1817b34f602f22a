//! What the tests of network filters need.

use crate::testing::{calling_network_filters, terminal_filter};
use nuncio_core::StreamInfo;
use nuncio_core::address::Address;
use nuncio_core::info::{ConnInfo, ListenerInfo};
use nuncio_core::network_filter::{Access, DynNetworkFilter};
use nuncio_core::stats::Store;
use nuncio_core::terminal_filter::{DynTerminalFilter, Then};
use nuncio_testkit::filter_test::{Calls, counters};
use nuncio_wire::{Chunk, OutBuf};
use std::any::Any;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// A filter, its stats, and connections to it.
pub struct Case {
    filter: Arc<dyn DynNetworkFilter>,
    store: Store,
    /// What the filter asks of others.
    pub calls: Calls,
}

/// A connection and the filter's state of it.
pub struct Conn {
    /// Its facts.
    pub info: Rc<ConnInfo>,
    state: Box<dyn Any>,
}

impl Case {
    /// The first of a list of filters.
    pub fn new(yaml: &str) -> Case {
        let calls = Calls::default();
        let (mut filters, store) = calling_network_filters(yaml, calls.clone());
        Case { filter: filters.remove(0), store, calls }
    }
    /// A connection from 10.1.2.3 to port 80.
    pub fn connect(&self) -> Conn {
        Conn { info: Rc::new(connection()), state: self.filter.state() }
    }
    /// It has come.
    pub fn opens(&self, c: &mut Conn) -> Access {
        self.filter.on_new_connection(&mut *c.state, &c.info)
    }
    /// What it says of it in the end.
    pub fn admits(&self, c: &mut Conn) -> Access {
        let Some(mut asked) = self.filter.admits(&mut *c.state, &c.info) else { return Access::Granted };
        // Those who are asked here answer at once, piece by piece.
        for _ in 0..8 {
            if let Poll::Ready(access) = asked.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return access;
            }
        }
        panic!("somebody has not answered")
    }
    /// Its first bytes have come.
    pub fn data(&self, c: &mut Conn) -> Access {
        self.filter.on_data(&mut *c.state, &c.info)
    }
    /// The value of a counter or gauge.
    pub fn stat(&self, name: &str) -> u64 {
        counters(&self.store).into_iter().find(|(n, _)| n == name).map_or(0, |(_, v)| v)
    }
}

fn connection() -> ConnInfo {
    let address = |a: &str| Address::Ip(a.parse().expect("an address"));
    ConnInfo::new(1, Arc::new(ListenerInfo::default()), address("10.1.2.3:4000"), address("10.9.9.9:80"))
}

/// A filter that is the last of its chain, and a connection to it.
pub struct Terminal {
    filter: Arc<dyn DynTerminalFilter>,
    conn: ConnInfo,
}

impl Terminal {
    /// The only one of a list of filters.
    pub fn new(yaml: &str) -> Terminal {
        let conn = connection();
        let _ = conn.logged.set(Box::new(StreamInfo::new()));
        Terminal { filter: terminal_filter(yaml), conn }
    }
    /// The connection has come: what becomes of it, and what is written.
    pub fn opens(&self) -> (Then, String) {
        self.says(|out| self.filter.on_new_connection(&self.conn, out))
    }
    /// Bytes have come.
    pub fn data(&self, bytes: &str) -> (Then, String) {
        self.says(|out| self.filter.on_data(&self.conn, Chunk::from(bytes.to_owned()), out))
    }
    fn says(&self, f: impl FnOnce(&mut OutBuf) -> Then) -> (Then, String) {
        let (mut out, mut text) = (OutBuf::new(), vec![]);
        let then = f(&mut out);
        while !out.is_empty() {
            text.extend_from_slice(out.front());
            out.advance(out.front().len());
        }
        (then, String::from_utf8(text).expect("text"))
    }
    /// `%RESPONSE_CODE_DETAILS%`
    pub fn details(&self) -> String {
        self.conn.logged.get().map(|i| i.details.borrow().to_string()).unwrap_or_default()
    }
}
