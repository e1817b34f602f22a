//! The commands of the admin interface: path, help, parameters, handler. One row each; `/help`, `/` and the 404 text
//! are made from this table.

use super::{AdminCx, Request, Response};
use super::{
    certs, clusters, config_dump, drain, health, help, info, init_dump, listeners, logging, memory, profiler,
    runtime, stats,
};

/// A parameter of a command.
pub struct Param {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub help: &'static str,
    /// The values it may have; empty when any text may be given.
    pub one_of: &'static [&'static str],
}

/// A command.
pub struct Command {
    /// The path, which must be met exactly.
    pub path: &'static str,
    /// What it does.
    pub help: &'static str,
    /// It changes something: only POST is taken.
    pub mutates: bool,
    /// Its parameters.
    pub params: &'static [Param],
    /// What runs it.
    pub handler: fn(&AdminCx<'_>, &Request<'_>) -> Response,
}

type Handler = fn(&AdminCx<'_>, &Request<'_>) -> Response;

const fn get(path: &'static str, help: &'static str, params: &'static [Param], handler: Handler) -> Command {
    Command { path, help, mutates: false, params, handler }
}
const fn post(path: &'static str, help: &'static str, params: &'static [Param], handler: Handler) -> Command {
    Command { path, help, mutates: true, params, handler }
}
const fn param(name: &'static str, help: &'static str) -> Param {
    Param { name, help, one_of: &[] }
}
const fn choice(name: &'static str, help: &'static str, one_of: &'static [&'static str]) -> Param {
    Param { name, help, one_of }
}

const YES_NO: &[&str] = &["y", "n"];

/// All commands, by path.
pub const COMMANDS: &[Command] = &[
    get("/", "Admin home page", &[], help::home),
    post(
        "/allocprofiler",
        "enable/disable the allocation profiler (if supported)",
        &[choice("enable", "enable/disable the allocation profiler", YES_NO)],
        profiler::unsupported,
    ),
    get("/certs", "print certs on machine", &[], certs::certs),
    get(
        "/clusters",
        "upstream cluster status",
        &[param("filter", "Regular expression (Google re2) for filtering clusters by name")],
        clusters::clusters,
    ),
    get(
        "/config_dump",
        "dump current Envoy configs",
        &[
            param("resource", "The resource to dump"),
            param(
                "mask",
                "The mask to apply. When both resource and mask are specified, the mask is applied to every element \
                 in the desired repeated field so that only a subset of fields are returned. The mask is parsed as a \
                 Protobuf::FieldMask",
            ),
            param(
                "name_regex",
                "Dump only the currently loaded configurations whose names match the specified regex. Can be used \
                 with both resource and mask query parameters.",
            ),
            param(
                "include_eds",
                "Dump currently loaded configuration including EDS. See the response definition for more information",
            ),
        ],
        config_dump::config_dump,
    ),
    get("/contention", "dump current Envoy mutex contention stats (if enabled)", &[], info::contention),
    post(
        "/cpuprofiler",
        "enable/disable the CPU profiler",
        &[choice("enable", "enables the CPU profiler", YES_NO)],
        profiler::cpu,
    ),
    post(
        "/drain_listeners",
        "drain listeners",
        &[
            param(
                "graceful",
                "When draining listeners, enter a graceful drain period prior to closing listeners. This behaviour \
                 and duration is configurable via server options or CLI",
            ),
            param(
                "skip_exit",
                "When draining listeners, drain the connections but never stop the listeners. The graceful parameter \
                 has no effect when this is set, since the drain period only delays stopping the listeners",
            ),
            param(
                "inboundonly",
                "Drains all inbound listeners. traffic_direction field in envoy_v3_api_msg_config.listener.v3.Listener \
                 is used to determine whether a listener is inbound or outbound.",
            ),
        ],
        drain::drain_listeners,
    ),
    post("/healthcheck/fail", "cause the server to fail health checks", &[], health::fail),
    post("/healthcheck/ok", "cause the server to pass health checks", &[], health::pass),
    get("/heap_dump", "dump current Envoy heap (if supported)", &[], profiler::unsupported),
    post(
        "/heapprofiler",
        "enable/disable the heap profiler",
        &[choice("enable", "enable/disable the heap profiler", YES_NO)],
        profiler::unsupported,
    ),
    get("/help", "print out list of admin commands", &[], help::help),
    get(
        "/hot_restart_version",
        "print the hot restart compatibility version",
        &[],
        info::hot_restart_version,
    ),
    get(
        "/init_dump",
        "dump current Envoy init manager information (experimental)",
        &[param(
            "mask",
            "The desired component to dump unready targets. The mask is parsed as a Protobuf::FieldMask. For example, \
             get the unready targets of all listeners with /init_dump?mask=listener`",
        )],
        init_dump::init_dump,
    ),
    get(
        "/listeners",
        "print listener info",
        &[choice("format", "File format to use", &["text", "json"])],
        listeners::listeners,
    ),
    post(
        "/logging",
        "query/change logging levels",
        &[
            param(
                "paths",
                "Change multiple logging levels by setting to \
                 <logger_name1>:<desired_level1>,<logger_name2>:<desired_level2>. If fine grain logging is enabled, \
                 use __FILE__ or a glob experision as the logger name. For example, source/common*:warning",
            ),
            param(
                "group",
                "Change given logger group to desired level, set to <logger_group_name>:<desired_level>. \
                 logger_group_name must be a logger name.",
            ),
            choice(
                "level",
                "desired logging level, this will change all loggers's level",
                &["", "trace", "debug", "info", "warning", "error", "critical", "off"],
            ),
        ],
        logging::logging,
    ),
    get("/memory", "print current allocation/heap usage", &[], memory::memory),
    get("/memory/tcmalloc", "print TCMalloc stats", &[], memory::tcmalloc),
    get("/peak_heap_dump", "dump peak Envoy heap (if supported)", &[], profiler::unsupported),
    post("/quitquitquit", "exit the server", &[], drain::quit),
    get("/ready", "print server state, return 200 if LIVE, otherwise return 503", &[], info::ready),
    post("/reopen_logs", "reopen access logs", &[], logging::reopen_logs),
    post("/reset_counters", "reset all counters to zero", &[], stats::reset_counters),
    get("/runtime", "print runtime values", &[], runtime::runtime),
    post(
        "/runtime_modify",
        "Adds or modifies runtime values as passed in query parameters. To delete a previously added key, use an \
         empty string as the value. Note that deletion only applies to overrides added via this endpoint; values \
         loaded from disk can be modified via override but not deleted. E.g. ?key1=value1&key2=value2...",
        &[],
        runtime::runtime_modify,
    ),
    get("/server_info", "print server version/status information", &[], info::server_info),
    get(
        "/stats",
        "print server stats",
        &[
            param("usedonly", "Only include stats that have been written by system since restart"),
            param("filter", "Regular expression (Google re2) for filtering stats"),
            param("invert_filter", "Invert the filter regex"),
            choice("format", "Format to use", &["html", "active-html", "text", "json"]),
            choice(
                "type",
                "Stat types to include.",
                &["All", "Counters", "Histograms", "Gauges", "TextReadouts"],
            ),
            choice(
                "histogram_buckets",
                "Histogram bucket display mode",
                &["cumulative", "disjoint", "detailed", "summary"],
            ),
        ],
        stats::stats,
    ),
    get(
        "/stats/prometheus",
        "print server stats in prometheus format",
        &[
            param("usedonly", "Only include stats that have been written by system since restart"),
            param(
                "text_readouts",
                "Render text_readouts as new gaugues with value 0 (increases Prometheus data size)",
            ),
            param("filter", "Regular expression (Google re2) for filtering stats"),
            param("invert_filter", "Invert the filter regex"),
            choice("histogram_buckets", "Histogram bucket display mode", &["cumulative", "summary"]),
        ],
        stats::prometheus,
    ),
    get("/stats/recentlookups", "Show recent stat-name lookups", &[], stats::recent_lookups),
    post("/stats/recentlookups/clear", "clear list of stat-name lookups and counter", &[], stats::lookups_ok),
    post(
        "/stats/recentlookups/disable",
        "disable recording of reset stat-name lookup names",
        &[],
        stats::lookups_ok,
    ),
    post(
        "/stats/recentlookups/enable",
        "enable recording of reset stat-name lookup names",
        &[],
        stats::lookups_ok,
    ),
];
