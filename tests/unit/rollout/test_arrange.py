"""Which batches a change has, by what serves now."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from flagprov.errors import FlagprovError, UsageError
from flagprov.models.desired import Placement, Replica
from flagprov.models.observed import Change, Running
from flagprov.models.plan import HostPlan
from flagprov.rollout.arrange import Arrangement, arrange, awaited, unproved
from flagprov.rollout.census import Census
from flagprov.rollout.options import Options
from flagprov.rollout.order import Size, parse_batches

ONE = Options(batches=(Size(count=1),), canary=False)


def arranged(
    hosts: Mapping[str, str],
    options: Options = ONE,
    lost: tuple[str, ...] = (),
    known: tuple[str, ...] = (),
    surging: tuple[str, ...] = (),
) -> Arrangement:
    """Host -> a letter for each of its replicas: r runs, d was deployed and is down, n is new."""
    replicas, surveys, plans = [], {}, {}
    for host, states in hosts.items():
        mine = [Replica(f"{host}{i}", "m", "cpu-x86", (host,), (i,), 9010 + i) for i in range(len(states))]
        replicas += mine
        surveys[host] = SimpleNamespace(
            running=tuple(
                Running(r.name, "m", r.chip, r.hosts, r.devices, r.port, "running" if s == "r" else "exited")
                for r, s in zip(mine, states, strict=True)
                if s != "n"
            ),
            records={},
            facts={},
        )
        steps = tuple(Change("container", "c", "serve", "replace", "", r.name, "new container") for r in mine)
        plans[host] = HostPlan(host, steps, "")
    return arrange(
        Placement(tuple(replicas)),
        plans,
        cast(Any, surveys),
        options,
        lambda: Census(frozenset(known), frozenset(lost)),
        surging=surging,
    )


def test_what_a_killed_run_left_is_gated_though_nothing_differs() -> None:
    replica = Replica("m-0", "m", "cpu-x86", ("a",), (0,), 9010)
    running = (Running("m-0", "m", "cpu-x86", ("a",), (0,), 9010, "running"),)
    for gated in (True, False):
        survey = cast(
            Any,
            SimpleNamespace(running=running, records={}, facts={"unproved": {"m-0": gated, "other-0": True}}),
        )
        plan = unproved(HostPlan("a", (), "d"), Placement((replica,)), survey)
        assert [(step.action, step.name, step.cost) for step in plan.steps] == [("prove", "m-0", "nothing")]
        found = arrange(Placement((replica,)), {"a": plan}, {"a": survey}, ONE)
        assert found.gated is gated
    assert unproved(HostPlan("a", (), "d"), Placement((replica,)), None).steps == ()


def test_an_image_that_nobody_knows_yet_stops_what_serves_all_the_same() -> None:
    """Its container follows once it was looked into; the plan shows a pull so far, which costs nothing."""
    replicas = tuple(Replica(f"m-{h}", "m", "cpu-x86", (h,), (0,), 9010) for h in "ab")
    pull = Change("image", "i:2", "image", "pull", "it is not here", replicas[0].name)
    plans = {r.hosts[0]: HostPlan(r.hosts[0], (pull,), "", "configuration follows") for r in replicas}
    for state, gated in (("running", True), ("exited", False)):
        surveys = {
            r.hosts[0]: SimpleNamespace(
                running=(Running(r.name, "m", r.chip, r.hosts, (0,), 9010, state),), records={}, facts={}
            )
            for r in replicas
        }
        full = {h: awaited(plan, Placement(replicas), cast(Any, surveys[h])) for h, plan in plans.items()}
        costs = [step.cost for plan in full.values() for step in plan.steps]
        assert ("new container" in costs) is gated
        found = arrange(Placement(replicas), full, cast(Any, surveys), ONE)
        assert (found.gated, len(found.groups)) == (gated, 2 if gated else 0)


def test_all_at_once_interrupts_and_says_so() -> None:
    found = arranged({"a": "rr", "b": "r"}, Options(at_once=True))
    assert (found.groups, found.gated, found.interrupts) == ((), False, True)
    assert not arranged({"a": "nn"}, Options(at_once=True)).interrupts


def names(found: Arrangement) -> list[list[str]]:
    return [[replica.name for replica in group] for group in found.groups]


def test_replicas_of_one_host_are_away_together_and_only_where_that_is_allowed() -> None:
    with pytest.raises(UsageError, match="a0, a1 share hosts, and are all there is"):
        arranged({"a": "rr"})
    found = arranged({"a": "rr"}, Options(allow_downtime=True))
    assert names(found) == [["a0", "a1"]]
    assert found.notes == ("a0, a1 share hosts and are all there is: they are away meanwhile",)


def test_the_plan_says_what_moves_as_one() -> None:
    found = arranged({"a": "rr", "b": "rr", "c": "r"})
    assert names(found) == [["a0", "a1"], ["b0", "b1"], ["c0"]]
    assert found.notes[0] == "a0, a1 share hosts and move as one"
    strict = Options(batches=(Size(count=1),), max_unavailable=Size(count=1))
    with pytest.raises(FlagprovError, match="1 more may be out of service") as refused:
        arranged({"a": "rr", "b": "rr"}, strict)
    assert refused.value.remedy == "allow more: rollout --max-unavailable 2"


def test_what_serves_nobody_goes_first() -> None:
    assert names(arranged({"a": "r", "b": "d", "c": "r", "d": "n"})) == [["b0"], ["d0"], ["a0"], ["c0"]]
    assert names(arranged({"a": "r", "b": "n"})) == [["b0"], ["a0"]]


def test_one_that_is_down_beside_one_that_serves_takes_from_the_budget() -> None:
    with pytest.raises(FlagprovError, match="share hosts"):
        arranged({"a": "rd", "b": "rr"})
    more = Options(batches=(Size(count=1),), max_unavailable=Size(count=3), canary=False)
    assert names(arranged({"a": "rd", "b": "rr"}, more)) == [["a0", "a1"], ["b0", "b1"]]


def test_the_whole_fleet_counts_also_where_the_run_is_limited() -> None:
    known = ("a0", "b0", "c0", "d0")
    assert names(arranged({"a": "r"}, known=known)) == [["a0"]]
    with pytest.raises(FlagprovError, match="1 of 4 replicas are out of service"):
        arranged({"a": "r"}, lost=("d0",), known=known)


def test_a_batch_of_all_is_not_cut_down_by_a_default() -> None:
    hosts = dict.fromkeys("abcd", "r")
    assert len(arranged(hosts, Options(batches=parse_batches("100%"), canary=False)).groups) == 1
    assert len(arranged(hosts, Options(canary=False)).groups) == 4
    quarter = Options(batches=parse_batches("100%"), max_unavailable=Size(percent=25), canary=False)
    assert len(arranged(hosts, quarter).groups) == 4


def test_what_starts_before_it_stops_interrupts_nobody_and_is_gated_all_the_same() -> None:
    """A release's only replica needs no permission then; what has to stop first beside it does."""
    found = arranged({"a": "r"}, surging=("a0",))
    assert ([[r.name for r in group] for group in found.groups], found.gated) == ([["a0"]], True)
    with pytest.raises(UsageError, match="only replica"):
        arranged({"a": "r"})
    three = arranged({"a": "r", "b": "r", "c": "r"}, surging=("a0", "c0"))
    assert len(three.groups) == 3
