"""One change at a time per host, also from two controllers: taken on all hosts or on none."""

from __future__ import annotations

import getpass
import hashlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from flagprov.errors import HostError, VersionError
from flagprov.models.fleet import Host
from flagprov.preparation import Request
from flagprov.transport import Connections, Session

TTL_S = 60.0


def new_token() -> str:
    """Begins with the time, so that what runs leave sorts; a run that is taken up again keeps its own."""
    return f"{_now()} {secrets.token_hex(16)}"


def run_of(token: str) -> str:
    """The name under which hosts remember what a run did; nobody can take a lease by it."""
    return f"{token.rpartition(' ')[0]} {hashlib.sha256(token.encode()).hexdigest()[:8]}"


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())


class Lease:
    """Held while a run changes hosts; a controller that dies lets it run out."""

    def __init__(
        self, connections: Connections, hosts: Sequence[Host], command: str, token: str | None = None
    ) -> None:
        """`token`: that of the run which is taken up again, so that its own lease does not refuse it."""
        self._connections = connections
        self._hosts = sorted(hosts, key=lambda host: host.name)
        self._over = threading.Event()
        self.wire: Mapping[str, Any] = {
            "token": token or new_token(),
            "holder": f"{getpass.getuser()}@{socket.gethostname()} (pid {os.getpid()})",
            "command": command,
            "since": _now(),
            "ttl_s": TTL_S,
        }
        self.refused: dict[str, HostError] = {}

    def __enter__(self) -> Self:
        """Raises the first refusal; hosts that went away meanwhile are in `refused`."""
        take = {"op": "lease", "do": "take", "lease": self.wire}
        first, rest = self._hosts[:1], self._hosts[1:]
        for group in (first, rest):  # two runs meet at the first host in sorted order, and one of them yields
            for name, answer in self._connections.each(group, lambda session: session.ask(take)).items():
                if isinstance(answer, HostError):
                    self.refused[name] = answer
            held = [e for e in self.refused.values() if e.step == "lease" or isinstance(e, VersionError)]
            if held:
                self._release()
                raise held[0]
        self._heart = threading.Thread(target=self._beat, daemon=True)
        self._heart.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if kind is None or issubclass(kind, Exception):
            self._heart.join()  # a late heartbeat would take again what is given back
            self._release()

    def _beat(self) -> None:
        """A host that is converging renews by itself; the others are told, but for those that are away."""
        while not self._over.wait(TTL_S / 3):
            self._connections.each(self._hosts, self._renew)

    def _renew(self, session: Session) -> None:
        if not session.busy:
            session.ask({"op": "lease", "do": "renew", "lease": self.wire})

    def _release(self) -> None:
        give = {"op": "lease", "do": "release", "token": self.wire["token"]}
        hosts = [host for host in self._hosts if host.name not in self.refused]
        self._connections.each(hosts, lambda session: session.ask(give))


def held(request: Request) -> tuple[dict[str, dict[str, Any]], dict[str, HostError]]:
    """Host -> the lease that holds it now, and the hosts that could not be asked."""
    answers = _ask_all(request, {"op": "lease", "do": "show"})
    found = {n: a["lease"] for n, a in answers.items() if not isinstance(a, HostError) and a["lease"]}
    return found, {n: a for n, a in answers.items() if isinstance(a, HostError)}


def end(request: Request) -> tuple[list[str], dict[str, HostError]]:
    """Break the leases of all hosts; returns those that were held."""
    answers = _ask_all(request, {"op": "lease", "do": "break"})
    broken = [n for n, a in answers.items() if not isinstance(a, HostError) and a["was"]]
    return broken, {n: a for n, a in answers.items() if isinstance(a, HostError)}


def _ask_all(request: Request, payload: Mapping[str, Any]) -> dict[str, dict[str, Any] | HostError]:
    from flagprov.scope import scope_of

    fleet = scope_of(request).fleet
    with Connections(fleet) as connections:
        answers = connections.once(fleet.hosts, lambda session: session.ask(payload))
    for answer in answers.values():
        if isinstance(answer, VersionError):
            raise answer
    return answers
