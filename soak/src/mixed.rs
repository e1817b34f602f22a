//! Mixed traffic in rounds of a minute. After each round everybody leaves, and then nothing may be left.

use crate::Result;
use crate::clients::{Tally, Target, grpc, h1, h2, rude, tls, websocket};
use crate::origin;
use crate::proxy::{Proxy, free_port};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How long everybody may take to leave.
const LEAVING: Duration = Duration::from_secs(20);

/// A listener for cleartext, one for TLS; the origin over HTTP/1 below `/h1`, over HTTP/2 below `/h2`.
fn config(ports: [u16; 2], origin: SocketAddr, own: &tls::Identity) -> String {
    let cluster = |name: &str, protocol: &str| {
        format!(
            "  - name: {name}
    connect_timeout: 2s
    load_assignment: {{cluster_name: {name}, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {}}}}}}}}}]}}]}}
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        common_http_protocol_options: {{idle_timeout: 1s}}
        explicit_http_config: {{{protocol}}}
", origin.port())
    };
    let route = |name: &str| {
        format!(
            "                  - match: {{path: /{name}/stall}}
                    route: {{cluster: {name}, prefix_rewrite: /stall, timeout: 0.3s}}
                  - match: {{prefix: /{name}/}}
                    route: {{cluster: {name}, prefix_rewrite: /, timeout: 0s}}
"
        )
    };
    let listener = |name: &str, port: u16, socket: &str| {
        format!(
            "  - name: {name}
    address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
      - {socket}filters:
          - name: http
            typed_config:
              \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
              stat_prefix: soak
              stream_idle_timeout: 3s
              upgrade_configs: [{{upgrade_type: websocket}}]
              access_log:
                - name: file
                  typed_config:
                    \"@type\": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
                    path: ${{dir}}/access
                    log_format: {{text_format_source: {{inline_string: \"%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %PROTOCOL% %UPSTREAM_CLUSTER%\\n\"}}}}
              route_config:
                virtual_hosts:
                - name: all
                  domains: ['*']
                  routes:
{}{}              http_filters:
                - name: router
                  typed_config: {{\"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
", route("h1"), route("h2"))
    };
    let quoted = |pem: &str| pem.replace('\n', "\\n");
    let secure = format!(
        "transport_socket:
          name: tls
          typed_config:
            \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
            common_tls_context:
              alpn_protocols: [h2, http/1.1]
              tls_certificates: [{{certificate_chain: {{inline_string: \"{}\"}}, private_key: {{inline_string: \"{}\"}}}}]
        ",
        quoted(&own.certificate),
        quoted(&own.key),
    );
    format!(
        "admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: ${{admin}}}}}}}}
static_resources:
  listeners:
{}{}  clusters:
{}{}",
        listener("plain", ports[0], ""),
        listener("tls", ports[1], &secure),
        cluster("h1", "http_protocol_options: {}"),
        // The origin's library sends empty frames now and then.
        cluster("h2", "http2_protocol_options: {max_consecutive_inbound_frames_with_empty_payload: 1000}"),
    )
}

fn everybody(t: &Arc<Tally>, plain: &Target, secure: &Target, round: u64) -> JoinSet<()> {
    let mut all = JoinSet::new();
    let mut seed = round * 1000;
    for target in [plain, secure] {
        let mut each = |n: usize| {
            (0..n)
                .map(|_| {
                    seed += 1;
                    (t.clone(), target.clone(), seed)
                })
                .collect::<Vec<_>>()
        };
        each(12).into_iter().for_each(|(t, to, s)| drop(all.spawn(h1::run(t, to, s))));
        each(4).into_iter().for_each(|(t, to, s)| drop(all.spawn(h2::run(t, to, s))));
        each(4).into_iter().for_each(|(t, to, s)| drop(all.spawn(websocket::run(t, to, s))));
        each(4).into_iter().for_each(|(t, to, s)| drop(all.spawn(grpc::run(t, to, s))));
        each(8).into_iter().for_each(|(t, to, s)| drop(all.spawn(rude::run(t, to, s))));
    }
    all
}

/// What is left when nobody is there.
struct Rest {
    descriptors: usize,
    resident: f64,
}

async fn rest(p: &mut Proxy) -> Result<Rest> {
    p.wait("http.soak.downstream_cx_active", 0, LEAVING).await?;
    for cluster in ["h1", "h2"] {
        p.wait(&format!("cluster.{cluster}.upstream_cx_active"), 0, LEAVING).await?;
    }
    p.well()?;
    Ok(Rest { descriptors: p.descriptors()?, resident: p.resident()? })
}

/// The counters of requests, which must add up: each was answered or cut, and each has its line in the log.
async fn books(p: &Proxy) -> Result<String> {
    let stats = p.stats().await?;
    let of = |name: &str| stats.get(&format!("http.soak.downstream_{name}")).copied().unwrap_or(0);
    let answered: u64 = ["1xx", "2xx", "3xx", "4xx", "5xx"].iter().map(|c| of(&format!("rq_{c}"))).sum();
    let (total, resets) = (of("rq_total"), of("rq_rx_reset"));
    // A line is written within a second.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let log = p.file("access")?;
    let lines = log.lines().count() as u64;
    // What happened, the rare at the end.
    let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
    log.lines().for_each(|l| *kinds.entry(l).or_default() += 1);
    let mut kinds: Vec<_> = kinds.into_iter().collect();
    kinds.sort_by_key(|k| std::cmp::Reverse(k.1));
    kinds.iter().for_each(|(kind, n)| println!("{n:>9} {kind}"));
    // A code of 0 was never answered.
    let unanswered = log.lines().filter(|l| l.starts_with("0 ")).count() as u64;
    let line = format!(
        "{total} requests = {answered} answered + {unanswered} cut; {resets} reset by clients, {lines} lines"
    );
    if of("rq_active") != 0 || of("cx_active") != 0 {
        return Err(format!("{line}; still active: {} requests", of("rq_active")).into());
    }
    if of("cx_total") != of("cx_destroy") || lines != total || answered + unanswered != total {
        return Err(format!("the counters do not add up: {line}").into());
    }
    Ok(line)
}

pub async fn run(bin: &str, minutes: u64) -> Result<()> {
    let host = origin::start().await?;
    let (own, trust) = tls::identity()?;
    let ports = [free_port()?, free_port()?];
    let mut p = Proxy::start(bin, &config(ports, host, &own)).await?;
    let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let plain = Target { addr: at(ports[0]), trust: None };
    let secure = Target { addr: at(ports[1]), trust: Some(trust) };
    let mut before: Option<Rest> = None;
    let mut worst = None;
    println!("{:>6} {:>9} {:>6} {:>5} {:>8}", "minute", "good", "wrong", "fds", "RSS MB");
    for minute in 1..=minutes {
        let t = Arc::new(Tally::default());
        let began = Instant::now();
        let mut all = everybody(&t, &plain, &secure, minute);
        tokio::time::sleep(Duration::from_secs(60).saturating_sub(began.elapsed())).await;
        t.stop();
        if tokio::time::timeout(LEAVING, async { while all.join_next().await.is_some() {} }).await.is_err() {
            return Err("some clients hang".into());
        }
        let now = rest(&mut p).await?;
        let (good, wrong) = (t.good.load(Relaxed), t.wrong.load(Relaxed) + origin::WRONG.load(Relaxed));
        println!("{minute:>6} {good:>9} {wrong:>6} {:>5} {:>8.1}", now.descriptors, now.resident);
        for (what, n) in t.odd_ones() {
            println!("       {n} x {what}");
            worst = Some(what);
        }
        if wrong > 0 {
            println!("{}", books(&p).await?);
            return Err("bodies were wrong".into());
        }
        if let Some(before) = &before
            && minute == minutes
        {
            if now.descriptors != before.descriptors {
                return Err(
                    format!("descriptors: {} and then {}", before.descriptors, now.descriptors).into()
                );
            }
            if now.resident > before.resident * 1.05 {
                return Err(format!("memory: {:.1} MB and then {:.1}", before.resident, now.resident).into());
            }
        }
        before = Some(now);
    }
    println!("{}", books(&p).await?);
    match worst {
        Some(what) => Err(format!("unexpected: {what}").into()),
        None => Ok(()),
    }
}
