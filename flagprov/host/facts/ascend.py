"""Parsers of what Huawei's NPU tools and files say."""

from __future__ import annotations

import re

from flagprov.host.facts import Unparsed, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PAIR = re.compile(r"(\d+)\s*/\s*(\d+)")


def table(text: str) -> dict[str, Any]:
    """`npu-smi info`: a device per chip, numbered like its node; columns are cut at `|`, not by width."""
    version = ""
    second: list[str] = []
    memory = ""
    found: list[dict[str, Any]] = []
    head: list[str] | None = None
    processes: dict[tuple[int, int], list[str]] = {}
    in_processes = False
    for line in text.splitlines():
        cells = (
            [cell.strip() for cell in line.strip().strip("|").split("|")]
            if line.strip().startswith("|")
            else []
        )
        said = re.match(r"npu-smi (\S+)\s+Version: (\S+)", cells[0]) if cells else None
        if not cells:
            if line.strip() and not line.strip().startswith("+"):
                raise Unparsed("npu-smi info: %s" % shown(line))
        elif said:
            version = said.group(2)
        elif cells[0].split()[:2] == ["NPU", "Name"]:
            continue
        elif cells[0].split()[:1] == ["Chip"]:
            second, memory = cells[0].split(), cells[-1]
        elif cells[0].split()[:2] == ["NPU", "Chip"]:
            in_processes = True
        elif in_processes:
            _process(cells, processes)
        elif not second:
            raise Unparsed("npu-smi info: a row before the header: %s" % shown(line))
        elif head is None:
            head = cells
        else:
            found.append(_device(head, cells, second, memory))
            head = None
    if head is not None or not found:
        raise Unparsed("npu-smi info: %s" % shown(text or "it said nothing"))
    for device in found:
        device["processes"] = processes.pop((device["card"], device["chip"]), [])
    if processes:
        raise Unparsed(
            "npu-smi info: a process on NPU %d chip %d, which is not in the table" % next(iter(processes))
        )
    numbers = [device["index"] for device in found]
    if len(set(numbers)) != len(numbers):
        raise Unparsed("npu-smi info: two devices have one number")
    return {"version": version, "devices": sorted(found, key=lambda device: int(device["index"]))}


def _device(head: list[str], cells: list[str], second: list[str], memory: str) -> dict[str, Any]:
    first, ids = head[0].split(None, 1), cells[0].split()
    if len(head) != 3 or len(cells) != 3 or len(first) != 2 or len(ids) != len(second):
        raise Unparsed("npu-smi info: %s" % shown(" | ".join(head + cells)))
    if not first[0].isdecimal() or not all(each.isdecimal() for each in ids):
        raise Unparsed("npu-smi info: a number was expected: %s" % shown(" | ".join(head + cells)))
    pairs = PAIR.findall(cells[2])
    columns = len(re.findall(r"\S+-Usage\(MB\)", memory))
    known = len(pairs) == columns and bool(pairs)
    return {
        "index": int(ids[1]) if len(ids) > 1 else int(first[0]),
        "name": first[1].strip(),
        "memory_mib": int(pairs[-1][1]) if known else None,
        "used_mib": int(pairs[-1][0]) if known else None,
        "processes": [],
        "uuid": "",
        "health": head[1].lower() or "unknown",
        "card": int(first[0]),
        "phy_id": int(ids[1]) if second[1:] == ["Phy-ID"] else None,
        "chip": int(ids[0]),
        "bus": cells[1],
    }


def _process(cells: list[str], processes: dict[tuple[int, int], list[str]]) -> None:
    if len(cells) == 1 and cells[0].startswith("No running processes"):
        return
    ids = cells[0].split()
    if len(cells) < 4 or len(ids) != 2 or not all(each.isdecimal() for each in ids + [cells[1]]):
        raise Unparsed("npu-smi info: a row about a process is not understood: %s" % shown(" | ".join(cells)))
    processes.setdefault((int(ids[0]), int(ids[1])), []).append("%s (pid %s)" % (cells[2], cells[1]))


def mapping(text: str) -> list[dict[str, Any]]:
    """`npu-smi info -m`: the logical number, which processes use, of each chip, without the MCU."""
    found = []
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines or not re.match(r"NPU ID\s+Chip ID\s+Chip Logic ID\s+Chip Name", lines[0]):
        raise Unparsed("npu-smi info -m: %s" % shown(text or "it said nothing"))
    for line in lines[1:]:
        match = re.match(r"(\d+)\s+(\d+)\s+(\d+|-)\s+(?:(\d+|-)\s+)?(\S.*)$", line)
        if not match:
            raise Unparsed("npu-smi info -m: %s" % shown(line))
        npu, chip, logic, _, name = match.groups()
        if logic != "-":
            found.append({"card": int(npu), "chip": int(chip), "logic_id": int(logic), "name": name.strip()})
    return found


def numbered(devices: list[dict[str, Any]], entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Devices with the number that processes know each by; not the node's where one is missing."""
    told = {(entry["card"], entry["chip"]): entry["logic_id"] for entry in entries}
    return [dict(device, logical=told.get((device["card"], device["chip"]))) for device in devices]


def pairs(text: str) -> dict[str, str]:
    """KEY=VALUE files without quotes: version.info, ascend_install.info."""
    found = {}
    for line in text.splitlines():
        key, equals, value = line.strip().partition("=")
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if not equals or not re.match(r"[A-Za-z_][A-Za-z0-9_.-]*$", key):
            raise Unparsed("KEY=VALUE was expected: %s" % shown(line))
        found[key] = value.strip()
    if not found:
        raise Unparsed("KEY=VALUE was expected, the file is empty")
    return found


def hccn(text: str) -> str:
    """The state in `hccn_tool -i N -link -g` or `-net_health -g`: UP, DOWN, Success, Fault, ..."""
    found = re.search(r"^\s*(?:link|net health) status\s*:\s*(\S.*?)\s*$", text, re.MULTILINE | re.IGNORECASE)
    if not found:
        raise Unparsed("hccn_tool: %s" % shown(text or "it said nothing"))
    return found.group(1)


def hccn_address(text: str) -> dict[str, str]:
    """`hccn_tool -i N -ip -g`: address and netmask; none where none was set."""
    if "no ip was preset" in text:
        return {}
    address = re.search(r"^\s*ipaddr\s*:\s*(\S+)\s*$", text, re.MULTILINE)
    mask = re.search(r"^\s*netmask\s*:\s*(\S+)\s*$", text, re.MULTILINE)
    if not address or not mask:
        raise Unparsed("hccn_tool -ip: %s" % shown(text or "it said nothing"))
    return {"address": address.group(1), "netmask": mask.group(1)}


def hccn_gateway(text: str) -> str:
    """`hccn_tool -i N -gateway -g`; empty where none was set."""
    if "no gateway was preset" in text:
        return ""
    found = re.search(r"^\s*default gateway\s*:\s*([^\s,]+)", text, re.MULTILINE)
    if not found:
        raise Unparsed("hccn_tool -gateway: %s" % shown(text or "it said nothing"))
    return found.group(1)


def hccn_tls(text: str) -> bool:
    """`hccn_tool -i N -tls -g`: whether ports prove who they are to each other."""
    found = re.search(r"\btls switch\[([01])\]", text)
    if not found:
        raise Unparsed("hccn_tool -tls: %s" % shown(text or "it said nothing"))
    return found.group(1) == "1"
