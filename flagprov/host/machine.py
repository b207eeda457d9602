"""What the kernel says of this machine, as resources and the survey ask for it."""

from __future__ import annotations

import os

from flagprov.host.facts.devices import memory_mib, read
from flagprov.host.facts.system import os_release as parse_os_release

__all__ = ["holder", "listening", "memory_mib", "os_release", "read"]

LISTEN = "0A"


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
    return parse_os_release(read("/etc/os-release"))
