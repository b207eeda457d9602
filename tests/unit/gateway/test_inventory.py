"""Gateways of an inventory."""

from __future__ import annotations

from pathlib import Path

import pytest

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


def test_most_fleets_have_none(tmp_path: Path) -> None:
    inventory = tmp_path / "mine.ini"
    inventory.write_text(TEXT.partition("[flagprov_gateway]")[0])
    assert load_fleet(inventory).gateways == ()
