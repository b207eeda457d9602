"""The way back of replicas over several hosts: whole, or stopped."""

from __future__ import annotations

from collections.abc import Collection
from types import SimpleNamespace
from typing import Any, cast

from flagprov.errors import HostError, UnreachableError
from flagprov.models.plan import Batch, HostPlan, ReplicaPlan
from flagprov.rollout.put_back import PuttingBack

BATCH = Batch(
    tuple(
        ReplicaPlan(name, tuple(HostPlan(host, (), "") for host in hosts), "nothing")
        for name, hosts in (("m-0", "ab"), ("m-1", "c"))
    )
)
REPLICAS = {"a": "m-0", "b": "m-0", "c": "m-1"}


class Hosts:
    """Each has the deployment from before, but for those that cannot put it back."""

    def __init__(self, stuck: Collection[str], lost: str = "") -> None:
        self.stuck, self.lost = stuck, lost  # `lost`: its connection drops once, before its answer is there
        self.told: list[str] = []

    def each(self, hosts: Any, function: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for host in hosts:
            ask = lambda payload, *_, name=host.name: self.ask(name, payload)  # noqa: E731
            try:
                found[host.name] = function(SimpleNamespace(host=host, ask=ask))
            except HostError as error:
                found[host.name] = error
        return found

    def ask(self, host: str, payload: dict[str, Any]) -> dict[str, Any]:
        if payload["op"] == "converge" and "from" in payload:
            if host in self.stuck:
                raise HostError(host, "image", "disk full")
            self.told.append(f"restore {host}")
            if host == self.lost:
                self.lost = ""
                raise UnreachableError(host, "serve", "the connection was lost")
        elif payload["op"] == "converge":
            self.told.append(f"stop {payload['resources'][0]['replica']} on {host}")
        return {"changes": 1, "notes": {"endpoint": {"state": "ready"}}, "seconds": {}}

    def put_out(self, release: str, replicas: list[str]) -> dict[str, HostError]:
        self.told.append(f"out {','.join(replicas)}")
        return {}

    def when_back(self, answers: Any, function: Any) -> dict[str, Any]:
        self.waited = [name for name, answer in answers.items() if isinstance(answer, UnreachableError)]
        return self.each([SimpleNamespace(name=name) for name in self.waited], function)

    def put_back(self, away: str = "") -> dict[str, Any]:
        good = {host: [{"replica": replica, "number": 1}] for host, replica in REPLICAS.items()}
        moving = SimpleNamespace(
            connections=self, gateways=self, good=good, surveys={}, release="m", on_event=print,
            hosts={host: SimpleNamespace(name=host) for host in REPLICAS},
            lease=SimpleNamespace(wire={}), let_in=lambda host, notes: self.told.append(f"in {host}"),
            when_back=self.when_back,
        )  # fmt: skip
        why = {host: HostError(host, "gate", "it is slow") for host in REPLICAS}
        why |= {host: UnreachableError(host, "serve", "it went away") for host in away}
        return PuttingBack(cast(Any, moving), BATCH).put_back(why, ())


def test_all_ranks_that_can_serve_as_before() -> None:
    hosts = Hosts(stuck=())
    found = hosts.put_back()
    assert [told for told in hosts.told if told.startswith(("restore", "stop"))] == [
        "restore a", "restore b", "restore c",
    ]  # fmt: skip
    assert found["a"].notes == {"endpoint": {"state": "ready"}}


def test_a_rank_that_cannot_be_put_back_leaves_no_half_of_its_replica() -> None:
    """Neither what was refused there, nor an old rank that waits for it."""
    hosts = Hosts(stuck="b")
    found = hosts.put_back()
    assert hosts.told[-3:] == ["out m-0", "stop m-0 on a", "stop m-0 on b"]
    assert "stop m-1 on c" not in hosts.told
    assert "putting the old one back failed: disk full" in found["b"].outcome.message
    for host in "ab":
        assert found[host].outcome.message.endswith("m-0 is whole or not at all: it was stopped")
        assert found[host].notes == {}
    assert found["c"].notes


def test_a_rank_whose_answer_was_lost_is_asked_again_and_its_replica_serves_on() -> None:
    hosts = Hosts(stuck=(), lost="b")
    found = hosts.put_back()
    assert hosts.told.count("restore b") == 2
    assert not [told for told in hosts.told if told.startswith("stop")]
    assert hosts.told[-1] == "in b"
    assert hosts.told.index("in a") > max(i for i, told in enumerate(hosts.told) if told == "out m-0")
    assert found["a"].notes and found["b"].notes


def test_a_host_that_has_been_waited_for_is_not_waited_for_twice() -> None:
    hosts = Hosts(stuck=(), lost="b")
    hosts.put_back(away="b")
    assert hosts.waited == []
    assert hosts.told[-3:] == ["out m-0", "stop m-0 on a", "stop m-0 on b"]
