"""What a gateway has to be told, and how it is shown."""

from __future__ import annotations

from typing import Any

import pytest

from flagprov.errors import HostError, UnreachableError
from flagprov.gateway.shown import gateway_status
from flagprov.gateway.wanted import plan
from flagprov.models.fleet import Connection, Host
from flagprov.models.outcome import GatewayStatus, Outcome
from flagprov.report.gateway import all_serve, gateway_lines
from flagprov.report.status import is_well

WANTED = {"r-0": {"address": "192.0.2.1", "port": 9010}, "r-1": {"address": "192.0.2.2", "port": 9010}}


def shown(**states: str) -> dict[str, Any]:
    servers = {
        name.replace("_", "-"): dict(WANTED[name.replace("_", "-")], state=s) for name, s in states.items()
    }
    return {"releases": {"r": servers}, "running": True, "url": "http://192.0.2.9:8000", "provisioned": "x"}


@pytest.mark.parametrize(
    ("known", "reason", "steps"),
    [
        (shown(r_0="in", r_1="in"), "", None),
        (shown(r_0="in", r_1="out"), "", ["r-1"]),
        (shown(r_0="in"), "", ["r-1"]),
        ({}, "it is no gateway yet", ["host_baseline, gateway", "r-0", "r-1"]),
        (
            {"releases": {"r": {n: {**s, "port": 1, "state": "in"} for n, s in WANTED.items()}}},
            "",
            ["r-0", "r-1"],
        ),
    ],
)
def test_steps(known: dict[str, Any], reason: str, steps: list[str] | None) -> None:
    found = plan("gw", "r", WANTED, known, reason)
    assert (found and [step.name for step in found.steps]) == steps


def status_of(**more: Any) -> GatewayStatus:
    known = shown(r_0="in", r_1="in")
    for name, value in more.items():
        known["releases"]["r"][name.replace("_", "-")].update(value)
    return gateway_status(Host("gw", Connection("192.0.2.9")), known, None)


def test_a_replica_that_was_put_out_says_why() -> None:
    live = {"status": "DOWN (agent)", "sessions": 0, "detail": "Layer7 check passed"}
    agent = {"state": "down", "detail": "hung: 3 requests and no token for 15 s"}
    found = status_of(r_0={"live": {"status": "UP", "sessions": 2}}, r_1={"live": live, "agent": agent})
    assert [(s.replica, s.state, s.sessions) for s in found.servers] == [("r-0", "in", 2), ("r-1", "down", 0)]
    assert found.servers[1].detail == "hung: 3 requests and no token for 15 s"
    assert not all_serve([found])
    assert not is_well(Outcome("status", "", (), gateways=(found,)))
    text = "\n".join(str(line) for line in gateway_lines([found]))
    assert "hung" in text


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("UP", "in"),
        ("UP 1/3", "in"),
        ("DRAIN", "draining"),
        ("MAINT", "out"),
        ("DOWN 1/2", "down"),
        ("no check", "in"),
    ],
)
def test_haproxys_words_in_ours(status: str, state: str) -> None:
    assert status_of(r_0={"live": {"status": status}}).servers[0].state == state


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (UnreachableError("gw", "connect", "no route"), "unreachable"),
        (HostError("gw", "gateway", "x"), "failed"),
    ],
)
def test_a_gateway_that_fails_is_seen(error: HostError, state: str) -> None:
    found = gateway_status(Host("gw", Connection("192.0.2.9")), {}, error)
    assert (found.state, found.message) == (state, error.message)
    assert not Outcome("deploy", "r", (), gateways=(found,)).succeeded


def test_a_fleet_without_gateways_shows_nothing() -> None:
    assert gateway_lines(()) == []
    assert all_serve(())
