"""What is read of RDMA cards: a tree of the kernel's files, with links and with large tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from facts_tools import case

from flagprov.host import networks
from flagprov.host.facts import rdma

NETWORKS = {
    "addresses": {"ens1f0np0": "192.0.2.5", "bond0": "198.51.100.5"},
    "addresses6": {},
    "routes": [
        {"network": "0.0.0.0/0", "interface": "bond0", "metric": 0},
        {"network": "192.0.2.0/24", "interface": "ens1f0np0", "metric": 0},
    ],
}


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root for the kernel's files, in place of this machine's."""
    monkeypatch.setattr(rdma, "SYS", str(tmp_path))
    monkeypatch.setattr(networks, "networks", lambda: NETWORKS)
    return tmp_path


def write(folder: Path, name: str) -> None:
    """A case of the parser as the files that it was taken from."""
    for line in case(f"infiniband/{name}").splitlines():
        path, _, said = line.partition(":")
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a") as stream:
            stream.write(said + "\n")


def test_a_host_without_such_cards(kernel: Path) -> None:
    assert rdma.rdma() == {"ports": [], "outward": ["bond0"], "cards": 0, "peer_modules": []}


def test_ports_with_their_interfaces_and_addresses(kernel: Path) -> None:
    write(kernel / "class/infiniband", "roce")
    found: dict[str, Any] = {port["device"]: port for port in rdma.rdma()["ports"]}
    assert list(found) == ["mlx5_0", "mlx5_1", "mlx5_bond_0"]
    assert found["mlx5_0"]["addresses"] == ["192.0.2.5"]
    assert found["mlx5_bond_0"]["interfaces"] == ["bond0", "bond0.7", "eno1"]
    assert found["mlx5_bond_0"]["addresses"] == ["198.51.100.5"]
    assert [gid["index"] for gid in found["mlx5_0"]["gids"]] == [0, 1, 2, 3]


def test_a_table_is_read_to_its_last_entry_and_not_to_its_end(kernel: Path) -> None:
    write(kernel / "class/infiniband", "roce")
    table = kernel / "class/infiniband/mlx5_0/ports/1/gids"
    for index in range(4, 256):
        (table / str(index)).write_text("0000:0000:0000:0000:0000:0000:0000:0000\n")
    (table / "9").write_text("0000:0000:0000:0000:0000:ffff:c000:0206\n")
    (table / "200").write_text("0000:0000:0000:0000:0000:ffff:c000:0207\n")
    (first, *_) = rdma.rdma()["ports"]
    assert [gid["index"] for gid in first["gids"]] == [0, 1, 2, 3, 9]
    assert first["gids"][-1]["type"] is None


def test_virtual_functions_are_their_guests(kernel: Path) -> None:
    write(kernel / "class/infiniband", "h100-ndr")
    (kernel / "class/infiniband/mlx5_10/device/physfn").mkdir()
    assert [port["device"] for port in rdma.rdma()["ports"]] == ["mlx5_0", "mlx5_3", "mlx5_9"]


def test_cards_that_the_bus_has_and_modules_that_reach_gpus(kernel: Path) -> None:
    kinds = [("0x15b3", "0x020700"), ("0x15b3", "0x020000"), ("0x1077", "0x020700"), ("0x8086", "0x020000")]
    kinds += [("0x15b3", "0x020000"), ("0x10de", "0x030200")]
    for at, (vendor, kind) in enumerate(kinds):
        (kernel / f"bus/pci/devices/{at}").mkdir(parents=True)
        (kernel / f"bus/pci/devices/{at}/vendor").write_text(vendor + "\n")
        (kernel / f"bus/pci/devices/{at}/class").write_text(kind + "\n")
    (kernel / "bus/pci/devices/4/physfn").mkdir()
    (kernel / "module/nvidia_peermem").mkdir(parents=True)
    found = rdma.rdma()
    assert (found["cards"], found["peer_modules"]) == (3, ["nvidia_peermem"])


def test_made_up_hosts_have_made_up_ports(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(kernel / "class/infiniband", "roce")
    write(kernel / "emulated/class/infiniband", "two-ports-of-one-device")
    monkeypatch.setattr(rdma, "EMULATED", str(kernel))
    monkeypatch.setattr(rdma, "EMULATED_SYS", str(kernel / "emulated"))
    assert [(port["device"], port["port"]) for port in rdma.rdma()["ports"]] == [("mlx4_0", 1), ("mlx4_0", 2)]
