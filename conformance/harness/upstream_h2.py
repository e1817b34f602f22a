"""The scripted HTTP/2 upstream (prior knowledge)."""
import threading
import time

from hyperframe import frame as frames

from . import http2, net

IDLE = 60


def serve(upstream, sock, number):
    reader = net.Reader(sock)
    deadline = time.monotonic() + IDLE
    if reader.exactly(len(http2.PREFACE), deadline) != http2.PREFACE:
        upstream.saw({"connection": number, "preface": "wrong"})
        return
    connection = http2.Connection(reader)
    connection.settings(upstream.spec.get("settings"))
    streams = {}
    first = {"connection": number, "settings": None, "window": None}
    upstream.saw(first)
    while True:
        try:
            frame = connection.read(time.monotonic() + IDLE)
        except OSError:
            return
        if frame is None:
            return
        note(upstream, connection, number, first, streams, frame)


def note(upstream, connection, number, first, streams, frame):
    """Records a frame; a finished request starts its script."""
    stream = frame.stream_id
    if isinstance(frame, frames.SettingsFrame) and "ACK" not in frame.flags:
        first["settings"] = http2.setting_names(frame.settings)
    elif isinstance(frame, frames.WindowUpdateFrame) and stream == 0 and first["window"] is None:
        first["window"] = frame.window_increment
    elif hasattr(frame, "lines"):
        if stream in streams:
            streams[stream]["trailers"] = frame.lines
        else:
            streams[stream] = {"connection": number, "stream": stream, "headers": frame.lines, "body": b""}
    elif isinstance(frame, frames.DataFrame):
        streams[stream]["body"] += frame.data
    elif isinstance(frame, frames.RstStreamFrame):
        upstream.saw({"connection": number, "stream": stream, "reset": http2.error_name(frame.error_code)})
    elif isinstance(frame, frames.GoAwayFrame):
        upstream.saw({"connection": number, "goaway": http2.error_name(frame.error_code)})
    if "END_STREAM" in http2.head_of(frame).flags and stream in streams:
        record = streams.pop(stream)
        body = record["body"]
        upstream.saw({**record, "body": net.latin(body)})
        args = (upstream, connection, stream, record["headers"], len(body))
        threading.Thread(target=answer, args=args, daemon=True).start()


def answer(upstream, connection, stream, headers, size):
    pseudo = dict(http2.pairs(headers))
    path, method = pseudo.get(":path", ""), pseudo.get(":method", "")
    script = upstream.script(path)
    if script is None:
        body = f"{upstream.name} {method} {path} {size}"
        script = [{"respond": {"headers": [f"x-up: {upstream.name}"], "body": body}}]
    try:
        for action in script:
            play(connection, stream, {action: True} if isinstance(action, str) else action)
    except OSError:
        pass


def play(connection, stream, action):
    if "respond" in action:
        respond(connection, stream, action["respond"])
    elif "sleep" in action:
        time.sleep(action["sleep"])
    elif "headers" in action:
        connection.headers(stream, action["headers"], action.get("end", False))
    elif "data" in action:
        connection.data(stream, action["data"].encode("latin1"), action.get("end", False))
    elif "rst" in action:
        connection.write(frames.RstStreamFrame(stream, error_code=http2.ERRORS.index(action["rst"])))
    elif "goaway" in action:
        code = http2.ERRORS.index(action["goaway"])
        connection.write(frames.GoAwayFrame(0, last_stream_id=stream, error_code=code))
    elif "raw" in action:
        connection.write(bytes.fromhex(action["raw"]))
    elif "close" in action:
        net.close(connection.reader.sock)
    else:
        raise ValueError(f"upstream: unknown action {action}")


def respond(connection, stream, spec):
    trailers = spec.get("trailers")
    body = spec.get("body", "").encode("latin1")
    head = [f":status: {spec.get('status', 200)}", *spec.get("headers", [])]
    connection.headers(stream, head, end=not body and trailers is None)
    if body:
        connection.data(stream, body, end=trailers is None)
    if trailers is not None:
        connection.headers(stream, trailers, end=True)
