"""Inventories as people write them, read by Ansible: tests/cases/inventories/*/case.yaml."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from flagprov.errors import InventoryError
from flagprov.fleet import load_fleet
from flagprov.inventory_variables import SUFFIXES
from flagprov.models.fleet import Host, Secret

CASES = Path(__file__).parents[1] / "cases/inventories"


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANSIBLE_CONFIG", "ANSIBLE_VAULT_PASSWORD_FILE", "ANSIBLE_REMOTE_USER", "ANSIBLE_INVENTORY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", sorted(path.parent.name for path in CASES.glob("*/case.yaml")))
def test_inventory(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / name
    shutil.copytree(CASES / name, folder)
    case: dict[str, Any] = yaml.safe_load((folder / "case.yaml").read_text())
    monkeypatch.chdir(folder)
    for variable, value in case.get("environment", {}).items():
        monkeypatch.setenv(variable, value)
    inventory, limit = Path(case["inventory"]), case.get("limit")
    if "error" in case:
        with pytest.raises(InventoryError) as caught:
            load_fleet(inventory, limit)
        for part in case["error"]:
            assert part in str(caught.value)
        assert caught.value.exit_code == 2
        return
    fleet = load_fleet(inventory, limit)
    assert [host.name for host in fleet.hosts] == list(case["hosts"])
    if "site" in case:
        assert fleet.site == Path(case["site"])
    for host in fleet.hosts:
        for field, wanted in case["hosts"][host.name].items():
            assert _value(host, field, wanted) == wanted, (host.name, field)


def _value(host: Host, field: str, wanted: object) -> object:
    value = getattr(host if hasattr(host, field) else host.connection, field)
    if isinstance(value, Secret):
        assert value.reveal() not in repr(host)
        return value.reveal()
    if field == "variables":
        assert isinstance(wanted, dict)
        return {name: value.get(name) for name in wanted}
    return list(value) if isinstance(value, tuple) else value


def test_how_hosts_are_reached_does_not_matter_where_somebody_else_connects(tmp_path: Path) -> None:
    inventory = tmp_path / "hosts.ini"
    careless = "ansible_ssh_common_args='-o StrictHostKeyChecking=no' ansible_become_method=doas"
    inventory.write_text(f"h1 ansible_host=192.0.2.1 flagprov_chip=graviton4 ansible_user=x {careless}\n")
    with pytest.raises(InventoryError):
        load_fleet(inventory)
    (host,) = load_fleet(inventory, reach=False).hosts
    assert (host.chip, host.connection.address) == ("graviton4", "192.0.2.1")


@pytest.mark.parametrize("page", ["cli", "ansible", "distribution"])
def test_no_documented_variable_is_taken_for_a_misspelt_one(page: str) -> None:
    text = (Path(__file__).parents[2] / f"docs/{page}.md").read_text()
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `flagprov_")]
    named = {name for row in rows for name in re.findall(r"`flagprov_([a-z_]+)`", row)}
    assert named
    assert named <= set(SUFFIXES)
