"""Drained before it is changed, let in after its gate; put back the same way, and never worse than before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from flagprov.apply.bring import Brought
from flagprov.errors import HostError, UnreachableError
from flagprov.models.fleet import Connection, Host
from flagprov.models.observed import Change, Running
from flagprov.models.outcome import HostOutcome
from flagprov.models.plan import Batch, HostPlan, Plan, ReplicaPlan
from flagprov.rollout.move import Rolling
from flagprov.rollout.options import Options
from flagprov.rollout.order import Budget


def probe(replica: str) -> dict[str, Any]:
    return {"replica": replica, "readiness": "chat", "port": 9010, "model": "m", "path": "/health"}


class Story:
    """A batch of single replicas r-1, r-2, ... on h1, h2, ..., and a gateway; what happens, in order."""

    def __init__(
        self,
        *,
        hosts: int = 1,
        nonsense: Sequence[str] = (),  # hosts whose new engine answers nothing
        unkind: Sequence[str] = (),  # what the gateway does not do: drain, put out, admit
        history: Mapping[str, Any] | None = None,  # of every replica, newer than what serves
        away: int = 0,  # so many times h1 does not answer
        new: Sequence[str] = (),
        forgetful: Sequence[str] = (),  # hosts whose replica serves and has no history
        unproved: Sequence[str] = (),  # replicas, as their hosts say
    ) -> None:
        self.told: list[str] = []
        self.nonsense, self.unkind, self.history, self.away, self.new = nonsense, unkind, history, away, new
        self.forgetful, self.unproved = forgetful, unproved
        self.dead: set[str] = set()  # answers no more, from some time on
        self.names = [f"h{i}" for i in range(1, hosts + 1)]
        self.kept: dict[str, Any] = {}  # what the hosts were told to keep
        self.measured: list[str] = []

    # The hosts' sessions.

    def ask(self, host: str, payload: dict[str, Any], on_event: Any = None) -> dict[str, Any]:
        replica = host.replace("h", "r-")
        op = payload["op"]
        if op == "lease":
            if host in self.dead:
                raise UnreachableError(host, "lease", "the connection was lost")
            return {}
        if op == "history":
            first = {"replica": replica, "number": 1, "result": "done"}
            entries = (
                []
                if host in (*self.new, *self.forgetful)
                else [first, *([{**first, **self.history}] if self.history else [])]
            )
            return {"deployments": entries}
        if op == "measure":
            self.measured.append(host)
            changed = f"bring {host}" in self.told and f"restore {host}" not in self.told
            texts = [""] if changed and host in self.nonsense else ["x"]
            return {"seconds": [0.1], "errors": [], "texts": texts, "tokens_per_s": 1.0}
        if op == "converge" and "from" in payload:
            assert payload["deployment"]["command"].startswith("put back after")
            self.told.append(f"restore {host}")
            return {"changes": 1, "notes": {"endpoint": {"probe": probe(replica)}}, "seconds": {}}
        if op == "converge":
            self.told.append(f"stop {payload['resources'][0]['replica']}")
            return {"changes": 1, "notes": {}, "seconds": {}}
        if op == "mark":
            self.told.append(f"{payload['result']} {payload['replica']}")
        if op == "logs" and on_event:
            on_event({"text": "its last words"})
        return {"replicas": []}

    def bring(self, session: Any, kept: Mapping[str, Any]) -> Brought:
        name = session.host.name
        if name == "h1" and self.away:
            self.away -= 1
            raise UnreachableError(name, "converge", "the connection was lost")
        self.kept[name] = kept
        self.told.append(f"bring {name}")
        replica = name.replace("h", "r-")
        return Brought(HostOutcome(name, "changed", 1), {"endpoint": {"probe": probe(replica)}})

    # The connections.

    def each(self, hosts: Any, function: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for host in hosts:
            ask = lambda payload, on_event=None, name=host.name: self.ask(name, payload, on_event)  # noqa: E731
            try:
                found[host.name] = function(SimpleNamespace(host=host, ask=ask))
            except HostError as error:
                found[host.name] = error
        return found

    # The gateways.

    def drain(self, release: str, replicas: Sequence[str]) -> None:
        if "drain" in self.unkind:
            raise HostError("gw", "gateway", "HAProxy does not answer")
        self.told.append(f"drain {','.join(replicas)}")

    def put_out(self, release: str, replicas: Sequence[str]) -> dict[str, HostError]:
        if "put out" in self.unkind:
            return {"gw": HostError("gw", "gateway", "HAProxy does not answer")}
        self.told.append(f"put out {','.join(replicas)}")
        return {}

    def tidy(self, release: str, surveys: Any) -> None:
        """Nothing was left by a run that was cut off."""

    def join(self, release: str, probes: Any) -> None:
        if "join" in self.unkind:
            raise HostError("gw", "gateway", "no completion")
        self.told.append(f"join {','.join(str(probe['port']) for probe in probes)}")

    def part(self, release: str, replicas: Sequence[str]) -> dict[str, HostError]:
        self.told.append(f"part {','.join(replicas)}")
        return {}

    def admit(self, release: str, probes: Any) -> None:
        if "admit" in self.unkind:
            raise HostError("gw", "gateway", "no completion")
        self.told.append(f"admit {','.join(probe['replica'] for probe in probes)}")

    def roll(
        self,
        cost: str = "new container",
        budget: Budget | None = None,
        gated: bool = True,
        **options: Any,
    ) -> dict[str, Brought]:
        """With a budget one replica a batch, else all in one."""
        parts, surveys = [], {}
        for name in self.names:
            replica = name.replace("h", "r-")
            step = Change("container", f"flagprov-{replica}", "serve", "replace", "", replica, cost)
            parts.append(ReplicaPlan(replica, (HostPlan(name, (step,), ""),), cost))
            running = [Running(replica, "r", "cpu-x86", (name,), (0,), 9010, "running")]
            if name in self.new:
                running.clear()
            records = {replica: {"probe": probe(replica)}}
            surveys[name] = SimpleNamespace(
                running=running, records=records, facts={"unproved": dict.fromkeys(self.unproved, True)}
            )
        hosts = {name: Host(name, Connection("192.0.2.1")) for name in self.names}
        rolling = Rolling(
            cast(Any, self), hosts, cast(Any, surveys), Options(soak_s=0, **options),
            cast(Any, SimpleNamespace(wire={"command": "rollout r"})), lambda event: None, self.bring,
            gateways=cast(Any, self), sleep=lambda seconds: None, budget=budget,
        )  # fmt: skip
        batches = [Batch((part,)) for part in parts] if budget else [Batch(tuple(parts))]
        return rolling.roll(Plan("rollout", "r", tuple(batches)), {}, gated)


def test_drained_changed_let_in_and_only_then_done() -> None:
    story = Story()
    assert story.roll()["h1"].outcome.state == "changed"
    assert story.told == ["drain r-1", "bring h1", "admit r-1", "done r-1"]
    assert story.kept["h1"]["gated"] is True
    assert story.kept["h1"]["before"]["r-1"]["texts"] == ("x",)


def test_what_disturbs_nothing_is_not_drained() -> None:
    story = Story()
    story.roll(cost="nothing")
    assert "drain r-1" not in story.told


def test_what_the_gate_refuses_is_put_back_drained_and_let_in_again() -> None:
    story = Story(nonsense=["h1"])
    found = story.roll()["h1"].outcome
    assert found.state == "failed"
    assert found.message.endswith("the deployment from before was put back and serves")
    assert found.log == "its last words"
    assert story.told == ["drain r-1", "bring h1", "refused r-1", "put out r-1", "restore h1", "admit r-1"]


def test_those_of_the_batch_that_were_well_go_back_too() -> None:
    story = Story(hosts=2, nonsense=["h1"])
    found = story.roll()
    assert "done r-2" not in story.told
    assert {"restore h1", "restore h2", "refused r-2"} <= set(story.told)
    assert found["h2"].outcome.state == "failed"
    assert found["h2"].outcome.message.startswith("h1, of the same batch, failed; the deployment from before")


def test_what_is_new_and_refused_is_stopped() -> None:
    story = Story(nonsense=["h1"], new=["h1"])
    found = story.roll()["h1"].outcome
    assert "stop r-1" in story.told
    assert "r-1 has nothing to go back to, and was stopped" in found.message


def test_what_serves_without_a_history_is_not_stopped_for_another_ones_fault() -> None:
    story = Story(hosts=2, nonsense=["h1"], forgetful=["h2"])
    story.roll()
    assert not {"stop r-2", "restore h2"} & set(story.told)


@pytest.mark.parametrize("gated", [True, False])
def test_a_gateway_that_cannot_drain_stops_it_before_anything_is_lost(gated: bool) -> None:
    story = Story(hosts=2, unkind=["drain"])
    found = story.roll(gated=gated)
    assert {host.outcome.state for host in found.values()} == {"failed"}
    assert "gw: HAProxy does not answer" in found["h1"].outcome.message
    assert "put back" not in found["h1"].outcome.message
    assert story.told == []


@pytest.mark.parametrize(
    ("unkind", "said"),
    [("put out", "gateway gw was not told to drain it"), ("admit", "it gets no requests yet")],
)
def test_what_was_refused_is_put_back_whatever_a_gateway_says(unkind: str, said: str) -> None:
    story = Story(nonsense=["h1"], unkind=[unkind])
    message = story.roll()["h1"].outcome.message
    assert "restore h1" in story.told
    assert "was put back and serves" in str(message)
    assert said in str(message)


def test_a_host_that_comes_back_in_time_is_changed_and_judged() -> None:
    story = Story(hosts=2, away=3)
    found = story.roll(return_s=1000)
    assert {host.outcome.state for host in found.values()} == {"changed"}
    assert story.told[-2:] == ["done r-1", "done r-2"]
    story = Story(away=3, nonsense=["h1"])
    assert story.roll(return_s=1000)["h1"].outcome.state == "failed"
    assert "restore h1" in story.told


def test_a_host_that_stays_away_takes_its_batch_back() -> None:
    story = Story(hosts=2, away=1)
    found = story.roll(return_s=0)
    assert found["h1"].outcome.state == "unreachable"
    assert {"restore h1", "restore h2"} <= set(story.told)


def test_what_a_killed_run_left_is_not_its_own_measure() -> None:
    before = {"seconds": [0.1], "errors": [], "texts": ["old"], "tokens_per_s": 1.0}
    story = Story(history={"number": 2, "result": "pending", "before": before})
    story.roll()
    assert story.measured == ["h1"]  # after the change only
    assert story.kept["h1"]["before"]["r-1"]["texts"] == ("old",)
    story = Story(history={"number": 2, "result": "pending", "before": before}, nonsense=["h1"])
    story.roll()
    assert "restore h1" in story.told
    story = Story(history={"number": 2, "result": "refused", "before": None}, unproved=["r-1"])
    story.roll()
    assert story.measured == ["h1"]
    assert story.kept["h1"]["before"] == {}


def test_a_host_that_went_away_after_its_batch_takes_from_the_budget() -> None:
    story = Story(hosts=3)
    story.dead = {"h1"}
    found = story.roll(budget=Budget(3, 1), return_s=0)
    assert "bring h2" not in story.told
    assert "r-1 went away meanwhile" in str(found["h2"].outcome.message)
    assert (found["h1"].outcome.state, found["h3"].outcome.state) == ("changed", "unchanged")
    story = Story(hosts=3)
    story.dead = {"h1"}
    story.roll(budget=Budget(3, 2), return_s=0)
    assert "bring h3" in story.told
