"""Ports for one case, disjoint between cases and between harnesses running at the same time.

A case takes a block of ports below the kernel's ephemeral range. The first port of the block is held open, without
SO_REUSEPORT, for as long as the case runs: that is the lock.
"""
import random
import socket

HOST = "127.0.0.1"
FIRST, LAST, BLOCK = 15000, 19990, 20


class PortBlock:
    """Names to port numbers; every name gets the same port for the whole case."""

    def __init__(self):
        self.lock, self.base = self._acquire()
        self.names = {}

    @staticmethod
    def _acquire():
        blocks = list(range(FIRST, LAST - BLOCK, BLOCK))
        random.shuffle(blocks)
        for base in blocks:
            lock = socket.socket()
            try:
                lock.bind((HOST, base))
                lock.listen(1)
                # Others on this machine may listen within the block.
                for port in range(base + 1, base + BLOCK):
                    with socket.socket() as probe:
                        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                        probe.bind((HOST, port))
                return lock, base
            except OSError:
                lock.close()
        raise RuntimeError("no free block of ports")

    def __getitem__(self, name):
        if name not in self.names:
            if len(self.names) + 1 >= BLOCK:
                raise ValueError(f"a case has at most {BLOCK - 1} ports")
            self.names[name] = self.base + 1 + len(self.names)
        return self.names[name]

    def release(self):
        self.lock.close()
