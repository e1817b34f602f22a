"""Starting a proxy on a configuration, waiting for it, ending it."""
import http.client
import os
import signal
import subprocess
import time

from .ports import HOST

READY_SECONDS = 20
DEFAULTS = {"--concurrency": "1", "--file-flush-interval-msec": "20", "-l": "warning"}


class Proxy:
    """One running process. `admin` is the port of its admin listener, None when the case has none."""

    def __init__(self, binary, config, folder, args, admin, wait_ready=True):
        self.binary, self.admin = binary, admin
        self.log_path = folder / "proxy.log"
        self.log = open(self.log_path, "wb")
        command = [binary, "-c", str(config), "--disable-hot-restart", *args]
        for flag, value in DEFAULTS.items():
            if flag not in args:  # a flag given twice is an error
                command += [flag, value]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, cwd=folder, env=clean_env(),
        )
        self.ready = self.wait_ready() if wait_ready else True

    def wait_ready(self):
        """Asks on one connection, so that how often it was asked does not show in the numbers of connections."""
        deadline = time.monotonic() + READY_SECONDS
        connection = http.client.HTTPConnection(HOST, self.admin, timeout=2)
        try:
            while time.monotonic() < deadline and self.process.poll() is None:
                try:
                    connection.request("GET", "/ready")
                    answer = connection.getresponse()
                    answer.read()
                    if answer.status == 200:
                        return True
                except (OSError, http.client.HTTPException):
                    connection.close()
                time.sleep(0.02)
            return False
        finally:
            connection.close()

    def signal(self, name):
        self.process.send_signal(getattr(signal, f"SIG{name}"))

    def wait(self, seconds):
        """The exit code, or None when it still runs."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def stop(self):
        """Ends the process by SIGTERM; the exit code, or ``killed`` when it did not obey."""
        code = self.process.poll()
        if code is None:
            self.process.terminate()
            code = self.wait(5)
            if code is None:
                self.process.kill()
                self.process.wait()
                code = "killed"
        self.log.close()
        return code

    def output(self):
        return self.log_path.read_text(errors="replace")


def clean_env(extra=None):
    """The environment a proxy gets: nothing of ours that it could pick up."""
    keep = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "TMPDIR") if key in os.environ}
    return {**keep, "TZ": "UTC", **(extra or {})}


def run_to_end(binary, args, folder, env=None, seconds=20):
    """Runs a command that is expected to end by itself: (code, stdout, stderr)."""
    try:
        done = subprocess.run(
            [binary, *args], cwd=folder, env=clean_env(env), stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds,
        )
    except subprocess.TimeoutExpired as late:
        return "still running", (late.stdout or b"").decode(errors="replace"), (late.stderr or b"").decode(errors="replace")
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
