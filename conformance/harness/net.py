"""Small things about sockets that clients and upstreams share."""
import socket
import struct
import time


def reset(sock):
    """Closes with an RST instead of a FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def close(sock):
    """Closes although another thread may be reading."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    sock.close()


def latin(data, limit=400):
    """Bytes as text for a record; long ones are cut, and say so."""
    text = data.decode("latin1")
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} bytes)"


def wait_until(holds, seconds):
    """Waits for a condition; it is looked at again every few milliseconds."""
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.01)


class Reader:
    """A socket with a buffer. Remembers how the peer ended: ``open``, ``fin`` or ``rst``."""

    def __init__(self, sock):
        self.sock, self.buffer, self.fate = sock, b"", "open"

    def fill(self, deadline):
        """Reads once; False when the peer has ended or the time is up."""
        left = deadline - time.monotonic()
        if self.fate != "open" or left <= 0:
            return False
        self.sock.settimeout(left)
        try:
            data = self.sock.recv(65536)
        except TimeoutError:
            return False
        except ConnectionResetError:
            self.fate = "rst"
            return False
        except OSError:
            self.fate = "fin"
            return False
        if not data:
            self.fate = "fin"
            return False
        self.buffer += data
        return True

    def until(self, mark, deadline):
        """Bytes up to and without `mark`, or None."""
        while mark not in self.buffer:
            if not self.fill(deadline):
                return None
        data, self.buffer = self.buffer.split(mark, 1)
        return data

    def exactly(self, size, deadline):
        """`size` bytes, or fewer when the peer ended."""
        while len(self.buffer) < size and self.fill(deadline):
            pass
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def quiet(self, seconds):
        """Whatever comes until nothing has come for `seconds`."""
        while self.fill(time.monotonic() + seconds):
            pass
        data, self.buffer = self.buffer, b""
        return data

    def ended(self, seconds):
        """Waits for the peer to end; the bytes that came before stay in the buffer."""
        deadline = time.monotonic() + seconds
        while self.fill(deadline):
            pass
        return self.fate
