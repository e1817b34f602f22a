//! The data plane as its peers see it: real sockets, fake hosts, raw clients.
//!
//! * [`pairings`] – HTTP/1 and HTTP/2 on either side: bodies, trailers, responses without a body.
//! * [`calls`] – what the proxy itself asks of others.
//! * [`connections`] – what happens to connections: reuse, pipelining, 100-continue, idleness.
//! * [`failures`] – hosts that refuse, reset, stall or talk nonsense, and clients that leave.
//! * [`limits`] – circuit breakers and timeouts.
//! * [`live`] – listeners and clusters that come, change and go.
//! * [`http2`] – flow control, GOAWAY, stream limits.
//! * [`keepalive`] – PINGs, and peers that do not answer them.
//! * [`floods`] – peers that do not read, and tiny frames.
//! * [`grpc`] – messages that go both ways in turn.
//! * [`panics`] – filters that panic.
//! * [`pools`] – how many connections and pools a cluster has.
//! * [`repeats`] – requests that are sent again because their connection had gone.
//! * [`retries`] – requests that are sent again by a policy.
//! * [`tcp`] – the TCP proxy.
//! * [`balance`] – which host gets a request.
//! * [`tls`] – TLS on either side.
//! * [`upgrades`] – WebSocket and its like.

mod balance;
mod calls;
mod connections;
mod failures;
mod floods;
mod grpc;
mod handed_over;
mod http2;
mod keepalive;
mod limits;
mod live;
mod negotiation;
mod overload;
mod pairings;
mod panics;
mod peers;
mod pools;
mod repeats;
mod retries;
mod tcp;
mod tls;
mod upgrades;
