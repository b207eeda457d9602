"""RDMA ports (InfiniBand and RoCE), and what lets them reach a GPU's memory; from the kernel's own files."""

from __future__ import annotations

import os
import re

from flagprov.host.facts.devices import EMULATED
from flagprov.host.machine import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

SYS = "/sys"
EMULATED_SYS = (
    "/run/flagprov-emulated/sys"  # in its place where devices are made up: the cards below are others'
)
INFINIBAND, MODULES, PCI = "class/infiniband", "module", "bus/pci/devices"
PEER_MODULES = ("nvidia_peermem", "nv_peer_mem")
MELLANOX, CARD, HCA = "0x15b3", "0x02", "0x0207"  # a vendor; classes of network cards, of InfiniBand's
HOLE = 32  # so many empty entries in a row end a table of GIDs, which has hundreds
PORT = re.compile(r"([^/]+)/ports/(\d+)/")
INTERFACE = re.compile(r"device/net/(?:[^/]+/)*?(?:upper_)?([^/]+)/(dev_port|uevent)$")


def rdma() -> dict[str, Any]:
    """`outward`: interfaces that lead out of the host; `cards`: what the PCI bus has, driver or not."""
    from flagprov.host.networks import networks

    base = EMULATED_SYS if os.path.exists(EMULATED) else SYS
    known = networks()
    found = ports(_files(os.path.join(base, INFINIBAND)))
    for port in found:
        own = [known[kind].get(name) for name in port["interfaces"] for kind in ("addresses", "addresses6")]
        port["addresses"] = [address for address in own if address]
    out = {route["interface"] for route in known["routes"] if route["network"] in ("0.0.0.0/0", "::/0")}
    return {
        "ports": found,
        "outward": sorted(out),
        "cards": _cards(os.path.join(base, PCI)),
        "peer_modules": [name for name in PEER_MODULES if os.path.isdir(os.path.join(base, MODULES, name))],
    }


def ports(files: Mapping[str, str]) -> list[dict[str, Any]]:
    """From files below /sys/class/infiniband by their path there; None where one says nothing we know."""
    devices: dict[str, dict[str, str]] = {}
    numbers = set()
    for path, text in files.items():
        device, _, below = path.partition("/")
        devices.setdefault(device, {})[below] = text.strip()
        named = PORT.match(path)
        if named:
            numbers.add((device, int(named.group(2))))
    return [_port(name, number, devices[name]) for name, number in sorted(numbers, key=_natural)]


def _port(device: str, number: int, files: Mapping[str, str]) -> dict[str, Any]:
    at = "ports/%d/" % number
    rate = re.match(r"(\d+(?:\.\d+)?) Gb/sec", files.get(at + "rate", ""))
    slot = re.search(r"^PCI_SLOT_NAME=(\S+)$", files.get("device/uevent", ""), re.MULTILINE)
    node = files.get("device/numa_node", "")
    gids = list(_gids(at, files))
    interfaces = _interfaces(number, files) | {gid["interface"] for gid in gids if gid["interface"]}
    return {
        "device": device,
        "port": number,
        "model": files.get("hca_type") or None,
        "state": _state(files.get(at + "state", "")),
        "physical": _state(files.get(at + "phys_state", "")),
        "rate_gbps": float(rate.group(1)) if rate else None,
        "link_layer": files.get(at + "link_layer") or None,
        "interfaces": sorted(interfaces),
        "bus": slot.group(1) if slot else None,
        "numa_node": int(node) if node.isdecimal() else None,
        "gids": gids,
    }


def _state(text: str) -> str | None:
    """`4: ACTIVE`, `5: LinkUp`."""
    found = re.match(r"\d+: (\S.*)$", text)
    return found.group(1) if found else None


def _gids(at: str, files: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    for path in files:
        index = path[len(at + "gids/") :]
        if not path.startswith(at + "gids/") or not index.isdecimal() or _empty(files[path]):
            continue
        yield {
            "index": int(index),
            "address": files[path],
            "type": files.get("%sgid_attrs/types/%s" % (at, index)) or None,
            "interface": files.get("%sgid_attrs/ndevs/%s" % (at, index)) or None,
        }


def _empty(gid: str) -> bool:
    return not gid.strip("0:\n")


def _interfaces(number: int, files: Mapping[str, str]) -> set[str]:
    """The port's own and what lies on them (a bond, a bridge, a VLAN)."""
    found = set()
    for path, text in files.items():
        named = INTERFACE.match(path)
        # One device of several ports has the interfaces of all of them.
        if named and (named.group(2) == "uevent" or text in ("", str(number - 1))):
            found.add(named.group(1))
    return found


def _natural(key: tuple[str, int]) -> list[Any]:
    words = re.split(r"(\d+)", key[0])
    return [[int(word) if word.isdecimal() else word for word in words], key[1]]


def _files(folder: str) -> dict[str, str]:
    """What is read there; virtual functions are their guests'."""
    found = {}
    for device in _names(folder):
        base = "%s/%s" % (folder, device)
        if os.path.exists(base + "/device/physfn"):
            continue
        for path in _paths(base):
            found["%s/%s" % (device, path)] = read("%s/%s" % (base, path))
    return found


def _paths(base: str) -> Iterator[str]:
    yield from ("hca_type", "device/numa_node", "device/uevent")
    for name in _names(base + "/device/net"):
        yield "device/net/%s/dev_port" % name
        for upper in _uppers("%s/device/net/%s" % (base, name)):
            yield "device/net/%s/%s/uevent" % (name, upper)
    for number in _names(base + "/ports"):
        at = "ports/" + number
        yield from ("%s/%s" % (at, name) for name in ("state", "phys_state", "rate", "link_layer"))
        if read("%s/%s/link_layer" % (base, at)).strip() == "Ethernet":
            yield from _entries(base, at)


def _uppers(folder: str) -> Iterator[str]:
    """`upper_bond0`, `upper_bond0/upper_vlan7`: what lies on an interface."""
    for name in _names(folder):
        if name.startswith("upper_"):
            yield name
            yield from ("%s/%s" % (name, above) for above in _uppers("%s/%s" % (folder, name)))


def _entries(base: str, at: str) -> Iterator[str]:
    """Entries of the table of GIDs that are in use."""
    last = 0
    for index in sorted(int(name) for name in _names("%s/%s/gids" % (base, at)) if name.isdecimal()):
        if index - last > HOLE:
            return
        if not _empty(read("%s/%s/gids/%d" % (base, at, index))):
            last = index
            yield from (
                "%s/%s/%d" % (at, kind, index) for kind in ("gids", "gid_attrs/types", "gid_attrs/ndevs")
            )


def _names(folder: str) -> list[str]:
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


def _cards(folder: str) -> int:
    """Cards on the PCI bus that can do RDMA: all of InfiniBand, and every one of Mellanox."""
    count = 0
    for name in _names(folder):
        kind = read("%s/%s/class" % (folder, name)).strip()
        if kind.startswith(CARD) and not os.path.exists("%s/%s/physfn" % (folder, name)):
            count += kind.startswith(HCA) or read("%s/%s/vendor" % (folder, name)).strip() == MELLANOX
    return count
