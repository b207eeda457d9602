"""The engine's log on its way to standard output."""

from __future__ import annotations

import collections
import os
import select
import stat
from typing import Deque, Dict, List, Set

READY = b"Application startup complete."
TAIL = 40  # lines kept for state.json


def say(text: str) -> None:
    """One line of our own between the engine's."""
    write_out(("flagprov: %s\n" % text).encode("utf-8", "replace"))


def write_out(data: bytes) -> None:
    """All of data to standard output; a closed output never stops serving."""
    while data:
        try:
            data = data[os.write(1, data) :]
        except BlockingIOError:
            select.select([], [1], [], 1.0)
        except OSError:
            return


def text(line: bytes) -> str:
    return line.decode("utf-8", "replace").rstrip()[:500]


class Log:
    """The engine's log: what arrives goes to standard output, the last lines are kept."""

    def __init__(self) -> None:
        self.sources: Dict[int, bool] = {}  # descriptor -> whether select can wait for it
        self.found: Set[str] = set()  # logs that FlagScale names otherwise
        self.tail: Deque[str] = collections.deque(maxlen=TAIL)
        self.ready = False
        self.partial = b""

    def add(self, path: str) -> None:
        """Follow a FIFO or a growing file from its start."""
        # Read and write, so that a FIFO has no end between two writers.
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self.sources[descriptor] = stat.S_ISFIFO(os.fstat(descriptor).st_mode)

    def find(self, folder: str) -> None:
        """Other names of the log, which FlagScale's shell may open after FlagScale is gone."""
        for name in sorted(os.listdir(folder)):
            path = os.path.join(folder, name)
            if name.endswith(".output") and path not in self.found and stat.S_ISREG(os.stat(path).st_mode):
                self.found.add(path)
                self.add(path)

    def waitable(self) -> List[int]:
        return [descriptor for descriptor, selectable in self.sources.items() if selectable]

    def pump(self) -> None:
        for descriptor in self.sources:
            while True:
                try:
                    data = os.read(descriptor, 65536)
                except OSError:
                    break
                if not data:
                    break
                write_out(data)
                self._keep(data)

    def close(self) -> None:
        self.pump()
        for descriptor in self.sources:
            os.close(descriptor)
        self.sources = {}

    def lines(self) -> List[str]:
        """The last lines, an unfinished one included."""
        return [*self.tail, *([text(self.partial)] if self.partial else [])]

    def _keep(self, data: bytes) -> None:
        lines = (self.partial + data).split(b"\n")
        self.partial = lines.pop()[-8192:]
        for line in lines:
            self.tail.append(text(line))
            self.ready = self.ready or READY in line
