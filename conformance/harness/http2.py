"""HTTP/2 by frames (RFC 9113): one connection's worth of reading and writing, used by client and upstream alike."""
import contextlib
import threading

import hpack
from hyperframe import frame as frames
from hyperframe.exceptions import HyperframeError

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = {
    1: "HEADER_TABLE_SIZE", 2: "ENABLE_PUSH", 3: "MAX_CONCURRENT_STREAMS", 4: "INITIAL_WINDOW_SIZE",
    5: "MAX_FRAME_SIZE", 6: "MAX_HEADER_LIST_SIZE", 8: "ENABLE_CONNECT_PROTOCOL",
}
ERRORS = [
    "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
    "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
]


def error_name(code):
    return ERRORS[code] if code < len(ERRORS) else code


def setting_names(settings):
    return {SETTINGS.get(key, key): value for key, value in settings.items()}


def setting_ids(settings):
    by_name = {name: key for key, name in SETTINGS.items()}
    return {by_name.get(key, key): value for key, value in settings.items()}


def pairs(lines):
    """``name: value`` lines (pseudo headers begin with a colon) as (name, value) pairs."""
    out = []
    for line in lines:
        name, _, value = line[1:].partition(":")
        out.append((line[0] + name, value.strip()))
    return out


def lines(headers):
    return [f"{name}: {value}" for name, value in headers]


class Connection:
    """Frames over a `net.Reader`; acknowledges SETTINGS and PING and keeps all windows open by itself."""

    def __init__(self, reader):
        self.reader = reader
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.decoder.max_header_list_size = 1 << 24
        self.pending = None
        self.mutex = threading.Lock()
        self.held = None

    def write(self, *parts):
        data = b"".join(part if isinstance(part, bytes) else part.serialize() for part in parts)
        with self.mutex:
            if self.held is not None:
                self.held += data
            else:
                self.reader.sock.sendall(data)

    @contextlib.contextmanager
    def together(self):
        """What is written inside leaves in one piece, so that the peer cannot answer the first half of it."""
        self.held = b""
        try:
            yield
        finally:
            data, self.held = self.held, None
            self.write(data)

    def settings(self, values=None):
        self.write(frames.SettingsFrame(0, settings=setting_ids(values or {})))

    def headers(self, stream, header_lines, end=False, split=None):
        """A HEADERS frame; with `split`, cut into CONTINUATION frames of that many bytes."""
        block = self.encoder.encode([hpack.NeverIndexedHeaderTuple(*pair) for pair in pairs(header_lines)])
        cuts = [block] if not split else [block[at:at + split] for at in range(0, len(block), split)]
        flags = ["END_STREAM"] if end else []
        out = [frames.HeadersFrame(stream, data=cuts[0], flags=flags)]
        out += [frames.ContinuationFrame(stream, data=cut) for cut in cuts[1:]]
        out[-1].flags.add("END_HEADERS")
        self.write(*out)

    def data(self, stream, payload, end=False):
        size = 16384
        cuts = [payload[at:at + size] for at in range(0, len(payload), size)] or [b""]
        out = [frames.DataFrame(stream, data=cut) for cut in cuts]
        if end:
            out[-1].flags.add("END_STREAM")
        self.write(*out)

    def read(self, deadline):
        """The next frame, or None. HEADERS carry their decoded lines in `lines`."""
        while True:
            head = self._peek(9, deadline)
            if head is None:
                return None
            frame, length = frames.Frame.parse_frame_header(memoryview(head), strict=False)
            if self._peek(9 + length, deadline) is None:
                return None
            body = self.reader.exactly(9 + length, deadline)[9:]
            try:
                frame.parse_body(memoryview(body))
            except HyperframeError:
                continue
            if self._complete(frame):
                self._react(frame)
                return frame

    def _peek(self, size, deadline):
        while len(self.reader.buffer) < size:
            if not self.reader.fill(deadline):
                return None
        return self.reader.buffer[:size]

    def _complete(self, frame):
        """Joins CONTINUATION frames; True when `frame` may be handed on."""
        if isinstance(frame, frames.ContinuationFrame) and self.pending is not None:
            self.pending.data += frame.data
            frame_done, first = "END_HEADERS" in frame.flags, self.pending
        elif isinstance(frame, frames.HeadersFrame):
            frame_done, first = "END_HEADERS" in frame.flags, frame
        else:
            return True
        if not frame_done:
            self.pending = first
            return False
        self.pending = None
        first.lines = lines(self.decoder.decode(first.data))
        if first is not frame:
            frame.lines, frame.first = first.lines, first
        return True

    def _react(self, frame):
        if isinstance(frame, frames.SettingsFrame) and "ACK" not in frame.flags:
            self.write(frames.SettingsFrame(0, flags=["ACK"]))
        elif isinstance(frame, frames.PingFrame) and "ACK" not in frame.flags:
            self.write(frames.PingFrame(0, opaque_data=frame.opaque_data, flags=["ACK"]))
        elif isinstance(frame, frames.DataFrame) and frame.flow_controlled_length:
            size = frame.flow_controlled_length
            self.write(
                frames.WindowUpdateFrame(0, window_increment=size),
                frames.WindowUpdateFrame(frame.stream_id, window_increment=size),
            )


def head_of(frame):
    """The HEADERS frame behind a frame that completes a header block."""
    return getattr(frame, "first", frame)
