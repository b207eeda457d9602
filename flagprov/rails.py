"""RDMA between the nodes of a replica: the ports that a node's ranks use, and how NCCL is told; pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from flagprov.cluster import RDMA
from flagprov.errors import InventoryError
from flagprov.models.facts import Gid, Rdma, RdmaPort
from flagprov.models.fleet import Host

PORTS, GID, OFF = "NCCL_IB_HCA", "NCCL_IB_GID_INDEX", "NCCL_IB_DISABLE"
VARIABLES = frozenset((PORTS, GID, OFF))  # whoever sets one of them sets all
LAYERS = ("InfiniBand", "Ethernet")  # others, such as Amazon's EFA, are not for NCCL's own transport
NAME = re.compile(r"[A-Za-z0-9_.-]+(:\d+)?")
IPV4 = "0000:0000:0000:0000:0000:ffff:"  # how a GID begins that is an IPv4 address


def named_ports(host: Host) -> tuple[str, ...] | None:
    """Ports or whole devices as the inventory names them; empty where it says off, None where nothing."""
    said = host.variables.get(RDMA)
    if said is None:
        return None
    if said is False or (isinstance(said, str) and said.lower() in ("off", "false", "no")):
        return ()
    names = said.replace(",", " ").split() if isinstance(said, str) else said
    if not isinstance(names, list) or not names or not all(NAME.fullmatch(str(name)) for name in names):
        raise InventoryError(
            f"{host.name}: {RDMA}: a list of RDMA ports or off is expected, not {said!r}",
            remedy=f"Write {RDMA}=mlx5_0:1,mlx5_1:1 with the names of /sys/class/infiniband, or off.",
        )
    return tuple(str(name) for name in names)


def environment(host: Host, told: Mapping[str, Any] | None, before: Mapping[str, str]) -> dict[str, str]:
    """Variables for the ranks on a host, of what its survey told; `before`: what its replica has.

    NCCL itself passes over ports that are down, so losing one is no reason to restart what serves.
    """
    named = named_ports(host)
    if named == ():
        return {OFF: "1"}
    rdma = read(told) if told else Rdma((), (), 0, ())
    active = usable_ports(rdma)
    if named:
        now = _variables(named, [port for port in matching(rdma, named) if port in active])
        return dict(before) if GID not in now and before.get(PORTS) == now[PORTS] else now
    found = compute_ports(rdma, host.connection.address)
    had = set(before.get(PORTS, "").lstrip("=").split(",")) - {""}
    if not found:
        return dict(before) if had else {}
    names = [port.name for port in found]
    now = _variables(names, found)
    others = {port.name for port in active} - set(names)
    holds = set(names) <= had and had.isdisjoint(others) and before.get(GID) == now.get(GID)
    return dict(before) if holds else now


def _variables(names: Sequence[str], ports: Sequence[RdmaPort]) -> dict[str, str]:
    """`=`: these and no others; without it mlx5_1 would be mlx5_10, too."""
    index = gid_index(ports)
    return {PORTS: "=" + ",".join(names)} | ({} if index is None else {GID: str(index)})


def compute_ports(rdma: Rdma, login: str) -> tuple[RdmaPort, ...]:
    """Active ports without those that carry the host's other traffic; none where they are of several kinds.

    `login`: the address at which the host is logged in to.
    """
    found = kinds(rdma, login)
    return found[0] if len(found) == 1 else ()


def kinds(rdma: Rdma, login: str) -> list[tuple[RdmaPort, ...]]:
    """Ports that the ranks could use, those alike together, the fastest first.

    Storage may have cards of its own: of several kinds nothing tells which one is for the ranks.
    """
    found: dict[tuple[Any, ...], list[RdmaPort]] = {}
    for port in usable_ports(rdma):
        if not carries_other_traffic(port, rdma, login):
            found.setdefault((port.link_layer, port.model, port.rate_gbps), []).append(port)
    alike = [tuple(ports) for ports in found.values()]
    return sorted(alike, key=lambda ports: -sum(port.rate_gbps or 0 for port in ports))


def unchosen(rdma: Rdma, login: str) -> str:
    """What there is in place of one kind of ports; empty where all is clear."""
    found = kinds(rdma, login)
    if len(found) < 2:
        return ""
    told = "; ".join(f"{', '.join(port.name for port in ports)}: {_kind(ports[0])}" for ports in found)
    return f"RDMA ports of several kinds ({told}): none is chosen"


def _kind(port: RdmaPort) -> str:
    rate = "unknown rate" if port.rate_gbps is None else f"{port.rate_gbps:g} Gb/s"
    return f"{rate} {port.link_layer}" + (f", {port.model}" if port.model else "")


def usable_ports(rdma: Rdma) -> tuple[RdmaPort, ...]:
    """Those that NCCL would use if nobody told it anything."""
    return tuple(port for port in rdma.ports if port.state == "ACTIVE" and port.link_layer in LAYERS)


def carries_other_traffic(port: RdmaPort, rdma: Rdma, login: str) -> bool:
    return login in port.addresses or not set(port.interfaces).isdisjoint(rdma.outward)


def matching(rdma: Rdma, names: Sequence[str]) -> tuple[RdmaPort, ...]:
    return tuple(port for port in rdma.ports if port.name in names or port.device in names)


def gid_index(ports: Sequence[RdmaPort]) -> int | None:
    """Where RoCE v2 over IPv4 is in the tables of all ports: NCCL takes one number for all of them."""
    tables = [roce_indices(port) for port in ports if port.link_layer == "Ethernet"]
    return min(set.intersection(*tables), default=None) if tables else None


def roce_indices(port: RdmaPort) -> set[int]:
    return {gid.index for gid in port.gids if gid.type == "RoCE v2" and gid.address.startswith(IPV4)}


def read(told: Mapping[str, Any]) -> Rdma:
    """As a survey has it."""
    ports = (
        RdmaPort(
            **{
                **port,
                "interfaces": tuple(port["interfaces"]),
                "addresses": tuple(port["addresses"]),
                "gids": tuple(Gid(**gid) for gid in port["gids"]),
            }
        )
        for port in told["ports"]
    )
    return Rdma(tuple(ports), tuple(told["outward"]), int(told["cards"]), tuple(told["peer_modules"]))
