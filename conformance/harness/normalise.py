"""Making records of different runs comparable: ports, folders, dates, ids and durations become names."""
import re

PATTERNS = [
    (r"goo\.gle/debug(only|str|proto)\s*", ""),
    (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "<uuid>"),
    (r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", "<date>"),
    (r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "<time>"),
    (r"\b1[6-9]\d{8}\b", "<seconds>"),
    (r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[.,]\d{3}", "<log time>"),
    (r"(127\.0\.0\.1|\[::1\]):(3[2-9]|[45]\d|6[0-5])\d{3}\b", r"\1:<ephemeral>"),
    (r"(?i)(x-envoy-upstream-service-time: )\d+", r"\1<ms>"),
    # Duration and the upstream's part of it, in the default format of the access log.
    (r'( HTTP/[\d.]+" \d+ \S+ \d+ \d+) \d+ ', r"\1 <ms> "),
    (r'( HTTP/[\d.]+" \d+ \S+ \d+ \d+ <ms>) \d+ "', r'\1 <ms> "'),
]

# Stats that depend on timing, on the size of a process or on how the harness polls, not on what the proxy did.
NOISY = re.compile(
    r"""_ms$|_bytes_total$|_bytes_buffered$|_time$|_duration$|memory_|uptime|\.version$|^server\.(version|state)
    |stats_recent_lookups|initialization|^http\.admin\.|^listener\.admin\.|total_connections|^main_thread\.|^workers\.
    |_flow_control_|watchdog|^filesystem\.|^runtime\.|^server\.compilation|days_until|seconds_until|^dns\.|^server\.concurrency
    |hot_restart|^envoy\.|^overload|warming_state|header_(count|list_size)|^server\.live$|clusters_inflated""",
    re.X,
)


def noisy_stat(name):
    return bool(NOISY.search(name))


def squeeze(text):
    """Undoes protobuf's deliberate randomisation of error texts: its tokens and doubled blanks."""
    text = re.sub(PATTERNS[0][0], "", text)
    return re.sub(r"[ \t]+", " ", text)


class Names:
    """Replaces what belongs to one run by what it stands for."""

    def __init__(self, env):
        self.ports = {str(port): f"<{name}>" for name, port in env.ports.names.items()}
        alternatives = "|".join(self.ports) or "none"
        self.port_pattern = re.compile(rf"(?<!\d)({alternatives})(?!\d)")
        self.places = [(str(env.folder), "<dir>"), (str(env.certs), "<certs>"), (env.binary, "<bin>")]
        self.binary_name = env.binary.rsplit("/", 1)[-1]

    def text(self, value):
        for place, name in self.places:
            value = value.replace(place, name)
        value = self.port_pattern.sub(lambda match: self.ports[match[1]], value)
        for pattern, name in PATTERNS:
            value = re.sub(pattern, name, value)
        return value

    def walk(self, value):
        if isinstance(value, dict):
            return {self.text(str(key)): self.walk(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.walk(item) for item in value]
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return self.ports.get(str(value), value)
        return value


def record(value, env):
    """`value` with this run's own ports, paths, dates and ids replaced."""
    return Names(env).walk(value)
