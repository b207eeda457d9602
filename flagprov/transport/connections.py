"""The connections of a command: opened by the first request, closed after a single pass or at its end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TypeVar

from flagprov.errors import HostError
from flagprov.models.fleet import Fleet, Host
from flagprov.transport.connect import Opener
from flagprov.transport.fanout import fan_out
from flagprov.transport.program import Program, host_program
from flagprov.transport.session import Session

T = TypeVar("T")

KEPT = 256  # connections that a look at a large fleet leaves open, for the changes that may follow it


class Connections:
    """Sessions with the hosts of a fleet.

    with Connections(fleet) as connections:
        found = connections.once(fleet.hosts, lambda session: session.ask({"op": "survey"}))
    """

    def __init__(self, fleet: Fleet, fanout: int = 64, program: Callable[[], Program] = host_program) -> None:
        self.fleet = fleet
        self._fanout = fanout
        self._program = program
        self._opener = Opener()
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Connections:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def session(self, host: Host) -> Session:
        """The session with a host."""
        with self._lock:
            session = self._sessions.get(host.name)
            if session is None:
                session = self._sessions[host.name] = Session(host, self._opener, self._program)
        return session

    def each(
        self, hosts: Sequence[Host], function: Callable[[Session], T], keep: int | None = None
    ) -> dict[str, T | HostError]:
        """Calls the function with every host's session, many at once; a host's error is its outcome.

        Connections stay open for the next pass: all of them, or `keep`. Nobody else may use a session
        meanwhile where not all are kept.
        """

        def call(host: Host) -> T:
            try:
                return function(self.session(host))
            finally:
                if keep is not None:
                    self._close_beyond(keep, host)

        return fan_out(hosts, call, self._fanout)

    def once(self, hosts: Sequence[Host], function: Callable[[Session], T]) -> dict[str, T | HostError]:
        """A single pass: every connection is closed as soon as its host has answered."""
        return self.each(hosts, function, keep=0)

    def _close_beyond(self, keep: int, host: Host) -> None:
        with self._lock:
            session = self._sessions.pop(host.name, None) if len(self._sessions) > keep else None
        if session is not None:
            session.close()

    def close(self) -> None:
        """Closes all connections, at once."""
        with self._lock:
            sessions, self._sessions = list(self._sessions.values()), {}
        for session in sessions:
            session.close()
        self._opener.close()
