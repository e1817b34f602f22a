//! Upstreams: clusters, their hosts, the choice among them, and connections to them.
//!
//! Main builds [`cluster::ClusterPlan`]s and keeps their host sets up to date ([`manager`], [`resolve`], [`dns`]); every worker has a
//! [`local::Cluster`] for each plan, with connection pools of its own ([`pool`]) over the two kinds of connection
//! ([`h1`], [`h2`]), and chooses ([`lb`]) by what is known of the hosts' [`health`]. The router asks for a
//! [`stream::UpStream`] and never sees which kind it got; the TCP proxy asks for plain [`bytes`].

pub mod breakers;
pub mod bytes;
#[cfg(test)]
mod change_tests;
pub mod client;
pub mod cluster;
pub mod config;
pub mod connect;
pub mod dns;
pub mod eds;
pub mod forward;
pub mod h1;
pub mod h2;
pub mod health;
pub mod health_check;
pub mod host;
pub mod idle;
pub mod lb;
mod load_reports;
pub mod local;
pub mod manager;
pub mod members;
mod original;
pub mod outlier;
mod own;
pub mod pool;
mod proxy_header;
pub mod resolve;
#[cfg(test)]
pub(crate) mod simulation;
pub mod stream;
pub mod transport;
pub mod watch;
