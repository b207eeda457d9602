"""Hosts that answer a plan as a case wants them to."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from doctor_values import CHIPS

from flagprov import pipeline
from flagprov.apply import provision
from flagprov.catalog import load_release
from flagprov.errors import HostError
from flagprov.models.fleet import Connection, Fleet, Host
from flagprov.models.plan import Plan
from flagprov.models.release import Variant
from flagprov.preparation import Job, Request
from flagprov.site import Site

PULL = {"kind": "image", "name": "image", "stage": "image", "action": "pull", "reason": "it is not here"}


class Answers:
    """What one host says; `asked` are the operations, `wanted` and `surveyed` what was to be told."""

    def __init__(
        self, facts: dict[str, Any], /, changes: Sequence[dict[str, Any]] = (PULL,), **survey: Any
    ) -> None:
        self.facts = facts
        self.changes = changes
        self.survey = survey
        self.asked: list[str] = []
        self.wanted: dict[str, Any] = {}
        self.surveyed: dict[str, Any] = {}

    def say(self, payload: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(payload["op"])
        if payload["op"] == "facts":
            self.wanted = payload
            return {**self.facts, "time": time.time() - self.facts.get("behind_s", 0)}
        if payload["op"] == "look":
            return {"digest": "d", "changes": list(self.changes), "problems": [], "notes": {}}
        assert payload["op"] == "survey"
        self.surveyed = payload
        usual = {
            "arch": "x86_64", "os": "Ubuntu", "kernel": "5", "cpus": 8, "memory_mib": 1 << 20,
            "docker_version": "24.0.7", "provisioned": "print", "devices": self.facts["devices"],
            "running": [], "records": {}, "facts": {},
        }  # fmt: skip
        return {**usual, **self.survey}


class FakeSession:
    def __init__(self, host: Host, answers: Answers) -> None:
        self.host, self.answers = host, answers

    def ask(self, payload: dict[str, Any], on_event: Any = None) -> dict[str, Any]:
        return self.answers.say(payload)


def plan_for(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    hosts: dict[str, Answers],
    *,
    release: str = "qwq-32b",
    chip: str = "nvidia-h100",
    force: tuple[str, ...] = (),
    change: Callable[[Variant], Variant] = lambda variant: variant,
    **variables: str,
) -> Plan:
    """The plan for hosts that answer so."""
    monkeypatch.setattr(provision, "fingerprint", lambda host: "print")

    class FakeConnections:
        def __init__(self, fleet: Fleet) -> None:
            pass

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def each(
            self, some: Sequence[Host], function: Callable[[Any], Any], keep: int | None = None
        ) -> dict[str, Any]:
            found: dict[str, Any] = {}
            for host in some:
                try:
                    found[host.name] = function(FakeSession(host, hosts[host.name]))
                except HostError as error:
                    found[host.name] = error
            return found

    inventory = tuple(Host(name, Connection(name), chip=chip, variables=variables) for name in hosts)
    fleet = Fleet(tmp_path / "hosts.ini", inventory)
    loaded = load_release(release)
    variants = dict.fromkeys(hosts, change(loaded.variants[chip]))
    keys = {name: frozenset[str]() for name in hosts}
    job = Job(fleet, Site(tmp_path), loaded, CHIPS, variants, None, (), keys, force)
    monkeypatch.setattr(pipeline, "prepare", lambda request: job)
    monkeypatch.setattr(pipeline, "Connections", FakeConnections)
    return pipeline.plan(Request(fleet.inventory, release))
