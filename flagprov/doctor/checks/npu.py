"""Checks of Ascend NPUs."""

from __future__ import annotations

from flagprov.doctor.subject import Subject, Verdict, failed, numbers, ok, unknown, warning, worst
from flagprov.placement import is_well


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
    if subject.facts.ascend is None or not subject.facts.ascend.table:
        return None
    ports = subject.facts.ascend.network
    if ports is None:
        said = subject.facts.ascend.errors.get("network", "there is no hccn_tool")
        return unknown(said, "it comes with the driver's tools: install the driver with --full")
    several = bool(subject.serving and subject.serving.variant.nodes > 1)
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
    return worst(found, f"{len(ports)} links up")
