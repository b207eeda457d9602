"""A spare takes the place of a host: names, ports and ranks stay, and nobody serves the same twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace as changed
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_placement_groups import CHIP, wish

from flagprov import maintenance, replacing
from flagprov.errors import HostError, InventoryError, UsageError
from flagprov.handover import applied, handed, moved, other_ports
from flagprov.models.desired import Placement, Replica, Stage
from flagprov.models.fleet import Connection, Fleet, Host
from flagprov.models.observed import Change, Running, Survey
from flagprov.models.outcome import HostOutcome, Outcome
from flagprov.models.plan import HostPlan
from flagprov.models.request import Request
from flagprov.placement import place
from flagprov.rollout.options import Options
from flagprov.scope import Scope
from flagprov.site import Site
from flagprov.upkeep import _leaving

ALONE = Running("m-1", "m", CHIP.name, ("h0",), (3,), 9011, "running")
SPAN = Running("m-0", "m", CHIP.name, ("h0", "h1"), (2, 3), 9010, "running")


def surveys(**running: Running) -> dict[str, Survey]:
    """Of h0, h1, h2, those that are named: h0=ALONE."""
    names = {name.strip("_"): value for name, value in running.items()}
    return {name: wish(int(name[1:]), running=(names[name],) if names[name] else ()).survey for name in names}


NOTHING: Any = None


def test_a_dead_host_is_known_by_the_site() -> None:
    deployed = {"m-1": {"release": "m", "chip": CHIP.name, "hosts": ["h0"], "port": 9011}}
    found = handed("h0", "h2", None, surveys(h2=NOTHING), deployed)
    assert found.release == "m"
    assert [(r.replica, r.hosts, r.port) for r in found.replicas] == [("m-1", ("h2",), 9011)]


def test_a_dead_rank_is_known_by_its_partners() -> None:
    found = handed("h0", "h2", "m", surveys(h1=SPAN, h2=NOTHING), {})
    assert [(r.replica, r.hosts, r.devices) for r in found.replicas] == [("m-0", ("h2", "h1"), (2, 3))]


def test_who_has_nothing_or_too_much_is_told() -> None:
    with pytest.raises(UsageError, match="h0 has no replica to hand over"):
        handed("h0", "h2", None, surveys(h2=NOTHING), {})
    other = {"n-0": {"release": "n", "chip": CHIP.name, "hosts": ["h0"], "port": 9012}}
    with pytest.raises(UsageError, match="h0 has replicas of m and n") as caught:
        handed("h0", "h2", None, surveys(h0=ALONE), other)
    assert "replace INVENTORY h0 h2 m" in caught.value.remedy
    assert handed("h0", "h2", "m", surveys(h0=ALONE), other).release == "m"


def placed(seen: Mapping[str, Survey], nodes: int) -> Placement:
    wishes = [
        changed(wish(int(name[1:]), nodes=nodes, devices=1 if nodes == 1 else 2, replicas=1), survey=survey)
        for name, survey in seen.items()
    ]
    return place(Fleet(Path("x.ini"), tuple(each.host for each in wishes)), "m", wishes, {"m-1"})


def test_a_replica_keeps_its_name() -> None:
    handover = handed("h0", "h2", None, surveys(h0=ALONE, h2=NOTHING), {})
    found = placed(applied(handover, surveys(h2=NOTHING)), nodes=1)
    assert not found.refusals
    assert [(r.name, r.hosts, len(r.devices)) for r in found.replicas] == [("m-1", ("h2",), 1)]


def test_a_replica_in_its_second_slot_stays_in_it_and_keeps_its_port(tmp_path: Path) -> None:
    """Whether its host still answers or is known by the site only."""
    site = Site(tmp_path)
    site.remember([Replica("m-0", "m", CHIP.name, ("h0",), (3,), 9110, slot=".b")])
    left = changed(ALONE, replica="m-0", port=9010, devices=(0,))
    there = changed(ALONE, replica="m-0", port=9110, slot=".b", beside=left)
    for seen in (surveys(h2=NOTHING), surveys(h0=there, h2=NOTHING)):
        handover = handed("h0", "h2", None, seen, site.deployed())
        found = placed(applied(handover, surveys(h2=NOTHING)), nodes=1)
        assert [(r.name, r.hosts, r.port, r.slot) for r in found.replicas] == [("m-0", ("h2",), 9110, ".b")]
        assert list(other_ports(handover, found)) == []


def test_a_port_that_changes_is_said() -> None:
    handover = handed("h0", "h2", None, surveys(h0=ALONE, h2=NOTHING), {})
    found = placed(applied(handover, surveys(h2=NOTHING)), nodes=1)
    (said,) = other_ports(handover, found)
    assert said.startswith("m-1 had port 9011 on h0 and gets 9010 on h2")


def test_a_rank_goes_over_and_the_others_stay() -> None:
    handover = handed("h0", "h2", None, surveys(h1=SPAN, h2=NOTHING), {})
    found = placed(applied(handover, surveys(h1=SPAN, h2=NOTHING)), nodes=2)
    assert not found.refusals
    assert [(r.name, r.hosts, r.devices, r.port) for r in found.replicas] == [
        ("m-0", ("h2", "h1"), (2, 3), 9010)
    ]


def test_a_host_that_serves_the_release_is_no_spare() -> None:
    handover = handed("h0", "h2", None, surveys(h0=ALONE), {})
    own = Running("m-7", "m", CHIP.name, ("h2",), (0,), 9010, "running")
    with pytest.raises(UsageError, match="h2 is no spare: it has m-7"):
        applied(handover, surveys(h2=own))
    taken = changed(ALONE, hosts=("h2",))  # by a run that was killed
    assert [r.replica for r in applied(handover, surveys(h2=taken))["h2"].running] == ["m-1"]


def test_a_host_that_comes_back_is_left_out() -> None:
    now = changed(ALONE, hosts=("h2",))
    seen = surveys(h0=ALONE, h2=now)
    found = list(moved(seen, {"m-1": {"hosts": ["h2"]}}))
    assert found == [("h0", "m-1", "h2")]
    assert list(moved(seen, {})) == []  # deployed by another controller: nothing is known
    assert list(moved(surveys(h0=ALONE), {"m-1": {"hosts": ["h2"]}})) == []  # and h2 says nothing of it
    back = changed(wish(0), moved=("m-1", "h2"))
    refusal = place(Fleet(Path("x.ini"), (back.host,)), "m", [back]).refusals[0]
    assert refusal.message == "it still has m-1, which h2 took over"
    assert "teardown INVENTORY --limit h0" in refusal.remedy


def test_gateways_keep_what_another_host_took_over() -> None:
    end = Change("container", "flagprov-m-1", Stage.SERVE.label, "remove", "", "m-1")
    plans = {"h0": HostPlan("h0", (end,), "")}
    assert list(_leaving(plans, {})) == ["m-1"]
    assert list(_leaving(plans, {"m-1": {"hosts": ["h0"]}})) == ["m-1"]
    assert list(_leaving(plans, {"m-1": {"hosts": ["h2"]}})) == []


class World:
    """What hosts answer, and what was done in which order."""

    def __init__(self, seen: Mapping[str, Survey]) -> None:
        self.seen = dict(seen)
        self.done: list[str] = []
        self.asked: Request | None = None
        self.fails = False
        self.stuck = False
        self.held = False


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    world = World(surveys(h0=ALONE, h2=NOTHING))
    hosts = tuple(Host(f"h{n}", Connection(f"h{n}"), chip=CHIP.name) for n in range(3))

    class Asked:
        def __init__(self, fleet: Fleet) -> None:
            """Nobody is connected to."""

        def __enter__(self) -> Asked:
            return self

        def __exit__(self, *_: object) -> None:
            """Nothing to close."""

        def once(self, some: object, function: object) -> dict[str, Any]:
            silent = {host.name: HostError(host.name, "connect", "no answer") for host in hosts}
            return silent | world.seen

    def scope(request: Request) -> Scope:
        fleet = tuple(host for host in hosts if request.limit in (None, host.name))
        return Scope(Fleet(request.inventory, fleet), Site(tmp_path), request.release)

    def deploy(
        request: Request, *, approve: Any, on_event: Any, options: Options, verb: str, make_room: Any
    ) -> Outcome | None:
        world.asked = request
        assert options.at_once
        plan: Any = SimpleNamespace(changes=3)
        if not approve(plan):
            return None
        error = None
        if not world.fails:
            world.done.append("stage")
            error = make_room()
            world.done += [] if error else ["deploy"]
        state = "failed" if world.fails or error else "changed"
        return Outcome("replace", "m", (HostOutcome("h2", state, message=error.message if error else ""),))

    def change(verb: str, scope: Scope, *_: object) -> Outcome:
        name = scope.fleet.hosts[0].name
        if world.held:
            raise UsageError("another controller changes it")
        world.done.append(f"retire {name}")
        state = "unreachable" if name not in world.seen else "failed" if world.stuck else "changed"
        return Outcome(verb, "", (HostOutcome(name, state, message="no answer"),))

    monkeypatch.setattr(replacing, "Connections", Asked)
    monkeypatch.setattr(replacing, "scope_of", scope)
    monkeypatch.setattr(replacing.pipeline, "deploy", deploy)
    monkeypatch.setattr(replacing, "change", change)
    return world


def act(old: str = "h0", new: str = "h2", approve: bool = True) -> Outcome | None:
    request = Request(Path("x.ini"))
    return replacing.replace(request, old, new, approve=lambda plan: approve, on_event=lambda event: None)


def test_the_old_host_is_given_up_when_the_new_one_serves(world: World) -> None:
    world.seen["h0"] = changed(
        world.seen["h0"], records={"m-1": {"replica": {"release": "m"}, "set": ["port=9011"]}}
    )
    outcome = act()
    assert world.done == ["stage", "deploy", "retire h0"]
    assert world.asked is not None
    assert (world.asked.limit, world.asked.release, world.asked.sets) == ("h2", "m", ("port=9011",))
    assert outcome is not None
    assert outcome.notes == ("h0 is cordoned; h2 has what it had",)


def test_the_old_host_serves_on_when_the_new_one_does_not(world: World) -> None:
    world.fails = True
    assert act() is not None
    assert world.done == []


def test_no_rank_is_there_twice(world: World) -> None:
    world.seen = surveys(h0=SPAN, h1=SPAN, h2=NOTHING)
    assert act() is not None
    assert world.done == ["stage", "retire h0", "deploy"]
    assert world.asked is not None
    assert world.asked.limit == "h2,h1"


@pytest.mark.parametrize(("trouble", "said"), [("stuck", "no answer"), ("held", "another controller")])
def test_nothing_starts_beside_a_rank_that_is_still_there(world: World, trouble: str, said: str) -> None:
    world.seen = surveys(h0=SPAN, h1=SPAN, h2=NOTHING)
    setattr(world, trouble, True)
    outcome = act()
    assert outcome is not None
    assert said in outcome.hosts[0].message
    assert "deploy" not in world.done


def test_a_rank_serves_on_where_its_stand_in_cannot_be_staged(world: World) -> None:
    world.seen = surveys(h0=SPAN, h1=SPAN, h2=NOTHING)
    world.fails = True
    assert act() is not None
    assert world.done == []


def test_nothing_happens_unasked(world: World) -> None:
    world.seen = surveys(h0=SPAN, h1=SPAN, h2=NOTHING)
    assert act(approve=False) is None
    assert world.done == []


def test_a_dead_host_is_said_to_be_taken_out(world: World) -> None:
    world.seen = surveys(h1=SPAN, h2=NOTHING)
    outcome = act()
    assert outcome is not None
    assert "take it out of the inventory" in outcome.notes[0]


def test_who_cannot_take_over(world: World) -> None:
    with pytest.raises(InventoryError, match="no host h9"):
        act(new="h9")
    with pytest.raises(UsageError, match="cannot replace itself") as caught:
        act(new="h0")
    assert "trust --replace" in caught.value.remedy
    mark = {"by": "ann", "since": "today"}
    world.seen["h2"] = changed(world.seen["h2"], facts={"cordoned": mark})
    with pytest.raises(HostError, match="cordoned by ann"):
        act()
    del world.seen["h2"]
    with pytest.raises(HostError, match="no answer"):
        act()


def test_a_mark_says_why() -> None:
    assert "replaced by h2" in str(maintenance.mark_of("replaced by h2").spec["content"])
