"""Reading HTTP/1 messages exactly as they are on the wire: header order and case, framing, trailers."""
import time


def read_head(reader, deadline):
    """Start line and header lines of a message, or None when there is none."""
    while reader.buffer.startswith(b"\r\n"):
        reader.buffer = reader.buffer[2:]
    head = reader.until(b"\r\n\r\n", deadline)
    if head is None:
        return None
    first, *lines = head.decode("latin1").split("\r\n")
    return first, lines


def header(lines, name):
    """Value of the first header called `name`, lower-cased, or ''."""
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip().lower() == name:
            return value.strip().lower()
    return ""


def read_chunked(reader, deadline):
    """A chunked body: (body, trailer lines, whole)."""
    body = b""
    while True:
        size = reader.until(b"\r\n", deadline)
        if size is None:
            return body, [], False
        length = int(size.split(b";")[0], 16)
        if length == 0:
            break
        body += reader.exactly(length, deadline)
        if reader.exactly(2, deadline) != b"\r\n":
            return body, [], False
    trailers = []
    while True:
        line = reader.until(b"\r\n", deadline)
        if line is None:
            return body, trailers, False
        if not line:
            return body, trailers, True
        trailers.append(line.decode("latin1"))


def read_body(reader, lines, deadline, until_close):
    """The body that the header lines announce: (framing, body, trailers, whole)."""
    if header(lines, "transfer-encoding").endswith("chunked"):
        body, trailers, whole = read_chunked(reader, deadline)
        return "chunked", body, trailers, whole
    length = header(lines, "content-length")
    if length.isdigit():
        body = reader.exactly(int(length), deadline)
        return "content-length", body, [], len(body) == int(length)
    if not until_close:
        return "none", b"", [], True
    while reader.fill(deadline):
        pass
    body, reader.buffer = reader.buffer, b""
    return "until close", body, [], reader.fate == "fin"


def bodiless(method, status):
    """Whether a response has no body whatever its headers say (RFC 9112, section 6.3)."""
    return method == "HEAD" or status[:1] == "1" or status in ("204", "304") or (
        method == "CONNECT" and status[:1] == "2"
    )


def read_response(reader, method, seconds):
    """One response as a record; 1xx before it are listed under `informational`."""
    deadline = time.monotonic() + seconds
    informational = []
    while True:
        head = read_head(reader, deadline)
        if head is None:
            partial, reader.buffer = reader.buffer, b""
            record = {"status": None}
            if partial:
                record["partial"] = partial.decode("latin1")
            return record
        first, lines = head
        status = (first.split(" ") + [""])[1]
        if status[:1] != "1" or status == "101":
            break
        informational.append([first, *lines])
    record = {"status": first, "headers": lines}
    if informational:
        record["informational"] = informational
    if bodiless(method, status) or status == "101":
        return record
    try:
        framing, body, trailers, whole = read_body(reader, lines, deadline, until_close=True)
    except ValueError as error:
        return {**record, "bad_framing": str(error)}
    record.update(framing=framing, body=body.decode("latin1"))
    if trailers:
        record["trailers"] = trailers
    if not whole:
        record["incomplete"] = True
    return record
