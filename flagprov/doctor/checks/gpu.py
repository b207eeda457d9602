"""Checks of NVIDIA GPUs, from what nvidia-smi and the kernel say."""

from __future__ import annotations

import re
from collections.abc import Callable

from flagprov.doctor.subject import Subject, Verdict, failed, numbers, ok, unknown, warning, worst
from flagprov.models.chip import Interconnect
from flagprov.models.facts import Gpu, GpuReport


def _gpus(check: Callable[[Subject, GpuReport], Verdict | None]) -> Callable[[Subject], Verdict | None]:
    """A check of what `nvidia-smi -q` says; unknown where it says nothing."""

    def checked(subject: Subject) -> Verdict | None:
        found = subject.facts.nvidia
        if subject.chip is None or subject.chip.detection.tool != "nvidia-smi" or found is None:
            return None
        if found.report is None:
            said = found.errors.get("report", "there is no nvidia-smi")
            return unknown(said, "see what `nvidia-smi -q -x` says on the host")
        return check(subject, found.report) if found.report.gpus else None

    return checked


def _interconnect(subject: Subject, gpu: Gpu) -> Interconnect | None:
    kinds = subject.chip.health.interconnects if subject.chip else ()
    return next((kind for kind in kinds if re.search(kind.name_pattern, gpu.name)), None)


@_gpus
def fabric(subject: Subject, report: GpuReport) -> Verdict | None:
    """NVSwitch machines: until the fabric is completed, CUDA cannot start."""
    if not _switched(subject, report):
        return None
    found = []
    way = "systemctl restart nvidia-fabricmanager; see its journal"
    for gpu in report.gpus:
        if gpu.fabric_state is None:
            found.append(unknown(f"GPU {gpu.index} does not say", "nvidia-smi -q has it from branch 535"))
        elif (gpu.fabric_state, gpu.fabric_status) != ("Completed", "Success"):
            said = f"GPU {gpu.index}: {gpu.fabric_state}, {gpu.fabric_status or 'no status'}"
            found.append(subject.of_device(gpu.index, said, way))
    manager = subject.facts.nvidia and subject.facts.nvidia.fabric_manager
    if manager and manager.version and report.driver and manager.version != report.driver:
        said = f"Fabric Manager {manager.version} beside driver {report.driver}"
        found.append(failed(said, f"install nvidia-fabricmanager {report.driver}"))
    elif manager and manager.active != "active":
        found.append(warning(f"Fabric Manager is {manager.active}", "systemctl start nvidia-fabricmanager"))
    return worst(found, f"completed on {len(report.gpus)} GPUs")


def _switched(subject: Subject, report: GpuReport) -> bool:
    """Whether there are NVSwitches: on the bus, or, where that is not known, by the GPUs' kind."""
    if subject.facts.bus is not None:
        return bool(subject.facts.bus.get("nvswitch"))
    kinds = (_interconnect(subject, gpu) for gpu in report.gpus)
    return any(kind and kind.fabric for kind in kinds)


@_gpus
def links(subject: Subject, report: GpuReport) -> Verdict | None:
    kinds = {gpu.index: _interconnect(subject, gpu) for gpu in report.gpus}
    wanted = {index: kind.links for index, kind in kinds.items() if kind}
    nvidia = subject.facts.nvidia
    if not wanted or nvidia is None:
        return None
    if nvidia.links is None:
        said = nvidia.errors.get("links", "nvidia-smi nvlink says nothing")
        return unknown(said, "see what `nvidia-smi nvlink -s` says") if any(wanted.values()) else None
    found, up = [], 0
    for entry in nvidia.links:
        up += entry.up
        if entry.down or entry.up < wanted.get(entry.index, 0):
            said = f"GPU {entry.index}: {entry.up} of {max(wanted.get(entry.index, 0), entry.up)} NVLinks up"
            remedy = "nvidia-smi nvlink -s; reset the GPU; NVSwitch or baseboard if it stays"
            expected = bool(wanted.get(entry.index))
            found.append(subject.of_device(entry.index, said, remedy) if expected else warning(said, remedy))
    silent = [i for i in wanted if wanted[i] and i not in {entry.index for entry in nvidia.links}]
    if silent:
        found.append(unknown(f"GPU {numbers(silent)} names no links", "see what `nvidia-smi nvlink -s` says"))
    return worst(found, f"{up} NVLinks up")


@_gpus
def mig(subject: Subject, report: GpuReport) -> Verdict:
    on = [gpu.index for gpu in report.gpus if gpu.mig == "Enabled"]
    way = "stop what runs there; nvidia-smi -mig 0"
    return worst(subject.of_devices(on, lambda which: f"GPU {which} is partitioned (MIG)", way), "off")


@_gpus
def compute_mode(subject: Subject, report: GpuReport) -> Verdict:
    odd = {gpu.index: gpu.compute_mode for gpu in report.gpus if gpu.compute_mode not in (None, "Default")}
    modes = ", ".join(sorted({str(mode) for mode in odd.values()}))

    def said(which: str) -> str:
        return f"GPU {which} is {modes}; an engine has several processes"

    return worst(subject.of_devices(list(odd), said, "nvidia-smi -c DEFAULT"), "default")


@_gpus
def persistence(subject: Subject, report: GpuReport) -> Verdict:
    off = [gpu.index for gpu in report.gpus if gpu.persistence == "Disabled"]
    if off:
        return warning(f"off on GPU {numbers(off)}", "systemctl enable --now nvidia-persistenced")
    return ok("on")


@_gpus
def memory_errors(subject: Subject, report: GpuReport) -> Verdict:
    """ECC and remapped rows."""
    found = []
    off = [gpu.index for gpu in report.gpus if gpu.ecc == "Disabled"]
    if off:
        found.append(warning(f"ECC is off on GPU {numbers(off)}", "nvidia-smi -e 1, then reset the GPU"))
    for gpu in report.gpus:
        name, reset = f"GPU {gpu.index}", f"nvidia-smi --gpu-reset -i {gpu.index}"
        if gpu.rows_failed:
            said = f"{name}: remapping a row has failed"
            found.append(subject.of_device(gpu.index, said, "have the GPU replaced"))
        if gpu.recovery not in (None, "None") or gpu.reset_required:
            asked = "a reset" if gpu.recovery in (None, "None", "Reset") else f"recovery: {gpu.recovery}"
            remedy = f"stop what runs there, then {reset}, or reboot"
            found.append(subject.of_device(gpu.index, f"{name}: it wants {asked}", remedy))
        elif gpu.rows_pending:  # NVIDIA: what is not affected runs on, and new work may be started
            remedy = f"when it is drained next: {reset}"
            found.append(warning(f"{name}: a repair of its memory waits for a reset", remedy))
        if gpu.ecc_uncorrected:
            said = f"{name}: {gpu.ecc_uncorrected} uncorrected ECC errors"
            remedy = f"{reset}; have it replaced if they come again"
            found.append(subject.of_device(gpu.index, said, remedy))
    return worst(found, "no uncorrected error")


@_gpus
def xids(subject: Subject, report: GpuReport) -> Verdict:
    """Xid messages of the driver since boot; which ones matter is data of the chip."""
    assert subject.chip is not None and subject.facts.nvidia is not None
    seen = subject.facts.nvidia.xids
    if seen is None:
        said = subject.facts.nvidia.errors.get("xids", "the kernel log cannot be read")
        return unknown(said, "see what `journalctl -k -b` or `dmesg` says, as root")
    health = subject.chip.health
    found = []
    for xid in seen:
        said = f"Xid {xid.xid} on {xid.bus}" + (f", {xid.count} times" if xid.count > 1 else "")
        said += f" ({xid.text})" if xid.text else ""
        if xid.xid in health.fatal_xids:
            found.append(_fatal(subject, report, xid.bus, said))
        elif xid.xid not in health.harmless_xids:
            found.append(warning(said, "NVIDIA's Xid catalog says what it means"))
    harmless = len(seen) - len(found)
    fine = f"none that matters since boot, {harmless} of programs" if harmless else "none since boot"
    return worst(found, fine)


def _fatal(subject: Subject, report: GpuReport, bus: str, said: str) -> Verdict:
    way = (
        "reset the GPU or reboot (drained first); see NVIDIA's Xid catalog. The kernel's log keeps it until "
        "a reboot: where the GPU was reset since, --force xid"
    )
    at = bus.lower().rsplit(".", 1)[0].lstrip("0")  # 0000:3b:00 and 00000000:3B:00.0 are one place
    index = next((g.index for g in report.gpus if g.bus.lower().rsplit(".", 1)[0].lstrip("0") == at), None)
    return failed(said, way) if index is None else subject.of_device(index, said, way)
