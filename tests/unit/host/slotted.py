"""A host of docker and systemd in memory, under the real host program; it may be killed before any step."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flagprov.host import (
    converge,
    docker,
    engine,
    history,
    launched,
    lease,
    operators,
    slots,
    status,
    survey,
    wire,
)
from flagprov.host.resources import probe, slot, unit

RENAME, UNLINK = os.rename, os.unlink


class Killed(BaseException):
    """The power went."""


class Machine:
    """Docker and systemd, as far as two slots need them; may be killed before any of its steps."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.containers: dict[str, dict[str, Any]] = {}
        self.enabled: set[str] = set()
        self.active: set[str] = set()
        self.restarted: list[str] = []
        self.hung: set[str] = set()
        self.steps = 0
        self.dies_at = 0

    def step(self) -> None:
        self.steps += 1
        if self.steps == self.dies_at:
            raise Killed

    def counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            self.step()
            return function(*arguments, **more)

        return call

    def container(self, name: str) -> Any:
        found = self.containers.get(name)
        if found is None:
            return None
        return {**found, "State": {"Running": self.runs(name.removeprefix("flagprov-"))}}

    def runs(self, instance: str) -> bool:
        return f"flagprov@{instance}.service" in self.active

    def docker(self, method: str, path: str, body: Any = None, **_: Any) -> Any:
        name = path.split("name=")[-1].split("/")[-1].split("?")[0]
        if path == "/version":
            return {"Version": "27.5.1"}
        if method == "GET":
            return [
                {
                    "Labels": found["Config"]["Labels"],
                    "State": "running" if self.runs(name.removeprefix("flagprov-")) else "exited",
                }
                for name, found in self.containers.items()
            ]
        self.step()
        if method == "DELETE":
            del self.containers[name]
        else:
            host = {"RestartPolicy": {"Name": "no"}}
            self.containers[name] = {"Config": {"Labels": body["Labels"]}, "HostConfig": host, "Image": "i"}
        return None

    def systemctl(self, argv: list[str], timeout: float = 0) -> Any:
        self.step()
        what, name = argv[1], argv[-1]
        if what == "restart":
            self.restarted.append(name)
        if what in ("start", "restart"):
            self.active.add(name)
        if what == "stop":
            self.active.discard(name)
        if what == "enable":
            self.enabled.add(name)
        if what == "disable":
            self.enabled.discard(name)
        return SimpleNamespace(code=0, out="", err="")

    def unit_state(self, name: str) -> dict[str, str]:
        return {
            "LoadState": "loaded",
            "ActiveState": "active" if name in self.active else "inactive",
        }

    def engine(self, spec: dict[str, Any], *_: Any) -> dict[str, Any]:
        name = spec["container"].removeprefix("flagprov-")
        well = "hung" if name in self.hung else "ready"
        return {"state": well if self.runs(name) else "stopped", "detail": ""}

    def reboot(self) -> None:
        self.active = set(self.enabled)

    def place(self) -> tuple[list[str], list[str], list[str]]:
        """What has a container, what comes back after a reboot, what runs."""
        names = sorted(name.removeprefix("flagprov-") for name in self.containers)
        units = [sorted(n[9:-8] for n in found) for found in (self.enabled, self.active)]
        return names, units[0], units[1]


def alone(instance: str) -> tuple[list[str], list[str], list[str]]:
    return [instance], [instance], [instance]


def installed(monkeypatch: pytest.MonkeyPatch, state: Path) -> Machine:
    """The host program finds this machine."""
    found = Machine(state)
    for module in (slots, survey, history, converge, lease, operators):
        monkeypatch.setattr(module, "STATE", str(state))
    monkeypatch.setattr(docker, "container", found.container)
    monkeypatch.setattr(docker, "call", found.docker)
    monkeypatch.setattr(docker, "version", lambda: "20.10.24")
    monkeypatch.setattr(docker, "image_id", lambda *_: "i")
    monkeypatch.setattr(unit, "run", found.systemctl)
    monkeypatch.setattr(unit, "enabled", found.enabled.__contains__)
    for module in (unit, slot, probe, status):
        monkeypatch.setattr(module, "unit_state", found.unit_state)
    monkeypatch.setattr(engine, "state", found.engine)
    monkeypatch.setattr(launched, "said", lambda *_: {"phase": "running", "follows": True})
    monkeypatch.setattr(wire, "send", lambda message: None)
    monkeypatch.setattr(os, "rename", found.counted(RENAME))
    monkeypatch.setattr(os, "unlink", found.counted(UNLINK))
    return found
