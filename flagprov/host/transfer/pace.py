"""A cap on what a node sends, over all of its connections."""

from __future__ import annotations

import threading
import time


class Pace:
    """Bytes per second; 0 is no cap."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._lock = threading.Lock()
        self._free = 0.0  # when the next byte may go

    def take(self, count: int) -> None:
        if not self.rate:
            return
        with self._lock:
            now = time.monotonic()
            begin = max(now, self._free)
            self._free = begin + count / self.rate
        if begin > now:
            time.sleep(begin - now)
