"""Parsers of what the kernel and common tools say: processor, mounts, clock, addresses."""

from __future__ import annotations

import json
import re

from flagprov.host.facts import Unparsed, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def os_release(text: str) -> dict[str, str]:
    pairs = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            pairs[key.strip()] = value.strip().strip("\"'")
    return pairs


def cpuinfo(text: str) -> dict[str, Any]:
    """/proc/cpuinfo: its name, or implementer and part where it has none; features of the first CPU."""

    def first(key: str) -> str:
        found = re.search(r"^%s[ \t]*:[ \t]*(\S.*?)[ \t]*$" % key, text, re.MULTILINE)
        return found.group(1) if found else ""

    implementer, part = first("CPU implementer"), first("CPU part")
    name = first("model name")
    if not name and implementer and part:
        name = "implementer %s part %s" % (implementer, part)
    if not name and not text.strip():
        raise Unparsed("/proc/cpuinfo is empty")
    return {
        "name": name or None,
        "cpus": len(re.findall(r"^processor[ \t]*:", text, re.MULTILINE)),
        "features": (first("Features") or first("flags")).split(),
    }


def lscpu(text: str) -> dict[str, Any]:
    """`LC_ALL=C lscpu`: what /proc/cpuinfo does not say on every architecture."""
    pairs: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            pairs.setdefault(key.strip(), value.strip())
    if "Architecture" not in pairs:
        raise Unparsed("lscpu: %s" % shown(text or "it said nothing"))

    def number(*keys: str) -> int | None:
        values = [pairs[key] for key in keys if pairs.get(key, "").isdecimal()]
        return int(values[0]) if values else None

    return {
        "model": pairs.get("Model name") or None,
        "sockets": number("Socket(s)", "Cluster(s)"),
        "cores_per_socket": number("Core(s) per socket", "Core(s) per cluster"),
        "threads_per_core": number("Thread(s) per core"),
        "numa_nodes": number("NUMA node(s)"),
    }


def mounts(text: str) -> list[dict[str, str]]:
    """/proc/self/mountinfo; the last of several mounts on one point is the one that is seen."""
    found: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        before, dash, after = line.partition(" - ")
        left, right = before.split(" "), after.split(" ")
        if not dash or len(left) < 6 or len(right) < 2:
            raise Unparsed("/proc/self/mountinfo: %s" % shown(line))
        point = _octal(left[4])
        found.pop(point, None)
        source = _octal(right[1])
        found[point] = {
            "point": point,
            "source": source,
            "type": right[0],
            "options": left[5],
            "root": _octal(left[3]),
        }
    return list(found.values())


def fstab(text: str) -> dict[str, str]:
    """Mount point -> source of what is to be mounted at boot."""
    found = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 3 and not words[0].startswith("#") and words[1].startswith("/"):
            options = words[3].split(",") if len(words) > 3 else []
            if words[2] not in ("swap", "none") and "noauto" not in options:
                found[_octal(words[1])] = _octal(words[0])
    return found


def _octal(text: str) -> str:
    """Spaces and the like are written as \\040 there."""
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code.group(1), 8)), text)


def chrony(text: str) -> dict[str, Any]:
    """`chronyc -n tracking`: whether the clock follows a source, and how far off it is; ahead is positive."""
    leap = re.search(r"^Leap status\s*: (.+?)\s*$", text, re.MULTILINE)
    off = re.search(r"^System time\s*: ([\d.]+) seconds (fast|slow) of NTP time", text, re.MULTILINE)
    if not leap or not off:
        raise Unparsed("chronyc tracking: %s" % shown(text or "it said nothing"))
    synchronized = leap.group(1) != "Not synchronised"
    offset = float(off.group(1)) * (1 if off.group(2) == "fast" else -1)
    return {"tool": "chronyc", "synchronized": synchronized, "offset_s": offset if synchronized else None}


def timedatectl(text: str) -> dict[str, Any]:
    """`timedatectl show`: whether the kernel's clock is synchronized; it knows no offset."""
    found = re.search(r"^NTPSynchronized=(yes|no)\s*$", text, re.MULTILINE)
    if not found:
        raise Unparsed("timedatectl show: %s" % shown(text or "it said nothing"))
    return {"tool": "timedatectl", "synchronized": found.group(1) == "yes", "offset_s": None}


def timesync(text: str) -> float:
    """The offset in seconds in `timedatectl timesync-status`."""
    units = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
    found = re.search(r"^\s*Offset: ([+-]?)(\S.*?)\s*$", text, re.MULTILINE)
    parts = re.findall(r"([\d.]+)(us|ms|min|s|h)\b", found.group(2)) if found else []
    if not found or not parts:
        raise Unparsed("timedatectl timesync-status: %s" % shown(text or "it said nothing"))
    total = sum(float(number) * units[unit] for number, unit in parts)
    return round(-total if found.group(1) == "-" else total, 9)


def addresses(text: str) -> dict[str, list[str]]:
    """`ip -json address`: interface -> addresses with their prefix length; link-local ones are left out."""
    try:
        entries = json.loads(text)
        return {
            entry["ifname"]: [
                "%s/%d" % (each["local"], each["prefixlen"])
                for each in entry.get("addr_info", [])
                if each.get("scope") != "link" and "local" in each
            ]
            for entry in entries
            if "ifname" in entry
        }
    except (ValueError, KeyError, TypeError):
        raise Unparsed("ip -json address: %s" % shown(text or "it said nothing")) from None
