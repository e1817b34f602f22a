"""The HTTP/2 client: plays frames, records per stream and per connection what the proxy sent."""
import time

from hyperframe import frame as frames

from . import http2, net
from .client_h1 import connect


class Session:
    """One HTTP/2 connection to the proxy."""

    def __init__(self, env, options):
        sock, self.tls = connect(env, options)
        self.env, self.reader = env, net.Reader(sock)
        self.h2 = http2.Connection(self.reader)
        self.streams, self.next_stream = {}, 1
        self.acknowledged = False
        self.record = {"streams": self.streams}
        self.timeout = options.get("timeout", 5)
        if options.get("preface", True):
            self.h2.write(http2.PREFACE)
            self.h2.settings(options.get("settings"))
            # The exchange of SETTINGS first, so that what a peer does that ends the connection at once is not a race.
            self.pump(lambda: self.acknowledged and "window" in self.record, 1)

    def note(self, frame):
        """Files one received frame under its stream or under the connection."""
        stream = frame.stream_id
        seen = self.streams.setdefault(stream, {}) if stream else None
        if hasattr(frame, "lines"):
            status = next((line for line in frame.lines if line.startswith(":status")), None)
            if status is None:
                seen["trailers"] = frame.lines
            elif status.startswith(":status: 1"):
                seen.setdefault("informational", []).append(frame.lines)
            else:
                seen["headers"] = frame.lines
        elif isinstance(frame, frames.DataFrame):
            seen["body"] = seen.get("body", "") + frame.data.decode("latin1")
        elif isinstance(frame, frames.RstStreamFrame):
            seen["reset"] = http2.error_name(frame.error_code)
        elif isinstance(frame, frames.SettingsFrame) and "ACK" not in frame.flags:
            self.record["settings"] = http2.setting_names(frame.settings)
        elif isinstance(frame, frames.SettingsFrame):
            self.acknowledged = True
        elif isinstance(frame, frames.WindowUpdateFrame) and stream == 0:
            self.record.setdefault("window", frame.window_increment)
        elif isinstance(frame, frames.PingFrame) and "ACK" in frame.flags:
            self.record["pongs"] = self.record.get("pongs", 0) + 1
        elif isinstance(frame, frames.GoAwayFrame):
            self.record["goaway"] = {
                "code": http2.error_name(frame.error_code),
                "last_stream": frame.last_stream_id,
                "debug": net.latin(frame.additional_data),
            }
        if "END_STREAM" in http2.head_of(frame).flags and stream:
            seen["ended"] = True

    def pump(self, until, seconds):
        """Reads frames until `until()` holds, the peer ends, or the time is up."""
        deadline = time.monotonic() + seconds
        while not until():
            frame = self.h2.read(deadline)
            if frame is None:
                return
            self.note(frame)

    def finished(self, streams):
        return all(self.streams.get(n, {}).keys() & {"ended", "reset"} for n in streams)

    def play(self, op):
        """One op; `stream` defaults to the stream opened last."""
        stream = op.get("stream", self.next_stream - 2)
        if "get" in op or "request" in op:
            self.request(op)
        elif "headers" in op:
            self.h2.headers(stream, op["headers"], op.get("end", False), op.get("split"))
        elif "data" in op:
            self.h2.data(stream, op["data"].encode("latin1") * op.get("times", 1), op.get("end", False))
        elif "trailers" in op:
            self.h2.headers(stream, op["trailers"], end=True)
        elif "rst" in op:
            self.h2.write(frames.RstStreamFrame(stream, error_code=http2.ERRORS.index(op["rst"])))
        elif "ping" in op:
            self.h2.write(*[frames.PingFrame(0, opaque_data=b"pingpong")] * op["ping"])
        elif "raw" in op:
            self.h2.write(bytes.fromhex(op["raw"]) * op.get("times", 1))
        elif "sleep" in op:
            time.sleep(op["sleep"])
        elif "wait_up" in op:
            self.env.wait_up(op["wait_up"])
        elif "read" in op:
            self.pump(lambda: False, op["read"])
        elif "recv" in op:
            self.pump(lambda: self.finished(op["recv"]), self.timeout)
        else:
            raise ValueError(f"h2: unknown op {op}")

    def request(self, op):
        """Opens a stream; waits for its end unless the op says ``recv: false`` or leaves the request open."""
        stream, self.next_stream = self.next_stream, self.next_stream + 2
        if "get" in op:
            op = {**op, "request": {"path": op["get"], "headers": op.get("headers", [])}}
        req = op["request"]
        body, trailers = req.get("body", ""), req.get("trailers")
        left_open = req.get("open", False)
        head = req.get("pseudo") or [
            f":method: {req.get('method', 'GET')}",
            f":scheme: {req.get('scheme', 'http')}",
            f":authority: {req.get('host', 'a.example')}",
            f":path: {req.get('path', '/')}",
        ]
        bare = not body and trailers is None and not left_open
        with self.h2.together():
            self.h2.headers(stream, [*head, *req.get("headers", [])], end=bare, split=req.get("split"))
            if body:
                self.h2.data(stream, body.encode("latin1"), end=trailers is None and not left_open)
            if trailers is not None:
                self.h2.headers(stream, trailers, end=True)
        if op.get("recv", not left_open):
            self.pump(lambda: self.finished([stream]), self.timeout)


def run(env, ops, options):
    """Plays `ops` on one connection."""
    try:
        session = Session(env, options)
    except OSError as error:
        return {"connect": type(error).__name__}
    try:
        for op in ops:
            session.play(op)
        session.pump(lambda: False, 2 if "goaway" in session.record else options.get("linger", 0.15))
    except OSError:
        session.record["could_not_send"] = True
        session.pump(lambda: False, 0.3)
    session.record["end"] = session.reader.fate
    if session.tls:
        session.record["tls"] = session.tls
    session.reader.sock.close()
    return session.record
