"""Tables of medians, with the ratio of every proxy to every peer."""
import statistics

COLUMNS = {
    "cpu_us": "CPU µs/rq", "user_us": "user", "sys_us": "sys", "rps": "rq/s", "p50_us": "p50 µs", "p99_us": "p99 µs",
    "busy": "busy", "mb_per_cpu_s": "MB/CPU-s", "rss_mb": "RSS MB", "connected_kb": "KB/conn", "after_request_kb": "KB/conn used",
    "config_mb": "config MB", "load_cpu_s": "CPU s", "first_answer_s": "first answer s", "peak_mb": "peak MB",
    "usedonly_ms": "usedonly CPU ms", "stats_s": "/stats s", "stats_mb": "/stats MB", "stats_cpu_s": "/stats CPU s", "ready_max_ms": "/ready max ms",
    "main_percent": "main %CPU", "all_percent": "all %CPU", "checks_per_host": "checks/host", "change_us": "µs/change (main)",
}
SHOWN = {
    "load": ["cpu_us", "user_us", "sys_us", "rps", "p50_us", "p99_us", "busy", "mb_per_cpu_s", "rss_mb"],
    "idle-rss": ["rss_mb"],
    "idle-conns": ["after_request_kb", "connected_kb", "rss_mb"],
    "load-10k": ["load_cpu_s", "peak_mb", "first_answer_s", "config_mb"],
    "rss-10k-clusters": ["rss_mb"],
    "checked-10k": ["main_percent", "all_percent", "rss_mb", "peak_mb", "load_cpu_s", "checks_per_host", "change_us"],
    "stats-10k": ["usedonly_ms", "stats_cpu_s", "stats_s", "stats_mb", "ready_max_ms"],
}


def number(value):
    return f"{value:.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def medians(rows, keys):
    return {key: statistics.median(row[key] for row in rows) for key in keys}


def table(kind, results):
    """Lines of a table; the first column of a kind is the one whose ratios are printed."""
    keys = SHOWN[kind]
    lead = keys[0]
    found = {name: medians(rows, keys) for name, rows in results.items() if rows}
    head = ["", *(COLUMNS[key] for key in keys), *(f"of {name}" for name in found)]
    lines = [head]
    for name, row in found.items():
        cells = [number(row[key]) for key in keys]
        spread = [one[lead] for one in results[name]]
        if len(spread) > 1:
            cells[0] += f" ({number(min(spread))}–{number(max(spread))})"
        ratios = [f"{row[lead] / peer[lead]:.2f}" if peer[lead] else "-" for peer in found.values()]
        lines.append([name, *cells, *ratios])
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return [" ".join([line[0].ljust(widths[0]), *(f" {c.rjust(w)}" for c, w in zip(line[1:], widths[1:]))]) for line in lines]


def show(name, text, kind, results):
    print(f"\n{name}: {text}")
    for line in table(kind, results):
        print("  " + line, flush=True)
