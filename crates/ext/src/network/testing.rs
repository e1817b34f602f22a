//! What the tests of network filters need.

use crate::testing::calling_network_filters;
use nuncio_core::address::Address;
use nuncio_core::info::{ConnInfo, ListenerInfo};
use nuncio_core::network_filter::{Access, DynNetworkFilter};
use nuncio_core::stats::Store;
use nuncio_testkit::filter_test::{Calls, counters};
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
        let address = |a: &str| Address::Ip(a.parse().expect("an address"));
        let (remote, local) = (address("10.1.2.3:4000"), address("10.9.9.9:80"));
        let info = Rc::new(ConnInfo::new(1, Arc::new(ListenerInfo::default()), remote, local));
        Conn { info, state: self.filter.state() }
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
