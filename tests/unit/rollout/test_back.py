"""What a rollback looks at: every host, its history, and which deployment it goes back to."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from flagprov.errors import HostError, NewerError, UsageError
from flagprov.models.fleet import Connection, Fleet, Host
from flagprov.models.observed import Running
from flagprov.rollout import back
from flagprov.scope import Scope
from flagprov.site import Site


class Fleets:
    """Hosts a to d: c is cordoned, d serves a replica together with c."""

    def __init__(self, newer: str = "") -> None:
        self.newer = newer
        self.looked: dict[str, Any] = {}

    def each(self, hosts: Any, function: Any, keep: int | None = None) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for host in hosts:
            ask = lambda payload, host=host: self.ask(host.name, payload)  # noqa: E731
            try:
                found[host.name] = function(SimpleNamespace(host=host, ask=ask))
            except HostError as error:
                found[host.name] = error
        return found

    def survey(self, session: Any) -> Any:
        name = session.host.name
        hosts = ("c", "d") if name in "cd" else (name,)
        running = (Running(f"m-{hosts[0]}", "m", "chip", hosts, (0,), 1, "running"),)
        return SimpleNamespace(
            host=name, running=running, facts={"cordoned": {"by": "ada"} if name == "c" else None}
        )

    def ask(self, name: str, payload: dict[str, Any]) -> dict[str, Any]:
        if name == self.newer:
            raise NewerError(name, "history", "deployment 3 was made by a newer flagprov")
        if payload["op"] == "history":
            replica = "m-c" if name in "cd" else f"m-{name}"
            whats = (("1", "one"), ("2", "two"))
            return {
                "deployments": [
                    {"replica": replica, "number": i, "run": run, "what": what, "result": "done"}
                    for i, (run, what) in enumerate(whats, 1)
                ]
            }
        self.looked[name] = payload["from"]
        return {"digest": "d", "changes": [], "problems": [], "notes": {}}


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch) -> Any:
    def one(fleets: Fleets, changing: bool = True, release: str = "m") -> Any:
        monkeypatch.setattr(back, "survey", fleets.survey)
        fleet = Fleet(Path("x.ini"), tuple(Host(name, Connection(name)) for name in "abcd"))
        scope = Scope(fleet, Site(Path()), release)
        return back._look(scope, cast(Any, fleets), lambda found: back._goals(found, None), changing=changing)

    return one


def test_cordoned_hosts_are_left_out_with_those_that_serve_with_them(look: Any) -> None:
    fleets = Fleets()
    picture = look(fleets)
    assert sorted(picture.looks) == ["a", "b"]
    assert {left.host: left.problem.step for left in picture.left_out} == {"c": "cordon", "d": "placement"}
    assert fleets.looked["a"] == [{"replica": "m-a", "number": 1}]


def test_looking_alone_leaves_nobody_out(look: Any) -> None:
    picture = look(Fleets(), changing=False)
    assert sorted(picture.looks) == ["a", "b", "c", "d"]
    assert picture.left_out == []


def test_a_cordoned_host_has_said_what_it_has(look: Any) -> None:
    with pytest.raises(UsageError) as refused:
        look(Fleets(), release="mm")
    assert "could not be asked" not in refused.value.message


def test_a_history_of_a_newer_flagprov_ends_it(look: Any) -> None:
    with pytest.raises(NewerError) as refused:
        look(Fleets(newer="b"))
    assert refused.value.exit_code == 2
