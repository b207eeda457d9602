"""Start before stop: the old one serves until the new one has proved itself, and longer where it fails."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
from test_move_gateway import Story, probe

from flagprov.apply.bring import Brought
from flagprov.errors import HostError, UnreachableError
from flagprov.models.desired import Replica
from flagprov.models.fleet import Connection, Host
from flagprov.models.observed import Change, Running
from flagprov.models.outcome import HostOutcome
from flagprov.models.plan import Batch, HostPlan, Plan, ReplicaPlan
from flagprov.rollout.beside import Beside
from flagprov.rollout.move import Rolling
from flagprov.rollout.options import Options
from flagprov.rollout.slots import Slots


def beside(replica: str) -> dict[str, Any]:
    return {**probe(replica), "port": 9110, "container": f"flagprov-{replica}.b"}


class Surge(Story):
    """The replicas of h1, h2, ... start anew beside themselves; but for those on `full` hosts."""

    def __init__(self, *, full: tuple[str, ...] = (), dies: str = "", sick: str = "", **more: Any) -> None:
        super().__init__(**more)
        self.full, self.dies, self.sick = full, dies, sick
        self.lasting: list[str] = []  # units that come back after a reboot, too
        self.said: list[str] = []
        self.others: tuple[str, ...] = ()  # hosts whose lease another run has taken
        self.lost = 0  # so many times h1 is away while it starts

    def ask(self, host: str, payload: dict[str, Any], on_event: Any = None) -> dict[str, Any]:
        replica = host.replace("h", "r-")
        op = payload["op"]
        if op == "measure" and payload["probe"]["port"] == 9110:
            texts = [""] if host in self.nonsense else ["x"]
            return {"seconds": [0.1], "errors": [], "texts": texts, "tokens_per_s": 1.0}
        if op == "look" and "from" in payload:
            return {"notes": {"endpoint": {"replica": replica, "state": "ready"}}}
        if op == "look":
            (resource,) = payload["resources"]
            state = "hung" if host == self.sick else "ready"
            return {"notes": {"x": {"state": state, "replica": replica, "probe": resource["spec"]}}}
        if op == "converge" and "from" not in payload and payload["resources"][0]["kind"] == "slot":
            self.told.append(f"remove {payload['resources'][0]['name']}")
            return {"changes": 1, "notes": {}, "seconds": {}}
        if op == "converge" and "from" not in payload and payload["resources"][0]["spec"]["active"]:
            self.lasting.append(payload["resources"][0]["name"])
            return {"changes": 1, "notes": {}, "seconds": {}}
        if op == "mark" and host in self.others:
            raise HostError(host, "lease", "it is held by other")
        if op == "mark" and payload.get("kept"):
            self.told.append(f"{payload['result']} {payload['replica']}, kept {payload['kept']['number']}")
            return {}
        return super().ask(host, payload, on_event)

    def start(self, session: Any, kept: Mapping[str, Any]) -> Brought:
        host = session.host.name
        if host == "h1" and self.lost:
            self.lost -= 1
            raise UnreachableError(host, "converge", "the connection was lost")
        if host == self.dies:
            raise HostError(host, "serve", "its engine ended at start")
        self.kept[host] = kept
        self.told.append(f"start {host}")
        return Brought(HostOutcome(host, "changed", 1), {"e": {"probe": beside(host.replace("h", "r-"))}})

    def switch(self, session: Any) -> Brought:
        host = session.host.name
        self.told.append(f"switch {host}")
        return Brought(HostOutcome(host, "changed", 1), {"e": {"probe": beside(host.replace("h", "r-"))}})

    def say(self, event: Any) -> None:
        self.said.append(f"{event.host}: {event.text}")

    def facts(self) -> dict[str, Any]:
        return {"unproved": dict.fromkeys(self.unproved, True)}

    def surge(self, **options: Any) -> dict[str, Brought]:
        """All in one batch."""
        parts, surveys, taken = [], {}, {}
        for name in self.names:
            replica = name.replace("h", "r-")
            step = Change("container", f"flagprov-{replica}", "serve", "create", "", replica, "new container")
            parts.append(ReplicaPlan(replica, (HostPlan(name, (step,), ""),), "new container"))
            running = [Running(replica, "r", "cpu-x86", (name,), (0,), 9010, "running")]
            records = {replica: {"probe": probe(replica)}}
            surveys[name] = SimpleNamespace(running=running, records=records, facts=self.facts())
            if name not in self.full:
                taken[replica] = Replica(replica, "r", "cpu-x86", (name,), (1,), 9110, slot=".b")
        hosts = {name: Host(name, Connection("192.0.2.1")) for name in self.names}
        rolling = Rolling(
            cast(Any, self), hosts, cast(Any, surveys), Options(soak_s=0.001, **options),
            cast(Any, SimpleNamespace(wire={"command": "rollout r"})), self.say, self.bring,
            gateways=cast(Any, self), sleep=lambda seconds: None,
            beside=Beside(Slots(taken), self.start, self.switch),
        )  # fmt: skip
        return rolling.roll(Plan("rollout", "r", (Batch(tuple(parts)),)), {}, True)


def test_the_new_one_serves_before_the_old_one_is_drained() -> None:
    story = Surge()
    assert story.surge()["h1"].outcome.state == "changed"
    assert story.told == ["start h1", "join 9110", "drain r-1", "switch h1", "admit r-1", "done r-1"]
    assert story.lasting == ["flagprov@r-1.b.service"]
    assert story.kept["h1"]["gated"] is True
    assert story.kept["h1"]["before"]["r-1"]["texts"] == ("x",)


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"nonsense": ["h1"]}, "its completions are empty"),
        ({"dies": "h1"}, "its engine ended at start"),
        ({"sick": "h1"}, "r-1 became hung"),
        ({"unkind": ["join"]}, "gw: no completion"),
        ({"unkind": ["drain"]}, "gw: HAProxy does not answer"),
    ],
)
def test_what_fails_is_removed_and_the_old_one_serves_all_the_time(how: dict[str, Any], why: str) -> None:
    story = Surge(hosts=2, **how)
    found = story.surge()
    outcome = found["h1"].outcome
    assert outcome.state == "failed"
    assert why in str(outcome.message)
    assert str(outcome.message).endswith("the new one was removed, the old one served all the time")
    assert found["h1"].notes == {"endpoint": {"replica": "r-1", "state": "ready"}}
    assert {"remove r-1.b", "remove r-2.b", "refused r-1, kept 1", "refused r-2, kept 1"} <= set(story.told)
    assert story.told.index("part r-1,r-2") < story.told.index("remove r-1.b")
    told = " ".join(story.told)
    for never in ("switch", "restore", "stop", "put out", "bring", "done"):
        assert never not in told
    assert "drain" not in told


def test_the_well_ones_of_the_batch_are_left_as_they_were() -> None:
    found = Surge(hosts=2, nonsense=["h1"]).surge()
    assert found["h2"].outcome.state == "unchanged"


def test_what_no_gate_has_proved_is_not_kept_as_what_served_before_it() -> None:
    """It serves on, and stays unproved: the history's last good one is another."""
    story = Surge(nonsense=["h1"], unproved=["r-1"])
    found = story.surge()
    assert str(found["h1"].outcome.message).endswith("the old one served all the time")
    assert found["h1"].notes == {}
    assert "remove r-1.b" in story.told
    assert [told for told in story.told if "refused" in told] == ["refused r-1"]


def test_what_was_removed_is_gone_though_its_history_does_not_know() -> None:
    story = Surge(nonsense=["h1"])
    story.others = ("h1",)
    outcome = story.surge()["h1"].outcome
    assert str(outcome.message).endswith("the new one was removed, the old one served all the time")
    assert "h1: the history of r-1 does not know what came of it: it is held by other" in story.said


def test_a_host_without_room_stops_first_in_the_same_batch() -> None:
    story = Surge(hosts=2, full=("h2",))
    found = story.surge()
    assert {each.outcome.state for each in found.values()} == {"changed"}
    assert story.told == [
        "start h1", "join 9110", "drain r-1,r-2", "switch h1", "admit r-1", "bring h2", "admit r-2",
        "done r-1", "done r-2",
    ]  # fmt: skip


def test_what_has_switched_goes_back_with_its_batch() -> None:
    story = Surge(hosts=2, full=("h2",), nonsense=["h2"])
    found = story.surge()
    assert {"restore h1", "restore h2", "put out r-1"} <= set(story.told)
    assert found["h1"].outcome.state == "failed"


def test_a_gateway_that_fails_once_the_old_one_is_gone_sends_to_the_new_one_all_the_same() -> None:
    story = Surge(unkind=["admit"])
    assert story.surge()["h1"].outcome.state == "changed"
    assert story.told == ["start h1", "join 9110", "drain r-1", "switch h1", "done r-1"]


def test_a_host_that_goes_away_while_it_starts_is_waited_for() -> None:
    story = Surge()
    story.lost = 2
    assert story.surge(return_s=1000)["h1"].outcome.state == "changed"
    story = Surge()
    story.lost = 2
    assert story.surge(return_s=0)["h1"].outcome.state == "unreachable"
    assert "switch h1" not in story.told
