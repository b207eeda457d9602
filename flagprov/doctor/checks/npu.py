"""Checks of Ascend NPUs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_interface

from flagprov.doctor.subject import Subject, Verdict, failed, numbers, ok, unknown, warning, worst
from flagprov.models.facts import Ascend, NpuPort
from flagprov.placement import is_well

SET_ADDRESS = "hccn_tool -i N -ip -s address ADDRESS netmask MASK"
SET_TLS = "the same on all NPUs of all hosts: hccn_tool -i N -tls -s enable 0"


def health(subject: Subject) -> Verdict | None:
    """What npu-smi says of each device; an alarm on a device that would serve is a failure."""
    if subject.chip is None or subject.chip.detection.tool != "npu-smi" or not subject.devices:
        return None
    found = []
    for device in subject.devices:
        if device.health == "ok":
            continue
        said = f"NPU {device.index}: {device.health}"
        remedy = f"npu-smi info -t health -i {device.index if device.card is None else device.card} says why"
        found.append(
            warning(said, remedy) if is_well(device) else subject.of_device(device.index, said, remedy)
        )
    return worst(found, f"all {len(subject.devices)} ok")


def numbering(subject: Subject) -> Verdict | None:
    """Processes count NPUs in their own way; where the two ways differ, a process gets another device."""
    if subject.facts.ascend is None or not subject.facts.ascend.table:
        return None
    mapping = subject.facts.ascend.mapping
    if mapping is None:
        said = subject.facts.ascend.errors.get("mapping", "npu-smi info -m says nothing")
        return unknown(said, "see what `npu-smi info -m` says on the host")
    ordered = [entry.logic_id for entry in sorted(mapping, key=lambda entry: (entry.card, entry.chip))]
    indices = [device.index for device in subject.facts.ascend.table.devices]
    if ordered != indices:
        told = ", ".join(map(str, ordered))
        return ok(f"devices {numbers(indices)} have the logical numbers {told}, which engines are given")
    return ok("logical and physical numbers agree")


def network(subject: Subject) -> Verdict | None:
    """The NPUs' own network ports, which replicas over several hosts need."""
    ascend = subject.facts.ascend
    if ascend is None or not ascend.table:
        return None
    ports = ascend.network
    if ports is None:
        said = ascend.errors.get("network", "there is no hccn_tool")
        return unknown(said, "it comes with the driver's tools: install the driver with --full")
    several = subject.spans_hosts
    down = [port.index for port in ports if (port.link or "").upper() != "UP"]
    ill = [port.index for port in ports if port.health not in (None, "Success") and port.index not in down]
    found = []
    for indices, what in ((down, "no link"), (ill, "cannot reach the network")):
        if indices:
            said, remedy = (
                f"NPU {numbers(indices)}: {what}",
                "hccn_tool -i N -link -g; cable, switch, address",
            )
            found.append(failed(said, remedy) if several else warning(said, remedy))
    if several:
        serving = [port for port in ports if not subject.chosen or port.index in subject.chosen]
        found += [*_addresses(subject, serving), *_authentication(subject, serving)]
        found += _configured(serving, ascend)
    return worst(found, f"{len(ports)} links up")


def _partners(subject: Subject) -> dict[str, tuple[NpuPort, ...]]:
    """Ports of the replica's other hosts: there its NPUs have the same numbers."""
    return {
        name: tuple(p for p in facts.ascend.network if not subject.chosen or p.index in subject.chosen)
        for name, facts in subject.partners.items()
        if facts.ascend and facts.ascend.network
    }


def _addresses(subject: Subject, ports: Sequence[NpuPort]) -> Iterator[Verdict]:
    """Each port has an address of its own, and a gateway where others are in another network."""
    without = [port.index for port in ports if port.ip == {}]
    if without:
        said = f"NPU {numbers(without)}: its port has no address"
        # The dies of a super pod have links of their own.
        super_pod = subject.chip is not None and subject.chip.detection.devices_per_card > 1
        way = SET_ADDRESS + ("; within one super pod none is needed" if super_pod else "")
        yield (warning if super_pod else failed)(said, way)
    silent = [port.index for port in ports if port.ip is None]
    if silent:
        yield unknown(
            f"NPU {numbers(silent)} does not say what address its port has", "hccn_tool -i N -ip -g"
        )
    for partner, theirs in _partners(subject).items():
        taken = {port.ip["address"]: port.index for port in theirs if port.ip}
        for port in ports:
            if port.ip and port.ip["address"] in taken:
                address = port.ip["address"]
                said = f"NPU {port.index} has {address}, and so has NPU {taken[address]} of {partner}"
                yield failed(said, SET_ADDRESS)
        networks = {port.index: _network(port) for port in theirs if port.ip}
        lone = [port for port in ports if port.ip and port.gateway == ""]
        lost = [p.index for p in lone if networks.get(p.index, _network(p)) != _network(p)]
        if lost:
            said = f"NPU {numbers(lost)} has no gateway, and is in another network on {partner}"
            yield failed(said, "hccn_tool -i N -gateway -s gateway ADDRESS")


def _network(port: NpuPort) -> str:
    assert port.ip is not None
    try:
        return str(ip_interface(f"{port.ip['address']}/{port.ip['netmask']}").network)
    except ValueError:
        return port.ip["netmask"]


def _authentication(subject: Subject, ports: Sequence[NpuPort]) -> Iterator[Verdict]:
    """Ports that want certificates do not talk to those that have none: HCCL ends with a timeout."""
    switched = {state: [p.index for p in ports if p.tls is state] for state in (True, False)}
    if switched[True] and switched[False]:
        said = f"TLS is on for NPU {numbers(switched[True])} and off for NPU {numbers(switched[False])}"
        yield failed(said, SET_TLS)
        return
    for partner, theirs in _partners(subject).items():
        for state, word, other in ((True, "on", "off"), (False, "off", "on")):
            unlike = [port.index for port in theirs if port.tls is not None and port.tls is not state]
            if switched[state] and unlike:
                said = f"TLS is {word} here and {other} for NPU {numbers(unlike)} of {partner}"
                yield failed(said, SET_TLS)


def _configured(ports: Sequence[NpuPort], ascend: Ascend) -> Iterator[Verdict]:
    """/etc/hccn.conf, which containers are given, says what the ports have."""
    if ascend.hccn is None:
        if any(port.ip for port in ports):
            said = ascend.errors.get("hccn", "there is no /etc/hccn.conf, which the container needs")
            yield failed(said, f"{SET_ADDRESS}, which writes it")
        return
    for port in ports:
        has = {**(port.ip or {}), **({"gateway": port.gateway} if port.gateway is not None else {})}
        for name, value in has.items():
            written = ascend.hccn.get(f"{name}_{port.index}", "")
            if written != value:
                said = f"NPU {port.index}: {name} {value or 'none'}, /etc/hccn.conf says {written or 'none'}"
                yield failed(said, f"{SET_ADDRESS}, which writes both")
