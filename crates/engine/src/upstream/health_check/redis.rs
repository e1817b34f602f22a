//! Checks by what Redis answers (`envoy.health_checkers.redis`): `PONG` to `PING`, or that a key does not exist.

use super::checker::outcome;
use super::conn::Ended;
use super::http::{Outcome, Passed};
use super::state::Failure;
use super::tcp;
use crate::io::Io;
use crate::upstream::cluster::ClusterPlan;
use crate::upstream::host::{Host, HostCounters};
use bytes::Bytes;
use nuncio_api::envoy::extensions::health_checkers::redis::v3 as pb;
use nuncio_core::stats;
use nuncio_core::stats::Scope;
use std::sync::Arc;
use std::task::{Context, Poll};

stats! {
    /// `cluster.<name>.health_check.redis.`
    pub struct RedisStats {
        exists_failure: Counter,
    }
}

/// `envoy.extensions.health_checkers.redis.v3.Redis`
pub struct Redis {
    /// What is sent.
    pub request: Bytes,
    exists: bool,
    stats: RedisStats,
}

/// A connection. Envoy's client for it counts as one for requests does.
pub struct Conn {
    /// The bytes.
    pub bytes: tcp::Conn,
    plan: Arc<ClusterPlan>,
    host: Arc<Host>,
    /// The host has ended it.
    remote: bool,
}

impl Conn {
    /// A connection just made.
    pub fn new(io: Io, plan: Arc<ClusterPlan>, host: Arc<Host>) -> Conn {
        plan.stats.upstream_cx_total().inc();
        plan.stats.upstream_cx_active().inc();
        HostCounters::inc(&host.counters.cx_total);
        HostCounters::inc(&host.counters.cx_active);
        Conn { bytes: tcp::Conn::new(io), plan, host, remote: false }
    }
    /// Asks once.
    ///
    /// # Errors
    /// The connection has ended, or the host speaks something else.
    pub async fn ask(&mut self, r: &Redis) -> Result<Answer, Ended> {
        let asking = Asking::new(&self.plan, &self.host);
        let asked = self.bytes.ask(&r.request, |data| {
            judge(data).inspect_err(|_| asking.plan.stats.upstream_cx_protocol_error().inc())
        });
        asked.await
    }
    /// Nothing is expected. Ready when the host has closed.
    pub fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let ended = self.bytes.poll_idle(cx);
        self.remote = ended.is_ready();
        ended
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        let s = &self.plan.stats;
        s.upstream_cx_active().dec();
        s.upstream_cx_destroy().inc();
        if self.remote { s.upstream_cx_destroy_remote() } else { s.upstream_cx_destroy_local() }.inc();
        HostCounters::dec(&self.host.counters.cx_active);
    }
}

/// A request under way.
struct Asking<'a> {
    plan: &'a ClusterPlan,
    host: &'a Host,
}

impl Asking<'_> {
    fn new<'a>(plan: &'a ClusterPlan, host: &'a Host) -> Asking<'a> {
        plan.stats.upstream_rq_total().inc();
        plan.stats.upstream_rq_active().inc();
        HostCounters::inc(&host.counters.rq_total);
        HostCounters::inc(&host.counters.rq_active);
        Asking { plan, host }
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.plan.stats.upstream_rq_active().dec();
        HostCounters::dec(&self.host.counters.rq_active);
    }
}

/// What an answer says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// `+PONG`
    Pong,
    /// `:0`
    Zero,
    /// Another server has it: this one is well enough to know.
    Moved,
    /// `-CLUSTERDOWN`
    Down,
    /// Anything else.
    Other,
}

impl Redis {
    /// Reads the message; `scope` is the cluster's.
    pub fn new(c: &pb::Redis, scope: &Scope) -> Redis {
        let exists = !c.key.is_empty();
        let words: &[&str] = if exists { &["EXISTS", &c.key] } else { &["PING"] };
        let mut request = format!("*{}\r\n", words.len());
        words.iter().for_each(|w| request += &format!("${}\r\n{w}\r\n", w.len()));
        let stats = RedisStats::new(&scope.scope("health_check").scope("redis"));
        Redis { request: request.into(), exists, stats }
    }
    /// What an answer says of the host.
    pub fn outcome(&self, answer: Answer) -> Outcome {
        match answer {
            Answer::Moved => Ok(Passed { degraded: false }),
            Answer::Down => Err((Failure::Network, false)),
            answer if self.exists => {
                if answer != Answer::Zero {
                    self.stats.exists_failure().inc();
                }
                outcome(answer == Answer::Zero)
            }
            answer => outcome(answer == Answer::Pong),
        }
    }
}

/// Reads an answer (RESP 2); `None` while it is not complete.
///
/// # Errors
/// It is none.
pub fn judge(data: &[u8]) -> Result<Option<Answer>, Ended> {
    let Some((line, rest)) = line(data) else { return Ok(None) };
    let (&kind, text) = line.split_first().ok_or(Ended)?;
    Ok(match kind {
        b'+' => Some(if text == b"PONG" { Answer::Pong } else { Answer::Other }),
        b':' => Some(if number(text)? == 0 { Answer::Zero } else { Answer::Other }),
        b'-' => Some(error(text)),
        // Nothing that such a command answers; its end is waited for, so that the next answer begins behind it.
        b'$' => {
            // `-1` is none.
            let len = usize::try_from(number(text)?).map_or(0, |n| n.saturating_add(2));
            (rest.len() >= len).then_some(Answer::Other)
        }
        // An array, or words in a line: what comes after them ends the connection.
        _ => Some(Answer::Other),
    })
}

fn line(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = data.windows(2).position(|w| w == b"\r\n")?;
    Some((&data[..at], &data[at + 2..]))
}

fn number(text: &[u8]) -> Result<i64, Ended> {
    std::str::from_utf8(text).ok().and_then(|t| t.parse().ok()).ok_or(Ended)
}

fn error(text: &[u8]) -> Answer {
    let mut words = text.split(|b| *b == b' ').filter(|w| !w.is_empty());
    match (words.next(), words.count()) {
        (Some(b"MOVED" | b"ASK"), 2) => Answer::Moved,
        (Some(b"CLUSTERDOWN"), _) => Answer::Down,
        _ => Answer::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nuncio_core::stats::Store;

    fn redis(key: &str) -> Redis {
        Redis::new(&pb::Redis { key: key.into(), ..Default::default() }, &Store::new().scope("cluster.c"))
    }

    #[test]
    fn requests_are_arrays_of_strings() {
        assert_eq!(redis("").request, "*1\r\n$4\r\nPING\r\n");
        assert_eq!(redis("drain").request, "*2\r\n$6\r\nEXISTS\r\n$5\r\ndrain\r\n");
    }

    #[test]
    fn answers_are_read_when_they_are_whole() {
        for (data, found) in [
            ("+PONG\r\n", Ok(Some(Answer::Pong))),
            ("+PONG\r", Ok(None)),
            ("", Ok(None)),
            ("+OK\r\n", Ok(Some(Answer::Other))),
            (":0\r\n", Ok(Some(Answer::Zero))),
            (":1\r\n", Ok(Some(Answer::Other))),
            (":x\r\n", Err(Ended)),
            ("-LOADING it takes a while\r\n", Ok(Some(Answer::Other))),
            ("-MOVED 3999 127.0.0.1:6381\r\n", Ok(Some(Answer::Moved))),
            ("-MOVED somewhere\r\n", Ok(Some(Answer::Other))),
            ("-CLUSTERDOWN Hash slot not served\r\n", Ok(Some(Answer::Down))),
            ("$4\r\nPON", Ok(None)),
            ("$4\r\nPONG\r\n", Ok(Some(Answer::Other))),
            ("$-1\r\n", Ok(Some(Answer::Other))),
            ("*1\r\n", Ok(Some(Answer::Other))),
            ("HTTP/1.1 400\r\n", Ok(Some(Answer::Other))),
            ("\r\n", Err(Ended)),
        ] {
            assert_eq!(judge(data.as_bytes()), found, "{data:?}");
        }
    }

    #[test]
    fn a_key_that_exists_takes_the_host_out() {
        let (ping, exists) = (redis(""), redis("drain"));
        assert!(ping.outcome(Answer::Pong).is_ok() && exists.outcome(Answer::Zero).is_ok());
        assert!(ping.outcome(Answer::Zero).is_err() && exists.outcome(Answer::Pong).is_err());
        assert!(ping.outcome(Answer::Moved).is_ok() && exists.outcome(Answer::Moved).is_ok());
        assert!(matches!(exists.outcome(Answer::Down), Err((Failure::Network, false))));
        assert_eq!((exists.stats.exists_failure().value(), ping.stats.exists_failure().value()), (1, 0));
    }
}
