"""Drained before it is changed, let in after its gate; put back the same way."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from flagprov.apply.bring import Brought
from flagprov.errors import HostError
from flagprov.models.fleet import Connection, Host
from flagprov.models.observed import Change, Running
from flagprov.models.outcome import HostOutcome
from flagprov.models.plan import Batch, HostPlan, Plan, ReplicaPlan
from flagprov.rollout.move import Rolling
from flagprov.rollout.options import Options

PROBE = {"replica": "r-0", "readiness": "chat", "port": 9010, "model": "m", "path": "/health"}


class Story:
    """One host, one gateway; everything that happens, in order."""

    def __init__(self, *, texts: tuple[str, ...] = ("x",), drains: bool = True) -> None:
        self.told: list[str] = []
        self.texts = texts
        self.drains = drains
        self.host = Host("h1", Connection("192.0.2.1"))

    # The host's session.

    def ask(self, payload: dict[str, Any], on_event: Any = None) -> dict[str, Any]:
        op = payload["op"]
        if op == "history":
            return {"deployments": [{"replica": "r-0", "number": 1, "result": "done"}]}
        if op == "measure":
            after = "bring" in self.told and "restore" not in self.told
            texts = list(self.texts) if after else ["x"]
            return {"seconds": [0.1], "errors": [], "texts": texts, "tokens_per_s": 1.0}
        if op == "converge":
            self.told.append("restore")
            return {"changes": 1, "notes": {"endpoint": {"probe": PROBE}}, "seconds": {}}
        return {"replicas": []}

    def bring(self, session: Any) -> Brought:
        self.told.append("bring")
        return Brought(HostOutcome("h1", "changed", 1), {"endpoint": {"replica": "r-0", "probe": PROBE}})

    # The connections.

    def each(self, hosts: Any, function: Any) -> dict[str, Any]:
        found = {}
        for host in hosts:
            try:
                found[host.name] = function(self)
            except HostError as error:
                found[host.name] = error
        return found

    # The gateways.

    def drain(self, release: str, replicas: Any) -> None:
        if not self.drains:
            raise HostError("gw", "gateway", "HAProxy does not answer")
        self.told.append(f"drain {','.join(replicas)}")

    def admit(self, release: str, probes: Any) -> None:
        self.told.append(f"admit {','.join(probe['replica'] for probe in probes)}")

    def roll(self, cost: str = "new container") -> dict[str, Brought]:
        step = Change("container", "flagprov-r-0", "serve", "replace", "", "r-0", cost)
        part = HostPlan("h1", (step,), "")
        plan = Plan("rollout", "r", (Batch((ReplicaPlan("r-0", (part,), cost),)),))
        running = (Running("r-0", "r", "cpu-x86", ("h1",), (0,), 9010, "running"),)
        survey = SimpleNamespace(running=running, records={"r-0": {"probe": PROBE}})
        rolling = Rolling(
            cast(Any, self), {"h1": self.host}, cast(Any, {"h1": survey}), Options(soak_s=0),
            cast(Any, SimpleNamespace(wire={})), lambda event: None, self.bring, gateways=cast(Any, self),
        )  # fmt: skip
        return rolling.roll(plan, {}, gated=True)


def test_drained_changed_let_in() -> None:
    story = Story()
    assert story.roll()["h1"].outcome.state == "changed"
    assert story.told == ["drain r-0", "bring", "admit r-0"]


def test_what_disturbs_nothing_is_not_drained() -> None:
    story = Story()
    story.roll(cost="nothing")
    assert "drain r-0" not in story.told


def test_what_the_gate_refuses_is_put_back_drained_and_let_in_again() -> None:
    story = Story(texts=("",))
    assert story.roll()["h1"].outcome.state == "failed"
    assert story.told == ["drain r-0", "bring", "drain r-0", "restore", "admit r-0"]


def test_a_gateway_that_cannot_drain_stops_it_before_anything_is_lost() -> None:
    story = Story(drains=False)
    found = story.roll()["h1"].outcome
    assert found.state == "failed"
    assert "gw: HAProxy does not answer" in found.message
    assert "put back" not in found.message
    assert story.told == []
