"""Provisioning hosts where something runs: who waits for its batch, what is said, what is put back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from flagprov.apply import provision
from flagprov.catalog import load_release
from flagprov.chips import load_chips
from flagprov.errors import HostError
from flagprov.models.desired import Placement, Replica
from flagprov.models.fleet import Connection, Fleet, Host
from flagprov.models.observed import Device, Running, Survey
from flagprov.models.outcome import HostOutcome
from flagprov.models.plan import HostPlan
from flagprov.plan import build, host_plan
from flagprov.preparation import Job
from flagprov.rollout import reprovision
from flagprov.rollout.arrange import arrange
from flagprov.rollout.options import Options
from flagprov.rollout.order import Size
from flagprov.rollout.reprovision import Provisioning, busy, drained, notes, step
from flagprov.site import Site

RELEASE = "qwen3-tiny-standin"
ONE_BY_ONE = Options(batches=(Size(count=1),), max_unavailable=Size(count=1), allow_downtime=True)


def running(state: str = "running", release: str = RELEASE, device: int = 0) -> Running:
    return Running(f"{release}-0", release, "cpu-x86", ("a",), (device,), 9010 + device, state)


def seen(*replicas: Running, processes: tuple[str, ...] = (), **facts: Any) -> Survey:
    devices = (Device(0, "any", None, processes), Device(1, "any", None))
    return Survey(
        "a", "x86_64", "Debian", "6", 2, 4096, "20.10.5", "old", {"cpuinfo": devices}, replicas, facts=facts
    )


def job(tmp_path: Path, *hosts: str, chip: str = "cpu-x86", **more: Any) -> Job:
    fleet = Fleet(tmp_path / "hosts.ini", tuple(Host(n, Connection(n), chip=chip) for n in hosts))
    release = load_release(RELEASE)
    variant = release.variants["cpu-x86"]
    variants, keys = dict.fromkeys(hosts, variant), dict.fromkeys(hosts, frozenset[str]())
    return Job(fleet, Site(tmp_path), release, load_chips(), variants, None, (), keys, **more)


@pytest.mark.parametrize(
    ("survey", "expected"),
    [
        (None, False),
        (seen(), False),
        (seen(running(state="exited")), False),
        (seen(running(state="absent")), False),
        (seen(running()), True),
        (seen(replace(running("exited"), beside=running("paused"))), True),
        (seen(replace(running("absent"), beside=running("exited"))), False),
        (seen(foreign=["database"]), True),
        (seen(processes=("python (pid 4)",)), True),
    ],
)
def test_busy_is_where_a_restart_would_end_something(survey: Survey | None, expected: bool) -> None:
    assert busy(survey) is expected


def test_nothing_is_drained_without_permission(tmp_path: Path) -> None:
    surveys = {"a": seen(running()), "b": seen()}
    assert drained(job(tmp_path, "a", "b"), ("a", "b"), surveys) == ()
    for permission in ("allow_disruption", "allow_reboot"):
        assert drained(job(tmp_path, "a", "b", **{permission: True}), ("a", "b"), surveys) == ("a",)


def test_the_plan_says_what_provisioning_may_cost(tmp_path: Path) -> None:
    cautious, brave = (
        job(tmp_path, "a", chip="nvidia-h100"),
        job(tmp_path, "a", chip="nvidia-h100", allow_reboot=True),
    )
    (host,) = cautious.fleet.hosts
    assert step(cautious, host, "roles have changed").cost == "re-provision"
    assert step(brave, host, "roles have changed").cost == "reboot"
    assert "nvidia_driver" in step(cautious, host, "roles have changed").name
    plain = job(tmp_path, "a", allow_reboot=True)
    assert step(plain, plain.fleet.hosts[0], "never provisioned").cost == "re-provision"

    refusing, lasting = notes(cautious, {"a"}, {"a": seen(running())})
    assert "refuses" in refusing
    assert "--allow-disruption" in refusing
    assert "not rolled back" in lasting
    assert "the host rebooted" in notes(brave, {"a"}, {"a": seen(running())})[0]
    assert notes(brave, {"a"}, {"a": seen()}) == [lasting]
    assert notes(brave, (), {}) == []


def test_drained_hosts_go_one_batch_at_a_time(tmp_path: Path) -> None:
    names = ("a", "b", "c")
    this = job(tmp_path, *names, allow_disruption=True)
    replicas = tuple(Replica(f"m-{n}", RELEASE, "cpu-x86", (n,), (0,), 9010) for n in names)
    plans: dict[str, HostPlan] = {
        host.name: host_plan(host.name, None, step(this, host, "roles have changed"), "")
        for host in this.fleet.hosts
    }
    placement = Placement(replicas)
    serving = {name: seen(running()) for name in names}
    assert not arrange(placement, plans, serving, ONE_BY_ONE).gated
    foreign = {name: seen(foreign=["database"]) for name in names}
    assert not arrange(placement, plans, foreign, ONE_BY_ONE, drained=names).gated
    arranged = arrange(placement, plans, serving, ONE_BY_ONE, drained=names)
    assert arranged.gated
    plan = build("deploy", RELEASE, placement, plans, (), groups=arranged.groups)
    assert [[r.replica for r in batch.replicas] for batch in plan.batches] == [["m-a"], ["m-b"], ["m-c"]]


class World:
    """A host that answers, the roles as they end, and all that happened in order."""

    def __init__(self, roles: str = "", afterwards: str = "") -> None:
        self.roles, self.afterwards = roles, afterwards
        self.log: list[str] = []
        self.probed: list[Any] = []
        self.admitted: list[Any] = []

    def provision(
        self, fleet: Any, hosts: Sequence[Host], on_event: Any, **how: Any
    ) -> dict[str, HostOutcome]:
        self.log.append(f"roles on {', '.join(host.name for host in hosts)}")
        state: Any = "failed" if self.roles else "changed"
        return {host.name: HostOutcome(host.name, state, 1, "driver", self.roles) for host in hosts}

    def converge(self, session: Any, resources: Any, *_: Any) -> None:
        units = {True: "start", False: "stop"}
        done = [f"{units.get(each.spec.get('active'), each.kind)} {each.replica}" for each in resources]
        self.probed += [each.spec for each in resources if each.kind == "probe"]
        self.log += dict.fromkeys(done)  # a replica is stopped in both of its slots

    def leave(self, replicas: Sequence[str]) -> None:
        self.log.append(f"no requests for {', '.join(replicas)}")

    def admit(self, release: str, probes: Sequence[Any]) -> None:
        self.log.append(f"requests for {', '.join(probe['replica'] for probe in probes)}")
        self.admitted += probes

    def each(self, hosts: Sequence[Host], function: Callable[[Any], Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for host in hosts:
            try:
                found[host.name] = function(SimpleNamespace(host=host, close=lambda: None))
            except HostError as error:
                found[host.name] = error
        return found


@pytest.fixture
def provisioning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[World], Provisioning]:
    before = seen(running(), running(release="other", device=1))
    record: Any = {"other-0": {"probe": {"replica": "other-0"}}}
    before = replace(before, records=record)

    def make(world: World) -> Provisioning:
        monkeypatch.setattr(provision, "provision", world.provision)
        monkeypatch.setattr(reprovision, "converge", world.converge)
        monkeypatch.setattr(reprovision, "survey", lambda session, **_: before)
        examination = SimpleNamespace(ask_all=lambda *_: {}, problems=lambda name: _problems(world))
        monkeypatch.setattr(reprovision, "Examination", lambda *_: examination)
        this = job(tmp_path, "a", allow_disruption=True)
        events: Any = lambda event: None  # noqa: E731
        events.directory = tmp_path
        nothing = cast(Any, None)
        gateways = cast(Any, world)
        return Provisioning(
            this, cast(Any, world), nothing, events, {"a": before}, Placement(()), ["a"], gateways
        )

    return make


def _problems(world: World) -> list[Any]:
    from flagprov.models.observed import Problem

    return [Problem("fabric", world.afterwards)] if world.afterwards else []


def test_a_serving_host_waits_for_its_batch(provisioning: Callable[[World], Provisioning]) -> None:
    world = World()
    roles = provisioning(world)
    assert roles.first() == {}
    assert world.log == []
    assert roles.in_batch(["a"]) == {}
    assert world.log == [
        "no requests for other-0", f"stop {RELEASE}-0", "stop other-0", "roles on a",
        "start other-0", "probe other-0", "requests for other-0",
    ]  # fmt: skip
    assert roles.in_batch(["a"]) == {}  # once is enough
    assert world.log[7:] == []


@pytest.mark.parametrize(
    ("world", "message"),
    [(World(roles="no such version"), "no such version"), (World(afterwards="it is down"), "it is down")],
    ids=["the roles fail", "the host is not fit afterwards"],
)
def test_what_was_drained_is_started_again_when_it_fails(
    provisioning: Callable[[World], Provisioning], world: World, message: str
) -> None:
    (error,) = provisioning(world).in_batch(["a"]).values()
    assert error.message == message
    assert world.log[4:] == [f"start {RELEASE}-0", "start other-0", "requests for other-0"]


def test_a_second_engine_is_drained_too_and_only_the_replica_comes_back(
    provisioning: Callable[[World], Provisioning],
) -> None:
    world = World(roles="no such version")
    roles = provisioning(world)
    down = replace(running("exited", "third"), beside=running("paused", "third"))
    roles.surveys["a"] = seen(replace(running(), beside=running()), down)
    roles.in_batch(["a"])
    assert world.log == [
        "no requests for third-0", f"stop {RELEASE}-0", "stop third-0", "roles on a", f"start {RELEASE}-0",
    ]  # fmt: skip


def test_what_served_in_the_other_slot_is_found_there_again(
    provisioning: Callable[[World], Provisioning],
) -> None:
    """Once it is drained, a look shows two engines that are down, and takes the first for the replica."""
    world = World()
    roles = provisioning(world)
    other = replace(running(release="other", device=1), slot=".b")
    served = {"other-0": {"probe": {"replica": "other-0", "port": 9111, "container": "flagprov-other-0.b"}}}
    roles.surveys["a"] = replace(seen(other), records=cast(Any, served))
    assert roles.in_batch(["a"]) == {}
    assert "start other-0" in world.log
    assert world.probed == world.admitted == [served["other-0"]["probe"]]


@pytest.mark.parametrize("fault", ["", "disk full"])
def test_packages_of_a_bundle_come_before_the_roles(
    provisioning: Callable[[World], Provisioning], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    from flagprov.distribute import offline

    world = World()

    def bring(*given: Any) -> tuple[dict[str, bool], dict[str, HostError]]:
        world.log.append("packages")
        return {"a": True}, {"a": HostError("a", "transfer", fault)} if fault else {}

    monkeypatch.setattr(offline, "bring", bring)
    roles = provisioning(world)
    roles.job, roles.lease = replace(roles.job, bundle=cast(Any, "bundle")), SimpleNamespace(wire={})
    broken = roles.in_batch(["a"])
    assert [error.message for error in broken.values()] == ([fault] if fault else [])
    assert "packages" in world.log and ("roles on a" in world.log) is not bool(fault)
    assert world.log[-1] == "requests for other-0"  # what was drained serves again in both cases
