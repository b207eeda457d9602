"""Gateways of an inventory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flagprov.apply.assets import ansible_root
from flagprov.apply.provision import fingerprint
from flagprov.fleet import load_fleet

TEXT = """\
[flagprov_serving]
a ansible_host=192.0.2.1
b ansible_host=192.0.2.2

[flagprov_serving:vars]
flagprov_chip=cpu-x86

[flagprov_gateway]
a
gw ansible_host=192.0.2.9 ansible_user=root

[flagprov_gateway:vars]
gateway_port=8443
"""


@pytest.mark.parametrize("limit", [None, "b"])
def test_they_are_there_whatever_the_command_is_limited_to(tmp_path: Path, limit: str | None) -> None:
    inventory = tmp_path / "mine.ini"
    inventory.write_text(TEXT)
    fleet = load_fleet(inventory, limit)
    assert [host.name for host in fleet.gateways] == ["a", "gw"]
    assert fleet.gateways[1].connection.address == "192.0.2.9"
    assert fleet.gateways[1].variables["gateway_port"] == 8443
    assert [host.name for host in fleet.hosts] == (["a", "b"] if limit is None else ["b"])
    assert [host.name for host in fleet.machines] == (["a", "b", "gw"] if limit is None else ["b", "a", "gw"])


def test_replicas_behind_a_firewall_accept_only_the_gateways(tmp_path: Path) -> None:
    """By the role's default; a host's fingerprint knows it: another gateway provisions it again."""
    inventory = tmp_path / "mine.ini"

    def found(text: str) -> tuple[list[str], str]:
        inventory.write_text(text)
        host = load_fleet(inventory, "a").hosts[0]
        return host.variables.get("firewall_clients", []), fingerprint(host)

    asked = TEXT.replace("flagprov_chip=cpu-x86", "flagprov_chip=cpu-x86\nfirewall_enabled=true")
    elsewhere = asked.replace("ansible_user=root", "flagprov_serving_address=198.51.100.9")
    clients, made_with = found(asked)
    assert clients == ["192.0.2.1", "192.0.2.9"]
    assert clients == _default(inventory)
    others, then = found(elsewhere)
    assert others == ["192.0.2.1", "198.51.100.9"] == _default(inventory)
    assert then != made_with
    assert found(TEXT)[0] == []
    assert found(asked.replace("=true", '=true\nfirewall_clients=["10.0.0.0/8"]'))[0] == ["10.0.0.0/8"]
    assert found(asked.partition("[flagprov_gateway]")[0])[0] == [] == _default(inventory)


def _default(inventory: Path) -> Any:
    """What the role says by itself."""
    defaults = ansible_root() / "roles" / "firewall" / "defaults" / "main.yml"
    argv = [Path(sys.executable).with_name("ansible"), "-i", inventory, "a", "-c", "local"]
    argv += ["-m", "ansible.builtin.debug", "-a", "var=firewall_clients", "-e", f"@{defaults}"]
    said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    return json.loads(said.partition("=>")[2])["firewall_clients"]


def test_most_fleets_have_none(tmp_path: Path) -> None:
    inventory = tmp_path / "mine.ini"
    inventory.write_text(TEXT.partition("[flagprov_gateway]")[0])
    assert load_fleet(inventory).gateways == ()
