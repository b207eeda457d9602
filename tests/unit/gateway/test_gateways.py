"""Gateways that do not answer, and a fleet that has none."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from flagprov.errors import FlagprovError, UnreachableError
from flagprov.gateway.gateways import Gateways
from flagprov.models.desired import Placement
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
