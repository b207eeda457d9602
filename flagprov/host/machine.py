"""What the kernel says of this machine; imports nothing of ours: it lies in the launcher's directory, too."""

from __future__ import annotations

import os
import re

LISTEN = "0A"


def read(path: str, default: str = "") -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return default


def memory_mib(path: str = "/proc/meminfo") -> int:
    found = re.search(r"MemTotal:\s+(\d+)", read(path))
    return int(found.group(1)) // 1024 if found else 0


def available_mib() -> int:
    """Memory that something new can have."""
    found = re.search(r"MemAvailable:\s+(\d+)", read("/proc/meminfo"))
    return int(found.group(1)) // 1024 if found else 0


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
