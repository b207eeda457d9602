"""What runs on a host: replicas of ours, and containers that are not ours to end."""

from __future__ import annotations

from typing import Any

import pytest

from flagprov.host import survey
from flagprov.host.wire import Blocked

OURS = {"release": "m", "chip": "graviton4", "hosts": "a,b", "devices": "0,1", "port": "9010"}


def container(name: str, state: str, labels: dict[str, str] | None) -> dict[str, Any]:
    return {"Names": [f"/{name}"], "State": state, "Labels": labels}


CONTAINERS = [
    container(
        "flagprov-m-0", "running", {f"io.flagprov.{k}": v for k, v in {**OURS, "replica": "m-0"}.items()}
    ),
    container("flagprov-odd", "running", {"io.flagprov.replica": "odd"}),
    container("database", "running", {"tier": "db"}),
    container("batch", "exited", {}),
    container("plain", "running", None),
]


def test_containers_of_others_are_named_while_they_run() -> None:
    assert survey._foreign(CONTAINERS) == ["database", "plain"]


def test_replicas_come_from_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "records", dict)
    (found,) = survey.replicas(CONTAINERS)
    assert found["replica"] == "m-0"
    assert found["hosts"] == ["a", "b"]
    assert found["devices"] == [0, 1]
    assert found["state"] == "running"


def test_rdma_ports_are_told_where_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise Blocked("docker", "dockerd does not answer")

    monkeypatch.setattr(survey.docker, "call", refuse)
    assert survey.survey({})["facts"]["rdma"] is None
    told = survey.survey({"rdma": True})["facts"]["rdma"]
    assert {"ports", "outward", "cards", "peer_modules"} == set(told)
