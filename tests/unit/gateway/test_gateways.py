"""Gateways that do not answer, and a fleet that has none."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from flagprov.errors import FlagprovError, HostError, UnreachableError
from flagprov.gateway.gateways import Gateways
from flagprov.gateway.wanted import plan
from flagprov.models.desired import Placement, Replica
from flagprov.models.fleet import Connection, Fleet, Host
from flagprov.models.plan import Plan

GATEWAY = Host("gw", Connection("192.0.2.9"))
JOB = cast(Any, SimpleNamespace(release=SimpleNamespace(name="r"), fleet=SimpleNamespace(hosts=())))
PLAN = Plan("rollout", "r", ())


@pytest.fixture
def away() -> Gateways:
    """Two gateways, one of which cannot be reached."""
    found = Gateways(Fleet(Path("x.ini"), (), (GATEWAY, Host("gw2", Connection("192.0.2.8")))))
    found.silent = {"gw": UnreachableError("gw", "connect", "no route to host")}
    found.shown = {"gw2": {"releases": {"r": {"r-0": {"state": "in"}}}}}
    return found


def test_nothing_that_serves_is_changed_behind_a_gateway_that_cannot_drain(away: Gateways) -> None:
    with pytest.raises(FlagprovError, match="gw cannot be told to drain: no route to host"):
        away.planned(PLAN, JOB, Placement(()), True)
    with pytest.raises(UnreachableError):
        away.drain("r", ["r-0"])


def test_what_interrupts_nobody_goes_on(away: Gateways) -> None:
    assert [plan.host for plan in away.planned(PLAN, JOB, Placement(()), False).gateways] == ["gw2"]
    shown = {gateway.host: gateway.state for gateway in away.status()}
    assert shown["gw"] == "unreachable"


def test_nothing_is_stopped_behind_a_gateway_that_cannot_drain(away: Gateways) -> None:
    with pytest.raises(FlagprovError, match="gw cannot be told to drain: no route to host"):
        away.must_answer({"r-0"})
    away.must_answer(set())
    with pytest.raises(UnreachableError):
        away.leave(["r-0"])


class Asked:
    """Gateways that answer; one of them refuses what it is told to."""

    def __init__(self, refused: str, gateway: str = "gw") -> None:
        self.refused, self.gateway = refused, gateway
        self.told: list[str] = []

    def each(self, hosts: Any, function: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for host in hosts:
            session = SimpleNamespace(
                host=host, ask=lambda payload, *_, host=host: self.ask(host.name, payload)
            )
            try:
                found[host.name] = function(session)
            except HostError as error:
                found[host.name] = error
        return found

    def ask(self, name: str, payload: dict[str, Any]) -> dict[str, Any]:
        what = payload.get("replica") or ",".join(payload.get("replicas") or payload["servers"])
        said = f"{payload['do']} {what}"
        self.told.append(f"{name}: {said}")
        if name == self.gateway and said == self.refused:
            raise HostError(name, "gateway", f"{what}: HAProxy does not answer")
        return {}


def answering(refused: str) -> tuple[Gateways, Asked]:
    found = Gateways(Fleet(Path("x.ini"), (), (GATEWAY, Host("gw2", Connection("192.0.2.8")))))
    known = {f"r-{i}": {"state": "in", "address": "a", "port": 1} for i in range(2)}
    found.shown = {name: {"releases": {"r": known}} for name in ("gw", "gw2")}
    asked = Asked(refused)
    found._connections = cast(Any, asked)
    return found, asked


def test_a_drain_that_fails_on_one_gateway_is_taken_back_on_the_others() -> None:
    gateways, asked = answering("drain r-0")
    with pytest.raises(HostError, match="HAProxy does not answer"):
        gateways.drain("r", ["r-0"])
    assert asked.told == ["gw: drain r-0", "gw2: drain r-0", "gw2: admit r-0"]


def test_what_was_refused_is_put_out_wherever_that_is_possible_and_stays_out() -> None:
    gateways, asked = answering("drain r-0")
    assert list(gateways.put_out("r", ["r-0"])) == ["gw"]
    assert asked.told == ["gw: drain r-0", "gw2: drain r-0"]


def test_a_replica_that_is_not_let_in_keeps_no_other_out(monkeypatch: pytest.MonkeyPatch) -> None:
    gateways, asked = answering("admit r-0")
    wanted = {f"r-{i}": {"address": "b", "port": 1} for i in range(2)}
    monkeypatch.setattr("flagprov.gateway.gateways.servers", lambda job, placement: wanted)
    replicas = tuple(Replica(f"r-{i}", "r", "c", (f"h{i}",), (0,), 1) for i in range(2))
    fine = {f"h{i}": SimpleNamespace(outcome=SimpleNamespace(state="changed")) for i in range(2)}
    gateways.settle(JOB, Placement(replicas), cast(Any, fine))
    assert [told for told in asked.told if "admit" in told] == [
        "gw: admit r-0", "gw: admit r-1", "gw2: admit r-0", "gw2: admit r-1",
    ]  # fmt: skip
    assert gateways.silent["gw"].message == "r-0: HAProxy does not answer"


def test_a_gateway_that_this_run_has_made_knows_nobody_yet() -> None:
    gateways, asked = answering("")
    gateways.shown["gw2"] = {}
    gateways.admit("r", [probed(1)])
    assert asked.told == ["gw: put r-0", "gw: admit r-0"]


def test_what_no_gateway_knows_needs_no_drain(away: Gateways) -> None:
    away.drain("r", ["r-1"])
    away.drain("other", ["r-0"])


def test_a_fleet_without_gateways_is_as_it_was() -> None:
    with Gateways(Fleet(Path("x.ini"), ())) as none:
        assert none.planned(PLAN, JOB, Placement(()), True) is PLAN
        assert none.status(again=True) == ()
        none.drain("r", ["r-0"])
        none.admit("r", [{"replica": "r-0"}])
        none.leave(["r-0"])
        none.forget(["r-0"], uninstall=True)


def probed(port: int) -> dict[str, Any]:
    return {"replica": "r-0", "port": port, "model": "m", "readiness": "chat", "path": "/health"}


def test_a_new_engine_joins_the_old_one_and_takes_its_name_when_that_is_gone() -> None:
    gateways, asked = answering("")
    gateways.join("r", [probed(2)])
    gateways.drain("r", ["r-0"])
    gateways.admit("r", [probed(2)])
    assert [told for told in asked.told if told.startswith("gw: ")] == [
        "gw: put r-0.beside", "gw: admit r-0.beside", "gw: drain r-0",
        "gw: put r-0", "gw: admit r-0", "gw: remove r-0.beside",
    ]  # fmt: skip
    asked.told.clear()
    gateways.admit("r", [probed(2)])
    assert not [told for told in asked.told if "beside" in told]


def test_a_new_engine_whose_name_was_not_taken_up_has_it_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    gateways, asked = answering("admit r-0")
    gateways.join("r", [probed(2)])
    gateways.drain("r", ["r-0"])
    with pytest.raises(HostError):
        gateways.admit("r", [probed(2)])
    asked.refused = ""
    asked.told.clear()
    wanted = {"r-0": {"address": "a", "port": 2}}
    monkeypatch.setattr("flagprov.gateway.gateways.servers", lambda job, placement: wanted)
    fine = {"h0": SimpleNamespace(outcome=SimpleNamespace(state="changed"))}
    placement = Placement((Replica("r-0", "r", "c", ("h0",), (0,), 2),))
    gateways.settle(JOB, placement, cast(Any, fine))
    assert [told for told in asked.told if told.startswith("gw: ")] == [
        "gw: put r-0", "gw: admit r-0", "gw: remove r-0.beside"
    ]  # fmt: skip


def test_a_new_engine_that_fails_leaves_alone() -> None:
    gateways, asked = answering("")
    assert gateways.part("r", ["r-0"]) == {}
    assert asked.told == []
    gateways.join("r", [probed(2)])
    gateways.part("r", ["r-0"])
    assert [told for told in asked.told if told.startswith("gw: ")][2:] == [
        "gw: drain r-0.beside", "gw: remove r-0.beside"
    ]  # fmt: skip


def left() -> tuple[Gateways, Asked]:
    """As a run that was killed leaves them."""
    gateways, asked = answering("")
    known = gateways.shown["gw"]["releases"]["r"]
    known["r-0.beside"] = {"state": "in", "address": "a", "port": 2}
    return gateways, asked


def test_what_a_killed_run_left_goes_once_the_replica_by_its_record_has_the_requests() -> None:
    gateways, asked = left()
    running = SimpleNamespace(replica="r-0", release="r", state="running")
    seen = SimpleNamespace(running=[running], records={"r-0": {"probe": probed(1)}})
    gateways.tidy("r", cast(Any, {"h": seen}))
    assert [told for told in asked.told if told.startswith("gw: ")] == [
        "gw: put r-0", "gw: admit r-0", "gw: drain r-0.beside", "gw: remove r-0.beside"
    ]  # fmt: skip
    asked.told.clear()
    gateways.tidy("r", cast(Any, {"h": seen}))
    assert asked.told == []


def test_what_is_drained_or_put_out_is_so_with_what_was_left_beside_it() -> None:
    gateways, asked = left()
    gateways.drain("r", ["r-0"])
    gateways.put_out("r", ["r-0"])
    gateways.leave(["r-0"])
    gateways.forget(["r-0"], uninstall=False)
    assert {told for told in asked.told if told.startswith("gw: ")} == {
        "gw: drain r-0,r-0.beside", "gw: remove r-0,r-0.beside"
    }  # fmt: skip


def test_a_plan_says_what_a_killed_run_left() -> None:
    found = plan("gw", "r", {"r-0": {"address": "a", "port": 1}}, left()[0].shown["gw"], "")
    assert found
    assert [(step.action, step.name, step.reason) for step in found.steps] == [
        ("remove", "r-0.beside", "a run that was cut off left it")
    ]
