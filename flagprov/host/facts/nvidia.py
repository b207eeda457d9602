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
    "err!",
    "gpu is lost",
    "insufficient permissions",
    "not available",
    "not found",  # the version of CUDA, where its library is not installed
    "requested functionality has been deprecated",  # such as reset_required, from branch 570
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


def lost(text: str) -> list[str]:
    """Its lines about devices that do not answer any more."""
    return [line.strip() for line in text.splitlines() if LOST.match(line.strip())]


def devices(gpus: str, apps: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Devices from rows of QUERY and APPS (csv,noheader,nounits), and complaints about others."""
    processes: dict[str, list[str]] = {}
    for line in apps.splitlines():
        cells = [cell.strip() for cell in line.split(", ", 2)]
        if len(cells) == 3 and cells[1].isdecimal():
            processes.setdefault(cells[0], []).append("%s (pid %s)" % (cells[2], cells[1]))
        elif line.strip() and not LOST.match(line.strip()):
            raise Unparsed("nvidia-smi: a row about a process is not understood: %s" % shown(line))
    found: list[dict[str, Any]] = []
    complaints = []
    for line in gpus.splitlines():
        gone = LOST.match(line.strip())
        if gone:
            complaints.append("GPU %s: %s" % (gone.group(1).rstrip(":"), gone.group(2)))
            continue
        if line.strip() == "No devices were found":
            complaints.append("it says: %s" % line.strip())
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
    """`nvidia-smi -q -x`; what a GPU does not have is None, and so is what is not understood: `unread`."""
    from xml.etree import ElementTree

    document = "\n".join(line for line in text.splitlines() if not LOST.match(line.strip()))
    try:
        root = ElementTree.fromstring(document.strip())
    except ElementTree.ParseError:
        raise Unparsed("nvidia-smi -q -x: %s" % shown(text or "it said nothing")) from None
    if root.tag != "nvidia_smi_log":
        raise Unparsed("nvidia-smi -q -x: unknown document <%s>" % root.tag)
    unread: list[str] = []
    gpus = [_gpu(position, gpu, unread) for position, gpu in enumerate(root.findall("gpu"))]
    return {
        "driver": _text(root, "driver_version"),
        "cuda": _text(root, "cuda_version"),
        "gpus": gpus,
        "unread": unread,
    }


def illness(gpu: dict[str, Any]) -> str:
    """Why a GPU of `report` cannot serve; `warning` where it can, and waits for a reset; empty if well."""
    if gpu["rows_failed"]:
        return "remapping a row has failed"
    if gpu["recovery"] not in (None, "None"):
        return "wants recovery: %s" % gpu["recovery"].lower()
    if gpu["reset_required"]:
        return "wants a reset"
    if gpu["mig"] == "Enabled":
        return "partitioned (mig)"
    if gpu["ecc_uncorrected"]:
        return "%d uncorrected memory errors" % gpu["ecc_uncorrected"]
    return "warning" if gpu["rows_pending"] else ""


def _text(element: Element, path: str) -> str | None:
    text = element.findtext(path)
    return None if text is None else _value(text)


def _gpu(position: int, gpu: Element, unread: list[str]) -> dict[str, Any]:
    odd: set[str] = set()

    def number(path: str, unit: str = "") -> int | None:
        try:
            return _number(gpu.findtext(path), unit)
        except Unparsed as unparsed:
            unread.append("GPU %d, %s: %s" % (position, path, unparsed))
            return None

    def yes(*paths: str) -> bool | None:
        found = []
        for path in paths:
            try:
                found.append(_yes(gpu.findtext(path)))
            except Unparsed as unparsed:
                unread.append("GPU %d, %s: %s" % (position, path, unparsed))
                odd.add(path)
        known = [each for each in found if each is not None]
        return True if any(known) else False if known and not odd.intersection(paths) else None

    # Newer drivers split the uncorrected errors of the SRAM.
    kinds = ("sram_uncorrectable", "sram_uncorrectable_parity", "sram_uncorrectable_secded")
    counts = [number("ecc_errors/volatile/" + kind) for kind in kinds + ("dram_uncorrectable",)]
    errors = [count for count in counts if count is not None]
    return {
        "index": position,  # the document has none, but the order of the others
        "uuid": _text(gpu, "uuid") or "",
        "bus": _text(gpu, "pci/pci_bus_id") or str(gpu.get("id", "")),
        "minor": number("minor_number"),
        "name": _text(gpu, "product_name") or "unknown",
        "memory_mib": number("fb_memory_usage/total", "MiB"),
        "used_mib": number("fb_memory_usage/used", "MiB"),
        "persistence": _text(gpu, "persistence_mode"),
        "mig": _text(gpu, "mig_mode/current_mig"),
        "compute_mode": _text(gpu, "compute_mode"),
        "ecc": _text(gpu, "ecc_mode/current_ecc"),
        "ecc_uncorrected": sum(errors) if errors else None,  # since the driver was loaded
        "rows_pending": yes(
            "remapped_rows/remapped_row_pending",
            "ecc_errors/channel_repair_pending",
            "ecc_errors/tpc_repair_pending",
        ),
        "rows_failed": yes("remapped_rows/remapped_row_failure", "ecc_errors/unrepairable_memory"),
        "rows_uncorrected": number("remapped_rows/remapped_row_unc"),
        "fabric_state": _text(gpu, "fabric/state"),
        "fabric_status": _text(gpu, "fabric/status"),
        "recovery": _text(gpu, "gpu_recovery_action"),
        "reset_required": yes("gpu_reset_status/reset_required"),
        "temperature_c": number("temperature/gpu_temp", "C"),
    }


def _yes(text: str | None) -> bool | None:
    value = None if text is None else _value(text)
    if value is not None and value.lower() not in ("yes", "no"):
        raise Unparsed("Yes or No was expected: %s" % shown(value))
    return None if value is None else value.lower() == "yes"


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
