"""The connections of a command: opened when needed, kept until its end."""

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


class Connections:
    """Sessions with the hosts of a fleet.

    with Connections(fleet) as connections:
        found = connections.each(fleet.hosts, lambda session: session.ask({"op": "survey"}))
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
        """The session with a host, its connection open."""
        with self._lock:
            session = self._sessions.get(host.name)
            if session is None:
                session = self._sessions[host.name] = Session(host, self._opener, self._program)
        session.open()
        return session

    def each(self, hosts: Sequence[Host], function: Callable[[Session], T]) -> dict[str, T | HostError]:
        """Calls the function with every host's session, many at once; a host's error is its outcome."""
        return fan_out(hosts, lambda host: function(self.session(host)), self._fanout)

    def close(self) -> None:
        """Closes all connections, at once."""
        with self._lock:
            sessions, self._sessions = list(self._sessions.values()), {}
        for session in sessions:
            session.close()
        self._opener.close()
