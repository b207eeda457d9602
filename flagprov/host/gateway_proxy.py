"""HAProxy's sockets: the runtime API of the worker, and of those that only finish what they have."""

from __future__ import annotations

import re
import socket

from flagprov.host.wire import Blocked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ADMIN = "/run/flagprov-gateway/admin.sock"
MASTER = "/run/flagprov-gateway/master.sock"


def ask(command: str, path: str = ADMIN) -> str:
    """One command, its whole answer."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(10)
            connection.connect(path)
            connection.sendall(command.encode() + b"\n")
            connection.shutdown(socket.SHUT_WR)
            chunks: list[bytes] = []
            while True:
                chunk = connection.recv(65536)
                if not chunk:
                    return b"".join(chunks).decode(errors="replace")
                chunks.append(chunk)
    except OSError as error:
        raise Blocked(
            "gateway",
            "HAProxy does not answer at %s: %s" % (path, error.strerror or error),
            "systemctl status flagprov-gateway on that host",
        ) from None


def do(command: str) -> None:
    """A command that says nothing when it went well."""
    said = ask(command).strip()
    if said:
        raise Blocked("gateway", "HAProxy refuses `%s`: %s" % (command.split(" ", 2)[:2], said))


def everywhere(command: str) -> None:
    """Also in workers that only finish: the connections they have left may bring another request."""
    do(command)
    for pid in old_workers(ask("show proc", MASTER)):
        ask("@!%s %s" % (pid, command), MASTER)


def table(text: str) -> list[dict[str, str]]:
    """Rows of `show stat`."""
    lines = text.lstrip("# \n").splitlines()
    if not lines:
        return []
    names = lines[0].split(",")
    return [dict(zip(names, line.split(","))) for line in lines[1:] if line]


def old_workers(text: str) -> list[str]:
    """Process numbers of workers that only finish their sessions, from `show proc`."""
    _, _, rest = text.partition("# old workers")
    rest = rest.partition("# programs")[0]
    return re.findall(r"^(\d+)\s+worker", rest, re.M)


def servers(backend: str) -> dict[str, dict[str, Any]]:
    """Status and sessions of each server; sessions that older workers still carry are counted in."""
    found: dict[str, dict[str, Any]] = {}
    for row in table(ask("show stat")):
        if row.get("pxname") == backend and row["svname"] not in ("BACKEND", "FRONTEND"):
            found[row["svname"]] = {
                "status": row["status"],
                "sessions": int(row["scur"] or 0) + int(row["qcur"] or 0),
                "detail": row.get("check_desc", "") if row.get("check_status", "") != "L7OK" else "",
            }
    for pid in old_workers(ask("show proc", MASTER)):
        for row in table(ask("@!%s show stat" % pid, MASTER)):
            if row.get("pxname") == backend and row.get("svname") in found:
                found[row["svname"]]["sessions"] += int(row["scur"] or 0)
    return found
