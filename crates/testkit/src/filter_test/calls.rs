//! What filters ask of others, and what they are answered.

use super::message::{Payload, Reply};
use nuncio_core::address::Address;
use nuncio_core::body::{Body, Frame};
use nuncio_core::grpc::frame;
use nuncio_core::info::{ConnInfo, ListenerInfo, StreamShared};
use nuncio_core::upstreams::{Answer, Call, CallError, CallOptions, HttpClient};
use nuncio_wire::{HeaderMap, RequestHead};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// The calls of a chain: answered in turn, and remembered. Without an answer left there is no such cluster.
#[derive(Clone, Default)]
pub struct Calls(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    answers: VecDeque<Reply>,
    seen: Vec<SeenCall>,
}

/// A call that was made.
#[derive(Clone, Debug)]
pub struct SeenCall {
    /// To which cluster.
    pub cluster: String,
    /// With which headers.
    pub headers: HeaderMap,
    /// With which body.
    pub body: Vec<u8>,
    /// How long it may take.
    pub timeout: Option<Duration>,
}

impl SeenCall {
    /// The message of a gRPC call.
    ///
    /// # Panics
    /// There is none of this type.
    pub fn message<M: prost::Message + Default>(&self) -> M {
        M::decode(&self.body[frame::HEAD..]).expect("a message of this type")
    }
}

impl Calls {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics with it")
    }
    /// The next call is answered so.
    pub fn answer(&self, reply: Reply) {
        self.state().answers.push_back(reply);
    }
    /// The next call is answered with a gRPC message.
    pub fn answer_message(&self, m: &impl prost::Message) {
        let bytes = m.encode_to_vec();
        let framed = [&frame::head(bytes.len() as u32)[..], &bytes].concat();
        let reply = Reply::new(200).header("content-type", "application/grpc");
        self.answer(reply.body(framed).trailer("grpc-status", "0"));
    }
    /// The calls so far.
    pub fn seen(&self) -> Vec<SeenCall> {
        self.state().seen.clone()
    }
    /// A client whose calls these are.
    pub fn client(&self, cluster: &str) -> Arc<dyn HttpClient> {
        Arc::new(Fake { calls: self.clone(), cluster: cluster.to_owned() })
    }
}

/// A client that calls nobody.
struct Fake {
    calls: Calls,
    cluster: String,
}

impl HttpClient for Fake {
    fn cluster(&self) -> &str {
        &self.cluster
    }
    fn call(&self, head: RequestHead, mut body: Body, options: CallOptions) -> Call {
        let (calls, cluster) = (self.calls.clone(), self.cluster.clone());
        Box::pin(async move {
            let nowhere = || Address::Internal("test".into(), "".into());
            let conn = ConnInfo::new(0, Arc::new(ListenerInfo::default()), nowhere(), nowhere());
            let sx = StreamShared::new(Rc::new(conn), None);
            let mut bytes = vec![];
            while let Some(Ok(f)) = body.frame(&sx).await {
                if let Frame::Data(c) = f {
                    bytes.extend_from_slice(&c);
                }
            }
            let seen = SeenCall { cluster, headers: head.headers, body: bytes, timeout: options.timeout };
            let mut state = calls.state();
            state.seen.push(seen);
            let Reply { head, payload, .. } = state.answers.pop_front().ok_or(CallError::NoCluster)?;
            Ok(Answer { head, body: Payload::into_body(payload), sx })
        })
    }
}
