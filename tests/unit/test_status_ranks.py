"""A replica over several hosts is as good as its worst rank; one without a trace counts too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flagprov.models.desired import Placement, Replica
from flagprov.models.fleet import Connection, Fleet, Host
from flagprov.models.outcome import ReplicaStatus
from flagprov.verify.status import merge, of_placement

FLEET = Fleet(Path("hosts.ini"), (Host("a", Connection("192.0.2.1")), Host("b", Connection("192.0.2.2"))))


def said(state: str) -> list[dict[str, Any]]:
    return [
        {
            "replica": "m-0", "release": "m", "chip": "c", "hosts": ["a", "b"], "port": 9010,
            "state": state, "detail": f"it is {state}",
        }
    ]  # fmt: skip


def merged(answers: dict[str, list[dict[str, Any]]], silent: tuple[str, ...] = ()) -> ReplicaStatus:
    (status,) = merge(FLEET, answers, silent, {}, None)
    return status


def ranks(status: ReplicaStatus) -> list[tuple[str, int, str]]:
    return [(rank.host, rank.rank, rank.state) for rank in status.ranks]


def test_ready_is_all_ranks_ready() -> None:
    status = merged({"b": said("ready"), "a": said("ready")})
    assert (status.state, ranks(status)) == ("ready", [("a", 0, "ready"), ("b", 1, "ready")])


def test_a_dead_rank_is_never_ready() -> None:
    status = merged({"a": said("ready"), "b": said("failed")})
    assert (status.state, status.detail) == ("failed", "it is failed")
    assert merged({"a": said("ready"), "b": said("starting")}).state == "starting"


def test_a_rank_without_a_trace_or_an_answer_is_missed() -> None:
    status = merged({"a": said("ready"), "b": []})
    assert (status.state, ranks(status)) == ("absent", [("a", 0, "ready"), ("b", 1, "absent")])
    assert merged({"b": said("ready")}, silent=("a",)).state == "unreachable"


def test_a_deploy_that_finds_something_else_there_says_failed() -> None:
    replica = Replica("m-0", "m", "c", ("a",), (0,), 9010)
    note = {"replica": "m-0", "state": "wrong", "detail": "it serves x, not m"}
    (status,) = of_placement(FLEET, Placement((replica,)), {"a": {"endpoint of m-0": note}})
    assert (status.state, status.detail) == ("failed", "it serves x, not m")
    assert [rank.state for rank in status.ranks] == ["failed"]
