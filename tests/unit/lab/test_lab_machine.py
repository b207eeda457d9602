"""What the lab asks of a machine before it touches it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flagprov.errors import LabError
from flagprov.lab import machine

Set = Callable[..., None]


@pytest.fixture
def set_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Set:
    def set_to(name: str = "debian", version: str = "12", user: int = 0, processor: str = "x86_64") -> None:
        described = tmp_path / "os-release"
        described.write_text(f'PRETTY_NAME="Some System"\nID={name}\nVERSION_ID="{version}"\n')
        monkeypatch.setattr(machine, "OS_RELEASE", described)
        monkeypatch.setattr(machine.os, "geteuid", lambda: user)
        uname = machine.os.uname_result(("Linux", "here", "6.1", "1", processor))
        monkeypatch.setattr(machine.os, "uname", lambda: uname)

    return set_to


def test_debian_12_with_root_will_do(set_machine: Set) -> None:
    set_machine()
    machine.require_known_machine()


def test_all_that_is_missing_is_said_at_once(set_machine: Set) -> None:
    set_machine("ubuntu", "24.04", user=1000, processor="aarch64")
    with pytest.raises(LabError) as refused:
        machine.require_known_machine()
    said = str(refused.value)
    assert "root" in said and "ubuntu 24.04" in said and "aarch64" in said


def test_a_machine_that_says_nothing_is_not_known(set_machine: Set, monkeypatch: pytest.MonkeyPatch) -> None:
    set_machine()
    monkeypatch.setattr(machine, "OS_RELEASE", Path("/nonexistent"))
    with pytest.raises(LabError, match="cannot run here"):
        machine.require_known_machine()


def test_limits_are_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flagprov.lab.layout import Layout

    layout, limit = Layout(tmp_path), tmp_path / "max_user_instances"
    layout.build.mkdir(parents=True)
    limit.write_text("128\n")
    monkeypatch.setattr(machine, "INSTANCES", limit)
    machine.raise_limits(layout)
    assert int(limit.read_text()) > 128
    machine.restore_limits(layout)
    assert limit.read_text() == "128\n"
