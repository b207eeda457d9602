"""Checks of the RDMA cards by which the ranks of a replica over several hosts talk."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from flagprov.cluster import RDMA
from flagprov.doctor.subject import Subject, Verdict, failed, ok, unknown, warning, worst
from flagprov.models.facts import Rdma, RdmaPort
from flagprov.rails import (
    LAYERS,
    OFF,
    PORTS,
    VARIABLES,
    carries_other_traffic,
    gid_index,
    kinds,
    matching,
    named_ports,
    roce_indices,
    unchosen,
    usable_ports,
)
from flagprov.report.text import count, names

FALLS_BACK = "NCCL would silently fall back to TCP"
LINK = "see `ibstat` or `rdma link`: cable, switch port, interface down?"
DRIVER = (
    "load mlx5_ib (packages rdma-core, linux-modules-extra or DOCA-OFED); dmesg says why it does not start"
)
MANAGER = "start a subnet manager in this network (on a switch, or opensm)"
DMA_BUF = (5, 12)  # the first kernel whose RDMA takes dma-buf


def ports(subject: Subject) -> Verdict | None:
    """Ports that are up, and alike on the replica's hosts; without any, NCCL takes TCP and says nothing."""
    if not _asked(subject):
        return None
    if _is_off(subject):
        return ok(f"switched off by {RDMA} or {OFF}: NCCL talks TCP")
    rdma = subject.facts.rdma
    if rdma is None:
        return unknown(subject.unknown("rdma"), "see what `ls /sys/class/infiniband` and `ibstat` say")
    assert subject.serving is not None
    found = _rails(subject, rdma)
    if not found:
        return _without(subject, rdma)
    named = named_ports(subject.host) or ()
    login = subject.host.connection.address
    if not named and not VARIABLES & subject.serving.variant.env.keys() and (why := unchosen(rdma, login)):
        fastest = ",".join(port.name for port in kinds(rdma, login)[0])
        return failed(why, f"{RDMA}={fastest} of this host, or what is for the ranks, or off; a slow cable?")
    partners = {n: _chosen(facts.rdma, named, "") for n, facts in subject.partners.items() if facts.rdma}
    told = [
        *_not_up(subject, rdma, found),
        *_unlike(rdma, found, partners),
        *_rates(found),
        *_addresses(found),
    ]
    return worst(told, f"{_listed(found)}: {_rate(found[0])} {found[0].link_layer}")


def gpudirect(subject: Subject) -> Verdict | None:
    """Whether cards reach the memory of GPUs; without that, all goes through the host's memory."""
    rdma, nvidia, system = subject.facts.rdma, subject.facts.nvidia, subject.facts.system
    if not _asked(subject) or _is_off(subject) or rdma is None or not usable_ports(rdma):
        return None
    if rdma.peer_modules:
        return ok(f"by module {rdma.peer_modules[0]}")
    way = "modprobe nvidia_peermem, and a line `nvidia_peermem` in /etc/modules-load.d/nvidia-peermem.conf"
    if nvidia is None or nvidia.loaded is None or system is None:
        return unknown("no driver is loaded that could say whether it knows dma-buf", way)
    kernel = re.match(r"(\d+)\.(\d+)", system.kernel)
    if kernel is None or (_backports(system.kernel) and nvidia.loaded.open):
        return unknown(f"whether kernel {system.kernel} knows dma-buf for RDMA cannot be seen", way)
    new = (int(kernel.group(1)), int(kernel.group(2))) >= DMA_BUF
    if new and nvidia.loaded.open:
        return ok(f"by dma-buf (open kernel module, kernel {system.kernel})")
    lacks = "the driver's closed kernel module" if new else f"kernel {system.kernel}"
    said = f"neither module nvidia_peermem nor dma-buf ({lacks} has none): all goes through the host's memory"
    return failed(said, f"{way}; or the open kernel module on kernel 5.12 or later")


def _asked(subject: Subject) -> bool:
    return subject.chip is not None and subject.chip.rdma and subject.spans_hosts


def _is_off(subject: Subject) -> bool:
    assert subject.serving is not None
    return named_ports(subject.host) == () or subject.serving.variant.env.get(OFF, "0") == "1"


def _backports(kernel: str) -> bool:
    """Kernels of RHEL 8 and its like have parts of later ones."""
    return kernel.startswith("4.18.0") and ".el8" in kernel


def _rails(subject: Subject, rdma: Rdma) -> tuple[RdmaPort, ...]:
    """What the ranks would use here: as somebody named them, else as we choose them."""
    assert subject.serving is not None
    named = named_ports(subject.host) or ()
    found = _chosen(rdma, named, subject.host.connection.address)
    free = not named and (PORTS in subject.serving.variant.env or not found)
    return usable_ports(rdma) if free else found


def _chosen(rdma: Rdma, named: Sequence[str], login: str) -> tuple[RdmaPort, ...]:
    if not named:
        return next(iter(kinds(rdma, login)), ())
    return tuple(port for port in matching(rdma, named) if port in usable_ports(rdma))


def _without(subject: Subject, rdma: Rdma) -> Verdict:
    known = [port for port in rdma.ports if port.link_layer in LAYERS]
    if known:
        states = ", ".join(f"{port.name} {port.state}, {port.physical}" for port in known)
        return failed(f"no RDMA port is active ({states}): {FALLS_BACK}", LINK)
    if rdma.ports:
        said = f"{_listed(rdma.ports)} is of a kind that NCCL uses by a plugin of its maker only"
        return unknown(f"{said}: without it in the image, {FALLS_BACK}", "NCCL_DEBUG=INFO says what it takes")
    if rdma.cards:
        cards = count(rdma.cards, "RDMA card")
        return failed(f"{cards} on the PCI bus, no RDMA device of the kernel: {FALLS_BACK}", DRIVER)
    having = [name for name, facts in subject.partners.items() if facts.rdma and usable_ports(facts.rdma)]
    if having:
        said = f"there is no RDMA card, {names(having)} of the same replica has some: {FALLS_BACK}"
        return failed(said, f"use hosts that are alike, or {RDMA}=off on all of them")
    return warning("there is no RDMA card: NCCL talks TCP", f"is that meant? {RDMA}=off says so")


def _not_up(subject: Subject, rdma: Rdma, found: Sequence[RdmaPort]) -> Iterator[Verdict]:
    named = named_ports(subject.host) or ()
    for name in named:
        if not any(name in (port.name, port.device) for port in found):
            yield failed(f"{name} of {RDMA} is not active here", LINK)
    for port in rdma.ports:
        if port.link_layer == "InfiniBand" and port.state in ("INIT", "ARMED"):
            yield failed(f"{port.name} is {port.state}: no subnet manager has made it active", MANAGER)
    if not named and all(carries_other_traffic(p, rdma, subject.host.connection.address) for p in found):
        said = f"only {_listed(found)} is active, which carries the host's other traffic, too"
        yield warning(said, f"is that meant? {RDMA}={found[0].name} says so")


def _unlike(
    rdma: Rdma, found: Sequence[RdmaPort], partners: Mapping[str, Sequence[RdmaPort]]
) -> Iterator[Verdict]:
    """What a partner has and this host has not."""
    usable = {port.name for port in usable_ports(rdma)}
    for partner, ports in partners.items():
        missing = [port for port in ports if port.name not in usable]
        down = [port.name for port in missing if port.name in {each.name for each in rdma.ports}]
        if down:
            yield failed(f"{', '.join(down)} is down here and active on {partner}", LINK)
        elif missing and len(ports) > len(found):
            said = f"{count(len(found), 'port')} here, {len(ports)} on {partner}"
            yield warning(said, f"use hosts that are alike, or name the same ports in {RDMA}")
        if ports and ports[0].link_layer != found[0].link_layer:
            said = f"{found[0].link_layer} here, {ports[0].link_layer} on {partner}: these cannot talk"
            yield failed(said, f"name ports of one network in {RDMA} of each host")
        theirs, own = ({_rate(port) for port in each} for each in (ports, found))
        if ports and theirs != own:
            said = f"{' and '.join(sorted(own))} here, {' and '.join(sorted(theirs))} on {partner}"
            yield warning(said, f"ibstat, ethtool: a slow cable or switch port? or name ports in {RDMA}")


def _rates(found: Sequence[RdmaPort]) -> Iterator[Verdict]:
    rates = [port.rate_gbps or 0 for port in found]
    slow = [port for port in found if (port.rate_gbps or 0) < max(rates)]
    if slow:
        told = " and ".join(sorted({_rate(port) for port in slow}))
        said = f"{_listed(slow)} has {told}, others {max(rates):g} Gb/s"
        yield warning(said, f"ibstat, ethtool: a slow cable or switch port? or leave it out of {RDMA}")


def _addresses(found: Sequence[RdmaPort]) -> Iterator[Verdict]:
    """RoCE v2 goes by the IPv4 address of the port's interface, at one place in the tables of all ports."""
    lacking = [port for port in found if port.link_layer == "Ethernet" and not roce_indices(port)]
    if lacking:
        where = ", ".join(name for port in lacking for name in port.interfaces) or "its interface"
        said = f"{_listed(lacking)} has no RoCE v2 address over IPv4"
        yield failed(said, f"give {where} an IPv4 address, and see gid_attrs/types in /sys/class/infiniband")
    elif found[0].link_layer == "Ethernet" and gid_index(found) is None:
        said = "RoCE v2 over IPv4 is at no place that all ports have, so no GID index is set"
        yield warning(
            said, "NCCL 2.21 and later finds each port's own; an older one needs the same order of addresses"
        )


def _listed(ports: Sequence[RdmaPort]) -> str:
    return ", ".join(port.name for port in ports)


def _rate(port: RdmaPort) -> str:
    return "an unknown rate" if port.rate_gbps is None else f"{port.rate_gbps:g} Gb/s"
