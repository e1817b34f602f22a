"""The command line of ``bench/run``."""
import argparse
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from . import checked, idle, load, many, process, proxies, report
from .scenarios import ALL, LOADS, OTHERS, SMOKE

ROOT = Path(__file__).resolve().parent.parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")


def arguments():
    texts = {**{name: load.text for name, load in LOADS.items()}, **OTHERS}
    parser = argparse.ArgumentParser(
        prog="bench/run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="scenarios:\n" + "\n".join(f"  {name:18} {text}" for name, text in texts.items()),
    )
    parser.add_argument("scenarios", nargs="?", default=",".join(ALL), help="comma-separated; all by default")
    parser.add_argument("--proxies", default="nuncio,envoy,nginx,haproxy", help="comma-separated, in the order of the first round")
    parser.add_argument("--bin", help="the nuncio binary (default: the release build)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--secs", type=int, default=2, help="seconds of load per round")
    parser.add_argument("--conns", type=int, default=5000, help="connections of idle-conns")
    parser.add_argument("--json", metavar="FILE", help="write all measurements")
    parser.add_argument("--smoke", action="store_true", help="two scenarios, one second each: asserts only that all answer")
    return parser.parse_args()


def build(manifest, target):
    """Builds a package in release mode."""
    environment = {**os.environ, "CARGO_TARGET_DIR": str(target)}
    subprocess.run(["cargo", "build", "--release", "--quiet", "--manifest-path", str(manifest)], check=True, env=environment)


def nuncio_binary(wanted):
    if wanted:
        return str(Path(wanted).resolve())
    path = TARGET / "release" / "nuncio"
    if not path.exists():
        build(ROOT / "Cargo.toml", TARGET)
    return str(path.resolve())


def own_programs():
    """The folder of the origin and of `pace`."""
    target = TARGET / "bench"
    build(ROOT / "bench" / "origin" / "Cargo.toml", target)
    return target / "release"


def certificates():
    """A self-signed P-256 certificate, made once."""
    folder = TARGET / "bench" / "certs"
    if not (folder / "both.pem").exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3650",
             "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
             "-keyout", "key.pem", "-out", "cert.pem"],
            cwd=folder, check=True, capture_output=True,
        )
        (folder / "both.pem").write_text((folder / "cert.pem").read_text() + (folder / "key.pem").read_text())
    return folder.resolve()


class Bench:
    """One run over the chosen scenarios."""

    def __init__(self, options, peers, folder):
        self.options, self.peers, self.folder = options, peers, folder
        self.certs, self.problems, self.results = certificates(), [], {}
        self.many = None
        self.port = process.free_ports(1)[0]
        own = own_programs()
        load.PACE = own / "pace"
        self.origin = process.start(process.LOAD_CPU, [own / "bench-origin", self.port], folder / "origin.log")
        process.wait_port(self.port, self.origin)

    def scenario(self, name):
        """Runs one scenario, prints its table."""
        folder = self.folder / name
        folder.mkdir()
        options = self.options
        if name in LOADS:
            where = (self.port, self.certs, folder)
            results, problems = load.run(LOADS[name], self.beside(LOADS[name]), *where, options.rounds, options.secs)
            self.problems += [f"{name}: {problem}" for problem in problems]
            self.problems += [] if options.smoke else wrong_answers(name, results)
            report.show(name, LOADS[name].text, "load", results)
        else:
            results = {peer: [row] for peer, row in self.other(name, folder).items()}
            report.show(name, OTHERS[name], name, results)
        self.results[name] = results

    def beside(self, scenario):
        """Who takes turns: all proxies, or those that can be compared with themselves."""
        if not scenario.beside:
            return self.peers
        return [one for peer in self.peers if peer.envoy_like for one in (peer.plain(scenario.beside), peer)]

    def other(self, name, folder):
        if name == "idle-rss":
            return idle.after_start(self.peers, self.port, self.certs, folder)
        if name == "idle-conns":
            found = idle.connections(self.peers, self.port, self.certs, folder, self.options.conns)
            failed = {peer: row["errors"] for peer, row in found.items() if row["errors"]}
            self.problems += [f"{name}: {peer} failed {count} requests" for peer, count in failed.items()]
            return found
        if name == "checked-10k":
            return self.checked(folder)
        if self.many is None:
            self.many = {}
            for peer in self.peers:
                if peer.envoy_like:
                    self.measure_many(peer, folder / peer.name)
        return self.many

    def checked(self, folder):
        found = {}
        for peer in self.peers:
            if peer.envoy_like:
                try:
                    found[peer.name] = checked.measure(peer, self.port, folder / peer.name)
                except (RuntimeError, OSError) as error:
                    self.problems.append(f"checked-10k: {error}")
        failed = {peer: row["errors"] for peer, row in found.items() if row["errors"]}
        self.problems += [f"checked-10k: {peer}: {count} of 30 hosts are not healthy" for peer, count in failed.items()]
        return found

    def measure_many(self, peer, folder):
        try:
            self.many[peer.name] = many.measure(peer, self.port, folder)
        except (RuntimeError, OSError) as error:
            self.problems.append(f"10,000 clusters: {error}")

    def close(self):
        for peer in self.peers:
            peer.stop()
        process.stop(self.origin)


def wrong_answers(scenario, results):
    """Proxies of which some answers were wrong or missing: their figures mean nothing. A smoke run has no figures."""
    for peer, rows in results.items():
        errors, count = (sum(row[key] for row in rows) for key in ("errors", "requests"))
        if errors:
            yield f"{scenario}: {peer}: {errors} of {count} answers were wrong or missing"


def raise_file_limit():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main():
    options = arguments()
    if options.smoke:
        options.scenarios, options.rounds, options.secs = ",".join(SMOKE), 1, 1
    chosen = options.scenarios.split(",")
    unknown = [name for name in chosen if name not in ALL]
    if unknown:
        sys.exit(f"unknown scenario {unknown[0]}; there are {', '.join(ALL)}")
    names = options.proxies.split(",")
    peers, missing = proxies.find(names, nuncio_binary(options.bin) if "nuncio" in names else None)
    missing += [proxies.PACKAGES[tool] for tool in ("wrk", "h2load") if not shutil.which(tool)]
    if missing:
        sys.exit(f"missing, as Debian packages: {' '.join(missing)} (or leave a proxy out with --proxies)")
    if process.PROXY_CPU == process.LOAD_CPU:
        print("only one CPU: proxy and load share it, the figures are not comparable", file=sys.stderr)
    raise_file_limit()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no proxy stays behind
    folder = Path(tempfile.mkdtemp(prefix="nuncio-bench-"))
    bench = Bench(options, peers, folder)
    try:
        for name in chosen:
            bench.scenario(name)
    finally:
        bench.close()
        shutil.rmtree(folder, ignore_errors=True)
    if options.json:
        Path(options.json).write_text(json.dumps({"load_average": os.getloadavg(), "results": bench.results}, indent=1))
    for problem in bench.problems:
        print("problem: " + problem, file=sys.stderr)
    return 1 if bench.problems else 0
