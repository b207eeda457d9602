"""What has to go elsewhere goes when all is staged, and before anything changes what runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flagprov import pipeline
from flagprov.apply.bring import Brought
from flagprov.errors import HostError
from flagprov.models.desired import Node, Placement, Replica
from flagprov.models.fleet import Connection, Fleet, Host
from flagprov.models.outcome import HostOutcome, Outcome
from flagprov.models.plan import Batch, Change, HostPlan, Plan, ReplicaPlan
from flagprov.rollout.hooks import NO_HOOKS
from flagprov.rollout.options import Options
from flagprov.site import Site

HOSTS = ("h1", "h2")
START = Change("container", "flagprov-m-0", "serve", "create", "", "m-0")


class Sessions:
    def each(self, hosts: Sequence[Host], function: Callable[[Any], Any], keep: Any = None) -> dict[str, Any]:
        found = {}
        for host in hosts:
            try:
                found[host.name] = function(SimpleNamespace(host=host, ask=lambda *_: {"log": []}))
            except HostError as error:
                found[host.name] = error
        return found


def deploy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unstaged: str = "", trouble: HostError | None = None
) -> tuple[list[str], dict[str, HostOutcome]]:
    """What was done in which order on the hosts of one replica, and what became of them."""
    done: list[str] = []
    fleet = Fleet(tmp_path / "hosts.ini", tuple(Host(name, Connection(name)) for name in HOSTS))
    nodes = tuple(Node(name, name, "eth0") for name in HOSTS)
    placement = Placement((Replica("m-0", "m", "c", HOSTS, (0,), 9010, nodes),))
    plans = tuple(HostPlan(name, (START,), "d") for name in HOSTS)
    plan = Plan("replace", "m", (Batch((ReplicaPlan("m-0", plans, "nothing"),)),))
    surveys: Any = {name: SimpleNamespace(running=(), records={}) for name in HOSTS}
    release = SimpleNamespace(name="m", golden=None)
    job: Any = SimpleNamespace(
        bundle=None,
        fleet=fleet, site=Site(tmp_path), release=release, sets=(), hooks=NO_HOOKS, variants={},
        settings_keys=dict.fromkeys(HOSTS, ()), servings=lambda *_: [],
    )  # fmt: skip

    class Bringing:
        def __init__(self, *_: object) -> None:
            self.placement = placement

        def stage(self, session: Any, *_: object) -> None:
            if session.host.name == unstaged:
                raise HostError(unstaged, "image", "no such image")
            done.append(f"stage {session.host.name}")

        def bring(self, session: Any, *_: object) -> Brought:
            done.append(f"bring {session.host.name}")
            return Brought(HostOutcome(session.host.name, "changed"))

    def make_room() -> HostError | None:
        done.append("make room")
        return trouble

    outcomes: dict[str, HostOutcome] = {}

    def finish(job: Any, picture: Any, brought: Any, begun: float) -> Outcome:
        outcomes.update({name: found.outcome for name, found in brought.items()})
        return Outcome("replace", "m", ())

    nothing = lambda *_, **__: None  # noqa: E731
    gateways = SimpleNamespace(
        status=lambda again=False: (), provision=nothing, settle=nothing, drain=nothing, tidy=nothing,
        fleet=fleet,
    )  # fmt: skip
    roles = SimpleNamespace(
        first=dict, outcomes={}, waiting=set(), in_batch=lambda names: {}, placement=placement
    )
    lease = SimpleNamespace(wire={})
    monkeypatch.setattr(pipeline, "prepare", lambda request: job)
    monkeypatch.setattr(pipeline, "Connections", lambda fleet: nullcontext(Sessions()))
    monkeypatch.setattr(pipeline, "Gateways", lambda fleet: nullcontext(gateways))
    monkeypatch.setattr(pipeline, "draw", lambda *_: pipeline.Picture(plan, placement, surveys))
    monkeypatch.setattr(pipeline, "Lease", lambda *_: nullcontext(lease))
    monkeypatch.setattr(pipeline, "Provisioning", lambda *_: roles)
    monkeypatch.setattr(pipeline, "Bringing", Bringing)
    monkeypatch.setattr(pipeline, "preflight", lambda *_: {})
    monkeypatch.setattr(pipeline, "_finish", finish)
    supplied = SimpleNamespace(failures={}, touched=(), outcomes={})
    monkeypatch.setattr(pipeline.supply, "bring", lambda *_: supplied)
    pipeline.deploy(
        pipeline.Request(fleet.inventory, "m"),
        approve=lambda plan: True,
        options=Options(at_once=True),
        verb="replace",
        make_room=make_room,
    )
    return done, outcomes


def test_room_is_made_between_staging_and_the_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done, outcomes = deploy(tmp_path, monkeypatch)
    assert done == ["stage h1", "stage h2", "make room", "bring h1", "bring h2"]
    assert {outcome.state for outcome in outcomes.values()} == {"changed"}


def test_no_room_is_made_for_what_cannot_be_staged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done, outcomes = deploy(tmp_path, monkeypatch, unstaged="h2")
    assert done == ["stage h1"]
    assert {outcome.state for outcome in outcomes.values()} == {"failed"}


def test_without_room_nothing_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = HostError("h0", "serve", "its container does not stop")
    done, outcomes = deploy(tmp_path, monkeypatch, trouble=old)
    assert done == ["stage h1", "stage h2", "make room"]
    assert {outcome.message for outcome in outcomes.values()} == {"h0: its container does not stop"}
