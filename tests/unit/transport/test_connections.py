"""How long connections live."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from flagprov import asking
from flagprov.doctor import verbs
from flagprov.errors import HostError, UnreachableError
from flagprov.models.fleet import Connection, Fleet, Host
from flagprov.models.request import Request
from flagprov.scope import Scope
from flagprov.site import Site
from flagprov.transport import Connections, Session, connections, host_program
from flagprov.verify import proof

HOSTS = tuple(Host(f"h{number}", Connection(f"h{number}")) for number in range(100))


class World:
    """Counts the sessions that are open."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.opened: list[str] = []
        self.open: set[str] = set()
        self.most = 0
        self.programs: set[object] = set()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()

    class Double:
        def __init__(self, host: Host, opener: object, program: object) -> None:
            self.host = host
            world.programs.add(program)

        def ask(self, payload: dict[str, Any], on_event: object = None) -> Any:
            with world.lock:
                if self.host.name not in world.open:
                    world.opened.append(self.host.name)
                    world.open.add(self.host.name)
                    world.most = max(world.most, len(world.open))
            if self.host.name == "h7":
                raise HostError("h7", "status", "no")
            return {"replicas": []} if payload else self.host.name

        def close(self) -> None:
            with world.lock:
                world.open.discard(self.host.name)

    monkeypatch.setattr(connections, "Session", Double)
    return world


def fleet() -> Fleet:
    return Fleet(Path("x.ini"), HOSTS)


def ask(session: Any) -> str:
    return str(session.ask({}))


def test_a_single_pass_holds_no_more_than_it_works_on(world: World) -> None:
    with Connections(fleet(), fanout=8) as held:
        found = held.once(HOSTS, ask)
        assert world.open == set()
    assert world.most <= 8
    assert sorted(world.opened) == sorted(host.name for host in HOSTS)
    assert isinstance(found["h7"], HostError)
    assert sum(isinstance(answer, str) for answer in found.values()) == 99
    assert world.programs == {host_program}


def test_sessions_are_kept_from_pass_to_pass(world: World) -> None:
    with Connections(fleet(), fanout=8) as held:
        held.each(HOSTS, ask)
        held.each(HOSTS, ask)
        assert len(world.open) == len(world.opened) == len(HOSTS)
    assert world.open == set()


def test_a_large_fleet_keeps_some_and_opens_the_others_again(world: World) -> None:
    with Connections(fleet(), fanout=8) as held:
        held.each(HOSTS, ask, keep=20)
        assert len(world.open) == 20
        assert world.most <= 28
        held.each(HOSTS[:50], ask)
        assert {host.name for host in HOSTS[:50]} <= world.open
    assert world.open == set()


def test_who_asks_nothing_opens_nothing(world: World) -> None:
    with Connections(fleet(), fanout=8) as held:
        assert held.each(HOSTS, lambda session: session.host.name)["h3"] == "h3"
    assert world.opened == []


@pytest.mark.parametrize("verb", ["status", "verify", "facts", "doctor"])
def test_verbs_of_a_single_pass(world: World, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    scope = Scope(fleet(), Site(Path("/nonexistent")), None)
    for module in (asking, proof):
        monkeypatch.setattr(module, "scope_of", lambda request: scope)
    monkeypatch.setattr("flagprov.fleet.load_fleet", lambda inventory, limit: fleet())
    request = Request(Path("x.ini"))
    acts: dict[str, Callable[[], object]] = {
        "status": lambda: asking.status(request),
        "verify": lambda: proof.verify(request, deep=False, on_event=lambda event: None),
        "facts": lambda: verbs.facts(request),
        "doctor": lambda: verbs.doctor(request),
    }
    acts[verb]()
    assert len(world.opened) == len(HOSTS)
    assert world.most <= 64


def test_a_session_that_somebody_closes_amid_an_answer_is_a_lost_connection() -> None:
    class Channel:
        closed = False

        def exit_status_ready(self) -> bool:
            return self.closed

        def sendall(self, data: bytes) -> None:
            pass

        def recv(self, count: int) -> bytes:
            return b'{"event": {"text": "1 of 9 MiB"}}\n'

        def close(self) -> None:
            self.closed = True

    unused: Any = None
    session = Session(Host("h1", Connection("192.0.2.1")), unused, unused)
    session._channel = cast("Any", Channel())
    with pytest.raises(UnreachableError, match="the connection was lost during transfer"):
        session.ask({"op": "transfer"}, lambda event: session.close())
