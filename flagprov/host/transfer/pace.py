"""A cap on what a node sends, over all of its connections."""

from __future__ import annotations

import threading
import time

PIECES = 16  # a second at least, over all connections


class Pace:
    """Bytes per second; 0 is no cap."""

    def __init__(self, rate: float = 0.0) -> None:
        self.rate = rate
        self._lock = threading.Lock()
        self._free = 0.0  # when the next byte may go

    def piece(self, most: int) -> int:
        """How much to send at a time, so that a receiver hears of us often."""
        return max(1, min(most, int(self.rate / PIECES))) if self.rate else most

    def take(self, count: int) -> None:
        if not self.rate:
            return
        with self._lock:
            now = time.monotonic()
            begin = max(now, self._free)
            self._free = begin + count / self.rate
        if begin > now:
            time.sleep(begin - now)
