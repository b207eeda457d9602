"""IPv4 interfaces and routes from the kernel itself: through which interface a host reaches another."""

from __future__ import annotations

import fcntl
import os
import socket
import struct

from flagprov.host.facts.devices import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SIOCGIFADDR = 0x8915
ROUTE_UP, ROUTE_REJECT = 0x1, 0x200


def networks() -> dict[str, Any]:
    """`addresses`: interface -> its first one; `routes`: network, interface, metric, of the main table."""
    return {"addresses": addresses(), "routes": routes(read("/proc/net/route"))}


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
