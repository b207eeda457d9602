"""Interfaces and routes from the kernel itself: through which interface a host reaches another."""

from __future__ import annotations

import fcntl
import os
import socket
import struct

from flagprov.host.machine import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SIOCGIFADDR = 0x8915
ROUTE_UP, ROUTE_REJECT = 0x1, 0x200


def networks() -> dict[str, Any]:
    """`addresses`, `addresses6`: interface -> its first one; `routes`: network, interface, metric."""
    return {
        "addresses": addresses(),
        "addresses6": addresses6(read("/proc/net/if_inet6")),
        "routes": routes(read("/proc/net/route")) + routes6(read("/proc/net/ipv6_route")),
    }


def addresses() -> dict[str, str]:
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for name in sorted(os.listdir("/sys/class/net")):
            request = struct.pack("256s", name.encode()[:15])
            try:
                answer = fcntl.ioctl(any_socket.fileno(), SIOCGIFADDR, request)
            except OSError:
                continue  # it has none
            found[name] = socket.inet_ntoa(answer[20:24])
    found.pop("lo", None)
    return found


def addresses6(table: str) -> dict[str, str]:
    """Lines of /proc/net/if_inet6: those that others can reach, none that is only for the link."""
    found: dict[str, str] = {}
    for line in table.splitlines():
        fields = line.split()
        if len(fields) == 6 and fields[3] == "00" and fields[5] != "lo":
            found.setdefault(fields[5], socket.inet_ntop(socket.AF_INET6, bytes.fromhex(fields[0])))
    return found


def routes6(table: str) -> list[dict[str, Any]]:
    """Lines of /proc/net/ipv6_route; the link's own and those to addresses of this host are no way out."""
    found = []
    for line in table.splitlines():
        fields = line.split()
        if len(fields) < 10 or fields[9] == "lo" or fields[0].startswith(("fe80", "ff")):
            continue
        flags = int(fields[8], 16)
        if flags & ROUTE_UP and not flags & ROUTE_REJECT:
            network = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(fields[0]))
            entry = {"network": "%s/%d" % (network, int(fields[1], 16)), "interface": fields[9]}
            found.append(dict(entry, metric=int(fields[5], 16)))
    return found


def routes(table: str) -> list[dict[str, Any]]:
    """Lines of /proc/net/route; numbers there are in the machine's byte order."""
    found = []
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 8 or not int(fields[3], 16) & ROUTE_UP or int(fields[3], 16) & ROUTE_REJECT:
            continue
        network = socket.inet_ntoa(struct.pack("=I", int(fields[1], 16)))
        bits = bin(int(fields[7], 16)).count("1")
        found.append({"network": "%s/%d" % (network, bits), "interface": fields[0], "metric": int(fields[6])})
    return found
