from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cli_fakes import put

from flagprov.errors import LabError


@dataclass(frozen=True)
class Host:
    name: str
    address: str
    running: bool = True
    ssh: bool = True
    docker: str = "active"
    chip: str = ""


@dataclass(frozen=True)
class Status:
    hosts: tuple[Host, ...]
    registry: str
    inventory: Path
    chip_inventories: tuple[Path, ...] = ()


class FakeLab(ModuleType):
    def __init__(self, root: Path) -> None:
        super().__init__("flagprov.lab")
        hosts = (Host("lab1", "172.30.0.2"), Host("lab2", "172.30.0.3", running=False, docker="none"))
        self.now = Status(hosts, "172.30.0.1:5000", root / "inventory" / "lab.ini")
        self.calls: list[Any] = []

    def up(
        self, hosts: int = 2, *, bare: bool, chips: Sequence[str], on_progress: Callable[[str], None]
    ) -> Status:
        self.calls.append((hosts, bare, *chips))
        on_progress("building vllm-cpu")
        return self.now

    def status(self) -> Status:
        return self.now

    def down(self, on_progress: Callable[[str], None]) -> None:
        self.calls.append("down")
        self.now = Status((), "", self.now.inventory)

    def clean(self, on_progress: Callable[[str], None]) -> None:
        self.calls.append("clean")
        self.now = Status((), "", self.now.inventory)

    def ssh_command(self, host: str) -> list[str]:
        if host != "lab1":
            raise LabError(f"the lab has no host {host}", remedy="It has lab1.")
        return ["ssh", "root@172.30.0.2"]


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeLab:
    fake = FakeLab(tmp_path)
    put(monkeypatch, fake)
    return fake


def test_up(lab: FakeLab, invoke: Any) -> None:
    result = invoke("lab", "up", "--hosts", "3", "--bare")
    assert (result.exit_code, lab.calls) == (0, [(3, True)])
    assert result.stderr == "building vllm-cpu\n"
    assert "flagprov deploy inventory/lab.ini qwen3-tiny" in result.stdout
    assert invoke("lab", "up", "-q").stderr == ""


def test_hosts_of_chips(lab: FakeLab, invoke: Any) -> None:
    inventories = lab.now.inventory.parent
    inventories.mkdir()
    for name in ("lab-all.ini", "lab-h100.ini"):
        (inventories / name).touch()
    lab.now = replace(lab.now, chip_inventories=tuple(sorted(inventories.iterdir())))
    result = invoke("lab", "up", "--chips", "nvidia-h100, graviton4")
    assert lab.calls == [(0, False, "nvidia-h100", "graviton4")]
    assert "inventory/lab-all.ini, inventory/lab-h100.ini" in result.stdout
    found = json.loads(invoke("lab", "status", "--output", "json").stdout)
    assert found["chip_inventories"] == [str(inventories / name) for name in ("lab-all.ini", "lab-h100.ini")]
    invoke("lab", "up", "--hosts", "2", "--chips", "ascend-a2")
    assert lab.calls[1] == (2, False, "ascend-a2")


def test_status(lab: FakeLab, invoke: Any) -> None:
    rows = invoke("lab", "status").stdout.splitlines()
    assert rows[1].split() == ["lab1", "172.30.0.2", "up", "active"]
    assert rows[2].split() == ["lab2", "172.30.0.3", "stopped", "none"]
    found = json.loads(invoke("lab", "status", "--output", "json").stdout)
    assert found["hosts"][0]["address"] == "172.30.0.2"
    assert found["schema_version"] == 1


def test_there_is_no_lab(lab: FakeLab, invoke: Any) -> None:
    lab.now = Status((), "", lab.now.inventory)
    assert "flagprov lab up brings one up" in invoke("lab", "status").stdout


def test_down(lab: FakeLab, invoke: Any) -> None:
    assert invoke("lab", "down").stdout == "the lab is down\n"
    assert json.loads(invoke("lab", "down", "--all", "--output", "json").stdout)["hosts"] == []
    assert lab.calls == ["down", "clean"]


def test_ssh_becomes_the_command(lab: FakeLab, invoke: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Became(BaseException):
        pass

    def execvp(file: str, argv: list[str]) -> None:
        lab.calls.append((file, argv))
        raise Became

    monkeypatch.setattr("os.execvp", execvp)
    with pytest.raises(Became):
        invoke("lab", "ssh", "lab1", "docker", "ps", "--all")
    assert lab.calls == [("ssh", ["ssh", "root@172.30.0.2", "docker", "ps", "--all"])]


def test_ssh_that_cannot_be(lab: FakeLab, invoke: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "error: the lab has no host lab9" in invoke("lab", "ssh", "lab9").stderr

    def missing(file: str, argv: list[str]) -> None:
        raise FileNotFoundError(2, "No such file", file)

    monkeypatch.setattr("os.execvp", missing)
    result = invoke("lab", "ssh", "lab1")
    assert (result.exit_code, "openssh-client" in result.stderr) == (1, True)


@pytest.mark.parametrize(("chips", "said"), [("", "it is empty"), (" , ", "--chips names no chip")])
def test_chips_that_are_none_build_no_lab(lab: FakeLab, invoke: Any, chips: str, said: str) -> None:
    result = invoke("lab", "up", "--chips", chips)
    assert (result.exit_code, lab.calls) == (2, [])
    assert said in result.stderr
