"""Hosts that died during a transfer, long before their connections notice, and those that would need days."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from flagprov.errors import HostError, UnreachableError
from flagprov.transport import Session

SILENT_S = 15.0
SLOW_S, MEASURED_S = 86400.0, 300.0  # who needs longer, at the rate of this time


class Watch:
    """A host that lacks chunks says so every second; where only silent ones are left, nobody waits."""

    def __init__(self, names: Iterable[str]) -> None:
        self._left = set(names)
        self._last: dict[str, float] = {}
        self._sessions: dict[str, Session] = {}
        self._far: dict[str, tuple[int, int]] = {}  # bytes of how many
        self._then: dict[str, tuple[float, int]] = {}  # when was it how far
        self._somebody = False  # has everything
        self._given_up: dict[str, tuple[str, str]] = {}  # why, and the way out
        self._lock = threading.Lock()

    @contextmanager
    def host(self, session: Session) -> Iterator[None]:
        """While a host is asked."""
        name = session.host.name
        with self._lock:
            self._sessions[name] = session
        try:
            yield
        finally:
            with self._lock:
                self._left.discard(name)

    def heard(self, name: str, far: int, total: int) -> None:
        """A host that has everything is silent while it writes to its disk."""
        with self._lock:
            if far >= total:
                self._somebody = True
                self._last.pop(name, None)
                self._far.pop(name, None)
            else:
                self._last[name] = time.monotonic()
                self._far[name] = (far, total)

    def dead(self) -> list[str]:
        with self._lock:
            now = time.monotonic()
            silent = [name for name in self._left if now - self._last.get(name, now) > SILENT_S]
            return sorted(silent) if len(silent) == len(self._left) else []

    def slow(self) -> dict[str, int]:
        """Hosts that would need days while all others have theirs, and the hours that they need."""
        with self._lock:
            found = {name: self._hours(name) for name in self._left if self._somebody}
        return found if all(found.values()) else {}

    def _hours(self, name: str) -> int:
        now, (far, total) = time.monotonic(), self._far.get(name, (0, 0))
        since, before = self._then.setdefault(name, (now, far))
        if now - since < MEASURED_S:
            return 0
        self._then[name] = (now, far)
        needs = (total - far) * (now - since) / (far - before) if far > before else 0.0
        return int(needs / 3600) if needs > SLOW_S else 0

    def give_up(self) -> None:
        again = "run again: what has arrived is kept"
        why = dict.fromkeys(self.dead(), (f"it lacks files and has said nothing for {SILENT_S:.0f} s", again))
        for name, hours in self.slow().items():
            message = f"all others have theirs, it would need {hours} h more: its link or its disk is slow"
            why[name] = message, f"mend that and {again}; or let it take its time alone: --limit {name}"
        for name, said in why.items():
            self._given_up[name] = said
            self._sessions[name].close()  # whoever waits for its answer hears that it is lost

    def explained(self, error: HostError) -> HostError:
        """Why we hung up."""
        if error.host not in self._given_up:
            return error
        message, remedy = self._given_up[error.host]
        return UnreachableError(error.host, error.step, message, remedy=remedy)

    @contextmanager
    def running(self) -> Iterator[None]:
        over = threading.Event()

        def watch() -> None:
            while not over.wait(1.0):
                self.give_up()

        threading.Thread(target=watch, daemon=True).start()
        try:
            yield
        finally:
            over.set()
