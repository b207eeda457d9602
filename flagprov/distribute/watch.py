"""Hosts that died during a transfer, long before their connections notice."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from flagprov.errors import HostError, UnreachableError
from flagprov.transport import Session

SILENT_S = 15.0


class Watch:
    """A host that lacks chunks says so every second; where only silent ones are left, nobody waits."""

    def __init__(self, names: Iterable[str]) -> None:
        self._left = set(names)
        self._last: dict[str, float] = {}
        self._sessions: dict[str, Session] = {}
        self._given_up: set[str] = set()
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

    def heard(self, name: str, full: bool) -> None:
        """A host that has everything is silent while it writes to its disk."""
        with self._lock:
            if full:
                self._last.pop(name, None)
            else:
                self._last[name] = time.monotonic()

    def dead(self) -> list[str]:
        with self._lock:
            now = time.monotonic()
            silent = [name for name in self._left if now - self._last.get(name, now) > SILENT_S]
            return sorted(silent) if len(silent) == len(self._left) else []

    def give_up(self) -> None:
        for name in self.dead():
            self._given_up.add(name)
            self._sessions[name].close()  # whoever waits for its answer hears that it is lost

    def explained(self, error: HostError) -> HostError:
        """Why we hung up."""
        if error.host not in self._given_up:
            return error
        message = f"it lacks files and has said nothing for {SILENT_S:.0f} s"
        return UnreachableError(error.host, error.step, message, remedy="run again: what has arrived is kept")

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
