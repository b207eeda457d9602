"""What the kernel and the vendors' tools say of this machine."""

from __future__ import annotations

import os
import re

from flagprov.host.shell import run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LISTEN = "0A"


def read(path: str, default: str = "") -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return default


def listening() -> dict[int, str]:
    """Port -> socket inode of everything that listens on TCP here."""
    found = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in read(table).splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTEN:
                found[int(fields[1].rsplit(":", 1)[1], 16)] = fields[9]
    return found


def holder(port: int) -> str:
    """`command (pid N)` of the process that listens on a port."""
    inode = listening().get(port)
    wanted = "socket:[%s]" % inode
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            for descriptor in os.listdir("/proc/%s/fd" % pid):
                if os.readlink("/proc/%s/fd/%s" % (pid, descriptor)) == wanted:
                    return "%s (pid %s)" % (read("/proc/%s/comm" % pid).strip(), pid)
        except OSError:
            continue  # it ended while we looked
    return "a process outside this host's process table" if inode else ""


def os_release() -> dict[str, str]:
    pairs = {}
    for line in read("/etc/os-release").splitlines():
        key, _, value = line.partition("=")
        pairs[key] = value.strip().strip('"')
    return pairs


def memory_mib() -> int:
    found = re.search(r"MemTotal:\s+(\d+)", read("/proc/meminfo"))
    return int(found.group(1)) // 1024 if found else 0


def devices() -> dict[str, list[dict[str, Any]]]:
    """By tool; a tool that is not here is left out, a value that cannot be read is None."""
    found = {"cpuinfo": _processors()}
    nvidia = nvidia_devices()
    if nvidia is not None:
        found["nvidia-smi"] = nvidia
    return found


def _processors() -> list[dict[str, Any]]:
    """One device per NUMA node."""
    cpuinfo = read("/proc/cpuinfo")
    model = re.search(r"model name\s*:\s*(.+)", cpuinfo)
    part = re.search(r"CPU part\s*:\s*(\S+)", cpuinfo)
    implementer = re.search(r"CPU implementer\s*:\s*(\S+)", cpuinfo)
    if model:
        name = model.group(1).strip()
    elif part and implementer:
        name = "implementer %s part %s" % (implementer.group(1), part.group(1))
    else:
        name = os.uname().machine
    base = "/sys/devices/system/node"
    nodes = [
        entry for entry in (os.listdir(base) if os.path.isdir(base) else []) if re.match(r"node\d+$", entry)
    ]
    count = max(1, len(nodes))
    each = memory_mib() // count
    return [{"index": i, "name": name, "memory_mib": each, "processes": [], "uuid": ""} for i in range(count)]


def nvidia_devices() -> list[dict[str, Any]] | None:
    """None where there is no nvidia-smi; CSV, because its text output is not stable."""
    query = ["nvidia-smi", "--format=csv,noheader,nounits"]
    answer = run(query + ["--query-gpu=index,uuid,name,memory.total"], timeout=30)
    if answer.code == 127:
        return None
    apps = (
        run(query + ["--query-compute-apps=gpu_uuid,pid,process_name"], timeout=30)
        if not answer.code
        else answer
    )
    return parse_nvidia(answer.out if not answer.code else "", apps.out if not apps.code else "")


def parse_nvidia(gpus: str, apps: str) -> list[dict[str, Any]]:
    processes: dict[str, list[str]] = {}
    for line in apps.splitlines():
        cells = [cell.strip() for cell in line.split(", ", 2)]
        if len(cells) == 3:
            processes.setdefault(cells[0], []).append("%s (pid %s)" % (cells[2], cells[1]))
    found = []
    for line in gpus.splitlines():
        cells = [cell.strip() for cell in line.split(", ")]
        if len(cells) != 4 or not cells[0].isdigit():
            continue
        index, uuid, name, memory = cells
        found.append(
            {
                "index": int(index),
                "name": name,
                "memory_mib": int(memory) if memory.isdigit() else None,
                "processes": processes.get(uuid, []),
                "uuid": uuid,
            }
        )
    return found
