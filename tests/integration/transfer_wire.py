"""What lies between two nodes of a transfer."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Wire:
    """A network between two nodes that can be cut, and that can change a byte."""

    def __init__(self, port: int) -> None:
        self._far = port
        self._flip_at = -1
        self._whole = threading.Event()
        self._whole.set()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.count = 0
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self._whole.clear()

    def mend(self) -> None:
        self._whole.set()

    def flip_at(self, offset: int) -> None:
        self._flip_at = offset

    def close(self) -> None:
        self.mend()
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        for end in (self._server, *self._ends):
            end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._server.accept()
                self._ends.append(near)
                far = socket.socket()
                self._ends.append(far)
                if far.connect_ex(("127.0.0.1", self._far)):
                    near.shutdown(socket.SHUT_RDWR)  # not up yet
                    continue
                self.count += 1
                for ends in ((near, far, False), (far, near, True)):
                    threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, read: socket.socket, write: socket.socket, back: bool) -> None:
        count = 0
        with suppress(OSError):
            while data := bytearray(read.recv(1 << 16)):
                self._whole.wait()
                if back and count <= self._flip_at < count + len(data):
                    data[self._flip_at - count] ^= 1
                    self._flip_at = -1
                count += len(data)
                write.sendall(data)
        for end in (read, write):  # closed later: the other thread still reads from them
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
