"""Room is asked for all that is on its way to a host, before anything starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flagprov.catalog import load_release
from flagprov.distribute import fan_images, supply
from flagprov.errors import HostError
from flagprov.models.fleet import Connection, Fleet, Host
from flagprov.models.observed import Change, Look
from flagprov.preparation import Job
from flagprov.site import Site

HOSTS = tuple(Host(name, Connection("192.0.2.1"), chip="cpu-x86") for name in ("h1", "h2", "h3", "h4"))
FILES = (("a.safetensors", 5 << 30, "0" * 64), ("config.json", 10, "1" * 64))
LAYERS = (("sha256:base", 300), ("sha256:top", 100))
FETCH = Change("weights", "w", "weights", "fetch", "missing")
BRING = Change("image", "r", "image", "bring", "missing")
PULL = replace(BRING, action="pull")


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.setattr(fan_images, "answerable", lambda job, looks, surveys: (dict(looks), {"h3": LAYERS}))
    release = load_release("qwen3-tiny")
    fleet, site = Fleet(tmp_path / "lab.ini", HOSTS), Site(tmp_path / ".flagprov")
    hub = release.weights.model_copy(update={"source": "hf://me/tiny"})
    release = release.model_copy(update={"weights": hub})
    return Job(fleet, site, release, {}, {}, None, (), {}, files=FILES)


class Asked:
    """Hosts that say what they were asked; h2 has no room, h4 is silent."""

    def __init__(self) -> None:
        self.needs: dict[str, Any] = {}

    def each(self, hosts: Any, work: Any) -> dict[str, Any]:
        return {host.name: work(SimpleNamespace(host=host, ask=self._ask(host.name))) for host in hosts}

    def _ask(self, name: str) -> Any:
        def ask(payload: dict[str, Any]) -> Any:
            self.needs[name] = {need["what"]: need for need in payload["needs"]}
            return (
                HostError(name, "x", "silent")
                if name == "h4"
                else {"faults": ["full" if name == "h2" else ""]}
            )

        return ask


def test_weights_and_image_are_one_question(job: Job) -> None:
    looks = {
        "h1": Look("h1", "d", ()),
        "h2": Look("h2", "d", (FETCH, PULL)),
        "h3": Look("h3", "d", (FETCH, BRING)),
        "h4": Look("h4", "d", (FETCH,)),
    }
    asked: Any = Asked()
    found = supply.answerable(job, asked, looks, {}, {"h1": 7, "h2": 60_000})
    assert {name: sorted(needs) for name, needs in asked.needs.items()} == {
        "h2": ["the image", "weights"],
        "h3": ["the image as it comes", "the image unpacked", "weights"],
        "h4": ["weights"],
    }
    assert asked.needs["h2"]["weights"]["bytes"] == (5 << 30) + 10
    assert asked.needs["h2"]["the image"]["bytes"] == 60_000 << 20
    assert asked.needs["h3"]["the image unpacked"]["layers"] == [list(layer) for layer in LAYERS]
    assert [problem.message for problem in found["h2"].problems] == ["full"]
    assert not any(found[name].problems for name in ("h1", "h3", "h4"))
