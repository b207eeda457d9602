"""What a gateway says of itself, as its users find it; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flagprov.errors import HostError, UnreachableError
from flagprov.models.fleet import Host
from flagprov.models.outcome import GatewayServer, GatewayStatus


def gateway_status(host: Host, shown: Mapping[str, Any], error: HostError | None) -> GatewayStatus:
    """A gateway as its users find it."""
    found = []
    for release, known in sorted((shown.get("releases") or {}).items()):
        for name, server in sorted(known.items()):
            live, agent = server.get("live") or {}, server.get("agent") or {}
            state = _state(str(live.get("status", "")), str(server["state"]))
            detail = str(agent.get("detail") or live.get("detail") or "") if state == "down" else ""
            found.append(GatewayServer(name, release, state, int(live.get("sessions", 0)), detail))
    state = "serving" if shown.get("running") else "stopped" if shown.get("provisioned") else "absent"
    if error:
        state = "unreachable" if isinstance(error, UnreachableError) else "failed"
    return GatewayStatus(
        host.name,
        str(shown.get("url", "")),
        state,
        tuple(found),
        error.message if error else "",
        error.remedy if error else "",
    )


def _state(status: str, wanted: str) -> str:
    """HAProxy's word in ours: in, out, draining, down."""
    for word, state in (("UP", "in"), ("DRAIN", "draining"), ("MAINT", "out"), ("DOWN", "down")):
        if status.startswith(word):
            return state
    return "in" if wanted == "in" and status == "no check" else "out"
