"""Parsers of what NVIDIA's tools, driver and kernel messages say."""

from __future__ import annotations

import re

from flagprov.host.facts import Unparsed, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any
    from xml.etree.ElementTree import Element

QUERY = "index,uuid,name,memory.total,memory.used"
APPS = "gpu_uuid,pid,process_name"
# Said instead of a row, or beside rows, for a device that does not answer any more.
LOST = re.compile(r"Unable to determine the device handle for GPU\s*(\S+?):? (.+)", re.IGNORECASE)
# In place of a value.
NO_VALUE = (
    "",
    "n/a",
    "not supported",
    "unknown error",
    "gpu is lost",
    "insufficient permissions",
    "not available",
)


def _value(text: str) -> str | None:
    bare = text.strip().strip("[]")
    return None if bare.lower() in NO_VALUE or bare.lower().startswith("gpu requires reset") else bare


def _number(text: str | None, unit: str = "") -> int | None:
    """A whole number with its unit; None where the tool has no value."""
    value = None if text is None else _value(text)
    if value is None:
        return None
    words = value.split()
    if not words[0].isdecimal() or words[1:] not in ([], [unit]):
        raise Unparsed(
            "nvidia-smi: a number%s was expected: %s" % (" of " + unit if unit else "", shown(value))
        )
    return int(words[0])


def devices(gpus: str, apps: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Devices from rows of QUERY and APPS (csv,noheader,nounits), and complaints about others."""
    processes: dict[str, list[str]] = {}
    for line in apps.splitlines():
        cells = [cell.strip() for cell in line.split(", ", 2)]
        if len(cells) == 3 and cells[1].isdecimal():
            processes.setdefault(cells[0], []).append("%s (pid %s)" % (cells[2], cells[1]))
        elif line.strip():
            raise Unparsed("nvidia-smi: a row about a process is not understood: %s" % shown(line))
    found: list[dict[str, Any]] = []
    complaints = []
    for line in gpus.splitlines():
        lost = LOST.match(line.strip())
        if lost:
            complaints.append("GPU %s: %s" % (lost.group(1).rstrip(":"), lost.group(2)))
            continue
        cells = [cell.strip() for cell in line.split(", ")]
        if not line.strip():
            continue
        if len(cells) != 5 or not cells[0].isdecimal():
            raise Unparsed("nvidia-smi: %s" % shown(line))
        index, uuid, name, total, used = cells
        found.append(
            {
                "index": int(index),
                "name": _value(name) or "unknown",
                "memory_mib": _number(total),
                "used_mib": _number(used),
                "processes": processes.get(uuid, []),
                "uuid": _value(uuid) or "",
                "health": "ok" if _value(name) else "lost",
                "card": None,
                "phy_id": None,
            }
        )
    return found, complaints


def report(text: str) -> dict[str, Any]:
    """`nvidia-smi -q -x`; what a GPU does not have is None."""
    from xml.etree import ElementTree

    try:
        root = ElementTree.fromstring(text.strip())
    except ElementTree.ParseError:
        raise Unparsed("nvidia-smi -q -x: %s" % shown(text or "it said nothing")) from None
    if root.tag != "nvidia_smi_log":
        raise Unparsed("nvidia-smi -q -x: unknown document <%s>" % root.tag)
    return {
        "driver": _text(root, "driver_version"),
        "cuda": _text(root, "cuda_version"),
        "gpus": [_gpu(position, gpu) for position, gpu in enumerate(root.findall("gpu"))],
    }


def _text(element: Element, path: str) -> str | None:
    text = element.findtext(path)
    return None if text is None else _value(text)


def _gpu(position: int, gpu: Element) -> dict[str, Any]:
    return {
        "index": position,  # the document has no index; its order is that of the index
        "uuid": _text(gpu, "uuid") or "",
        "bus": _text(gpu, "pci/pci_bus_id") or str(gpu.get("id", "")),
        "minor": _number(gpu.findtext("minor_number")),
        "name": _text(gpu, "product_name") or "unknown",
        "memory_mib": _number(gpu.findtext("fb_memory_usage/total"), "MiB"),
        "used_mib": _number(gpu.findtext("fb_memory_usage/used"), "MiB"),
        "persistence": _text(gpu, "persistence_mode"),
        "mig": _text(gpu, "mig_mode/current_mig"),
        "compute_mode": _text(gpu, "compute_mode"),
        "ecc": _text(gpu, "ecc_mode/current_ecc"),
        "ecc_uncorrected": _uncorrected(gpu),
        "rows_pending": _yes(gpu.findtext("remapped_rows/remapped_row_pending")),
        "rows_failed": _yes(gpu.findtext("remapped_rows/remapped_row_failure")),
        "rows_uncorrected": _number(gpu.findtext("remapped_rows/remapped_row_unc")),
        "fabric_state": _text(gpu, "fabric/state"),
        "fabric_status": _text(gpu, "fabric/status"),
        "recovery": _text(gpu, "gpu_recovery_action"),
        "reset_required": _yes(gpu.findtext("gpu_reset_status/reset_required")),
        "temperature_c": _number(gpu.findtext("temperature/gpu_temp"), "C"),
    }


def _yes(text: str | None) -> bool | None:
    value = None if text is None else _value(text)
    if value is not None and value.lower() not in ("yes", "no"):
        raise Unparsed("nvidia-smi -q -x: Yes or No was expected: %s" % shown(value))
    return None if value is None else value.lower() == "yes"


def _uncorrected(gpu: Element) -> int | None:
    """Uncorrected errors since the driver was loaded; newer drivers split those of the SRAM."""
    volatile = gpu.find("ecc_errors/volatile")
    if volatile is None:
        return None
    names = (
        "sram_uncorrectable",
        "sram_uncorrectable_parity",
        "sram_uncorrectable_secded",
        "dram_uncorrectable",
    )
    counts = [count for name in names for count in [_number(volatile.findtext(name))] if count is not None]
    return sum(counts) if counts else None


def links(text: str) -> list[dict[str, Any]]:
    """`nvidia-smi nvlink -s`: links of each GPU that are up, and that are not."""
    found: list[dict[str, Any]] = []
    for line in text.splitlines():
        words = line.strip()
        gpu = re.match(r"GPU (\d+): ", words)
        link = re.match(r"Link (\d+): (.+)", words)
        if gpu:
            found.append({"index": int(gpu.group(1)), "up": 0, "down": []})
        elif link and found and re.match(r"[\d.]+ GB/s$", link.group(2)):
            found[-1]["up"] += 1
        elif link and found and "inactive" in link.group(2).lower():
            found[-1]["down"].append(int(link.group(1)))
        elif re.search(r"all links are in\s?active|not supported|does not support", words, re.IGNORECASE):
            continue  # a GPU without links in use, such as PCIe cards without a bridge
        elif words:
            raise Unparsed("nvidia-smi nvlink -s: %s" % shown(words))
    return found


def loaded(text: str) -> dict[str, Any]:
    """/proc/driver/nvidia/version: the module that is loaded, and whether it is the open one."""
    found = re.search(r"^NVRM version:\s+NVIDIA UNIX (.*?)\s\s+(\d+(?:\.\d+)+)\s", text, re.MULTILINE)
    if not found:
        raise Unparsed("/proc/driver/nvidia/version: %s" % shown(text))
    return {"version": found.group(2), "open": "Open Kernel Module" in found.group(1)}


def version(text: str) -> str:
    """One version number, as `modinfo -F version nvidia` and `nv-fabricmanager --version` say it."""
    found = re.search(r"\b(\d+\.\d+(?:\.\d+)*)\b", text)
    if not found:
        raise Unparsed("a version was expected: %s" % shown(text))
    return found.group(1)


def xids(text: str) -> list[dict[str, Any]]:
    """Xid messages of the kernel log, each kind once per device, with the number of times."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for line in text.splitlines():
        match = re.search(r"NVRM: Xid \((?:PCI:)?([0-9a-fA-F:.]+)\): (\d+)(?:, *(.*))?$", line.rstrip())
        if match:
            key = (match.group(1), int(match.group(2)))
            entry = found.setdefault(key, {"bus": key[0], "xid": key[1], "text": "", "count": 0})
            entry["text"] = shown(match.group(3) or "", 120)
            entry["count"] += 1
        elif "NVRM: Xid" in line:
            raise Unparsed("an Xid in the kernel log is not understood: %s" % shown(line))
    return list(found.values())
