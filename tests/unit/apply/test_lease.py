"""A lease is renewed while its run lives, also while one of its hosts is away for a reboot."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from flagprov.apply import lease
from flagprov.errors import HostError, NewerError, UnreachableError


class Connections:
    """Host b does not answer, and host c is at work."""

    def __init__(self, enough: int) -> None:
        self.enough = enough
        self.renewed: list[str] = []
        self.often = threading.Event()

    def each(self, hosts: Sequence[Any], function: Callable[[Any], Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for host in hosts:
            try:
                found[host.name] = function(
                    SimpleNamespace(host=host, busy=host.name == "c", ask=self.ask(host.name))
                )
            except HostError as error:
                found[host.name] = error
        return found

    def ask(self, name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
        def answer(payload: dict[str, Any]) -> dict[str, Any]:
            taken = len(self.renewed) >= 3  # all three were asked to begin with
            if name == "b" and taken:
                raise UnreachableError(name, "lease", "the connection was lost")
            if payload["do"] in ("take", "renew"):
                self.renewed.append(name)
                if self.renewed.count("a") > self.enough:
                    self.often.set()
            return {}

        return answer


def test_a_host_that_is_away_does_not_end_the_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "TTL_S", 0.03)
    connections = Connections(enough=3)
    hosts = [SimpleNamespace(name=name) for name in ("a", "b", "c")]
    with lease.Lease(cast(Any, connections), cast(Any, hosts), "deploy m") as held:
        assert connections.often.wait(10)
        assert held.refused == {}
    assert connections.renewed.count("c") == 1  # it renews by itself


def test_a_newer_lease_on_one_host_ends_the_run_and_gives_back_the_others() -> None:
    told: list[str] = []

    class Newer(Connections):
        def ask(self, name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
            def answer(payload: dict[str, Any]) -> dict[str, Any]:
                if name == "b":
                    raise NewerError(name, "lease", "a newer flagprov holds this host")
                told.append(f"{payload['do']} {name}")
                return {}

            return answer

    hosts = [SimpleNamespace(name=name) for name in ("a", "b", "c")]
    with pytest.raises(NewerError) as refused:
        lease.Lease(cast(Any, Newer(enough=1)), cast(Any, hosts), "deploy m").__enter__()
    assert refused.value.exit_code == 2
    assert told == ["take a", "take c", "release a", "release c"]


def test_a_run_that_is_taken_up_has_its_own_lease() -> None:
    taken = lease.Lease(cast(Any, None), (), "rollout m", "the token")
    assert taken.wire["token"] == "the token"


def test_the_heart_has_stopped_before_a_lease_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "TTL_S", 0.03)
    connections = Connections(enough=1)
    held = lease.Lease(cast(Any, connections), cast(Any, [SimpleNamespace(name="a")]), "deploy m")
    with held:
        assert connections.often.wait(10)
    assert not held._heart.is_alive()


def test_what_a_run_leaves_sorts_by_time_and_does_not_give_its_lease_away() -> None:
    token = lease.new_token()
    assert lease.run_of(token) != lease.run_of(lease.new_token())
    assert lease.run_of(token)[:10] == token[:10]
    assert token.split()[-1] not in lease.run_of(token)
