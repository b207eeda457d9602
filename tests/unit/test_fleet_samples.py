"""The samples in inventory/ load as they are, and their comments say the truth."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flagprov.fleet import load_fleet
from flagprov.models.fleet import Fleet

SAMPLES = Path(__file__).parents[2] / "inventory"


@pytest.fixture(autouse=True)
def a_key_in_the_usual_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The samples name ~/.ssh/id_ed25519, which this machine need not have."""
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/id_ed25519").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ANSIBLE_CONFIG", raising=False)


def load(name: str) -> Fleet:
    return load_fleet(SAMPLES / name)


def test_h100() -> None:
    fleet = load("h100.ini")
    assert [host.name for host in fleet.hosts] == [f"h100-0{n}.example.com" for n in range(1, 6)]
    assert {host.chip for host in fleet.hosts} == {"nvidia-h100"}
    last = fleet.hosts[-1]
    assert (last.connection.address, last.connection.port) == ("2001:db8:10::15", 2222)
    assert (last.connection.user, last.connection.become) == ("deploy", True)
    assert last.connection.proxy is not None
    assert (last.connection.proxy.user, last.connection.proxy.address) == ("ops", "bastion.example.com")
    assert last.settings == {"port": 8000, "serve": {"max_model_len": 32768}}
    assert last.registries == {"harbor.baai.ac.cn": "registry.example.com/baai"}
    assert (last.weights_root, last.site) == ("/nfs/models", "beijing-1")
    assert last.variables["container_engine_https_proxy"] == "http://proxy.example.com:3128"


def test_ascend() -> None:
    fleet = load("ascend.ini")
    assert [host.chip for host in fleet.hosts] == ["ascend-a2"] * 2 + ["ascend-a3"] * 2
    assert [host.settings for host in fleet.hosts] == [{}, {}, {"devices": 2}, {"devices": 2}]
    assert {host.connection.become for host in fleet.hosts} == {False}


def test_graviton() -> None:
    fleet = load("graviton.ini")
    assert [host.connection.address for host in fleet.hosts] == ["10.20.0.1", "10.20.0.2", "10.20.0.3"]
    jump = fleet.hosts[0].connection.proxy
    assert jump is not None
    assert (jump.user, jump.address, jump.port) == ("admin", "jump.example.com", 2222)


@pytest.mark.parametrize("name", ["h100.ini", "ascend.ini", "graviton.ini"])
def test_settings_are_settings_and_releases_are_releases(name: str) -> None:
    from flagprov.catalog import load_release
    from flagprov.models.settings import Settings

    fleet = load(name)
    for host in fleet.hosts:
        Settings.model_validate(host.settings)
    text = (SAMPLES / name).read_text()
    for release in re.findall(rf"(?:plan|deploy) +inventory/{name} (\S+)", text):
        variants = load_release(release).variants
        assert {host.chip for host in fleet.hosts} <= set(variants), release
