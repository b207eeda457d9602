"""What HAProxy reads of the gateway's servers: backends and routes, from one JSON file; pure."""

from __future__ import annotations

import re

from flagprov.host.wire import Blocked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
ADDRESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:-]*")
PATH = re.compile(r"/[A-Za-z0-9._~/?=&%-]*")
PREFIX = "flagprov-"
CHECKS = "inter 2s fastinter 500ms downinter 1s fall 3 rise 1"


def backend(release: str) -> str:
    return PREFIX + release


def checked(release: str, servers: dict[str, Any], path: str) -> None:
    """Nothing that is not a plain name, address or path reaches HAProxy's language."""
    if not PATH.fullmatch(path):
        raise Blocked("gateway", "%r is no path" % path, "correct readiness.path of the release")
    for text in (release, *servers):
        if not NAME.fullmatch(text):
            raise Blocked("gateway", "%r is no name for a backend or server" % text, "rename it")
    for name, server in servers.items():
        if not ADDRESS.fullmatch(str(server["address"])) or not 0 < int(server["port"]) < 65536:
            raise Blocked(
                "gateway",
                "%s: no address: %s port %s" % (name, server["address"], server["port"]),
                "set flagprov_serving_address for its host",
            )


def place(server: dict[str, Any]) -> str:
    address = str(server["address"])
    return "%s:%d" % ("[%s]" % address if ":" in address else address, server["port"])


def options(name: str, agent_port: int) -> str:
    """Of a server, as the file and the runtime API both take them."""
    agent = 'agent-check agent-addr 127.0.0.1 agent-port %d agent-inter 1s agent-send "%s\\n"'
    return "check %s %s" % (CHECKS, agent % (agent_port, name))


def backends_text(state: dict[str, Any], agent_port: int) -> str:
    """One backend per release; a server that was not let in yet, or was drained, stays disabled."""
    lines = ["# Written by flagprov from backends.json beside it; changes are lost."]
    for release, found in sorted(state["releases"].items()):
        path = found.get("path") or "/health"
        lines += [
            "backend %s from flagprov" % backend(release),
            "    balance leastconn",
            "    option httpchk",
            "    http-check send meth GET uri %s" % path,
            "    http-check expect status 200",
        ]
        for name, server in sorted(found["servers"].items()):
            words = ["server", name, place(server), options(name, agent_port), "init-addr last,libc,none"]
            words += [] if server["state"] == "in" else ["disabled"]
            lines.append("    " + " ".join(words))
    return "\n".join(lines) + "\n"


def routes_text(state: dict[str, Any], default: str) -> str:
    """First part of a path to backend; `*` is where paths without a release go."""
    releases = sorted(state["releases"])
    lines = ["%s %s" % (release, backend(release)) for release in releases]
    first = default if default in releases else state.get("first")
    if first in releases:
        lines.append("* %s" % backend(str(first)))
    return "".join(line + "\n" for line in lines)
