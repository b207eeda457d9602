"""The catalog's releases on emulated hosts of their chips: from a bare host to what their cards ask for.

Hosts: `flagprov lab up --hosts 2 --chips nvidia-h100,ascend-a3,ascend-a2`, and `graviton4` where the
machine is given the time. Emulated are the hardware, the vendors' packages and the engine; roles, docker,
systemd and FlagScale are real.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from .card_options import differences, of_command, of_container, unexplained
from .conftest import ROOT, Lab

pytestmark = pytest.mark.lab
CASES = ROOT / "tests" / "cases" / "cards"
COMMON = yaml.safe_load((CASES / "common.yaml").read_text())["differences"]
CARDS = [
    ("h100", "h100-1", "nvidia-h100", "qwq-32b"),
    ("h100", "h100-1", "nvidia-h100", "qwen2.5-vl-32b"),
    ("h100", "h100-1", "nvidia-h100", "robobrain2-7b-fp8"),
    ("ascend", "a3-1", "ascend-a3", "qwen3-4b"),
    ("ascend", "a2-1", "ascend-a2", "qwen3-4b"),
    ("graviton", "graviton-1", "graviton4", "qwen2-7b"),
]


class Chips:
    """Hosts of chips; a release that was deployed stays until another test wants the hosts."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.serving: dict[str, str] = {}

    def inventory(self, group: str) -> Path:
        found = ROOT / "inventory" / f"lab-{group}.ini"
        if not found.exists():
            pytest.skip(f"the lab has no hosts of {group}: flagprov lab up --chips ...")
        return found

    def deploy(self, group: str, release: str) -> None:
        """All the way; a bare host is prepared on the way."""
        if self.serving.get(group) == release:
            return
        self.free(group)
        result = self.run("deploy", group, release, "--yes")
        assert result.code == 0, result
        assert {host["state"] for host in result.json["hosts"]} == {"changed"}, result
        self.serving[group] = release

    def free(self, group: str) -> None:
        result = self.lab.flagprov("teardown", self.inventory(group), "--yes")
        assert result.code == 0, result
        self.serving.pop(group, None)

    def run(self, verb: str, group: str, *words: str) -> Any:
        return self.lab.flagprov(verb, self.inventory(group), *words, "--output", "json")


@pytest.fixture(scope="module")
def chips(lab: Lab) -> Iterator[Chips]:
    chips = Chips(lab)
    yield chips
    for group in list(chips.serving):
        chips.free(group)


@pytest.mark.parametrize(("group", "host", "chip", "release"), CARDS)
def test_a_release_runs_as_its_card_asks_for(
    chips: Chips, group: str, host: str, chip: str, release: str
) -> None:
    chips.deploy(group, release)
    name = _container(chips.lab, host)
    inspected = json.loads(chips.lab.on(host, f"docker inspect {name}"))[0]
    image = json.loads(chips.lab.on(host, f"docker image inspect {inspected['Image']}"))[0]
    case = yaml.safe_load((CASES / f"{release}-{chip}.yaml").read_text())
    card = of_command(case["docker_run"], case["env"], case["serve"])
    here = of_container(inspected, image["Config"]["Env"], _engine(chips.lab, host, name))
    memory = int(chips.lab.on(host, "awk '/MemTotal/ {print $2}' /proc/meminfo"))
    listed = _filled([*COMMON, *case["differences"]], half_of_memory=str(memory // 1024 * (1 << 20) // 2))
    assert unexplained(differences(card, here), listed) == []


@pytest.mark.parametrize("group", ["h100", "ascend", "graviton"])
def test_nothing_is_left_to_do(chips: Chips, group: str) -> None:
    release = {"h100": "robobrain2-7b-fp8", "ascend": "qwen3-4b", "graviton": "qwen2-7b"}[group]
    chips.deploy(group, release)
    again = chips.run("deploy", group, release, "--yes")
    assert again.code == 0, again
    assert {host["state"] for host in again.json["hosts"]} == {"unchanged"}, again
    states = chips.run("status", group).json["replicas"]
    assert {replica["state"] for replica in states} == {"ready"}, states


def _container(lab: Lab, host: str) -> str:
    """Replicas of one release are numbered over its hosts."""
    return lab.on(host, "docker ps --filter label=io.flagprov.replica --format '{{.Names}}'").strip()


def _engine(lab: Lab, host: str, name: str) -> list[str]:
    """The command line of `vllm serve` in the container, as its kernel has it."""
    said = lab.on(host, f"docker exec {name} sh -c 'for p in /proc/[0-9]*/cmdline; do cat $p; echo; done'")
    found = [line.strip("\0").split("\0") for line in said.splitlines()]
    commands = [words[at:] for words in found for at, word in enumerate(words) if word.endswith("/vllm")]
    assert commands, said
    return commands[0]


def _filled(entries: list[dict[str, str]], **values: str) -> list[dict[str, str]]:
    def fill(text: Any) -> Any:
        for name, value in values.items():
            text = text.replace(f"{{{name}}}", value) if isinstance(text, str) else text
        return text

    return [{key: fill(value) for key, value in entry.items()} for entry in entries]
