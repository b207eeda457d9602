"""Gateways as text: where they are, and how they treat each replica."""

from __future__ import annotations

from collections.abc import Sequence

from flagprov.models.outcome import GatewayStatus
from flagprov.report.plan import problem_lines
from flagprov.report.text import Line, Span, Style, line, table

STATES: dict[str, Style] = {
    "serving": "good", "stopped": "bad", "absent": "faint", "unreachable": "warn", "failed": "bad",
    "in": "good", "out": "faint", "draining": "warn", "down": "bad",
}  # fmt: skip


def gateway_lines(gateways: Sequence[GatewayStatus], *, width: int | None = None) -> list[Line]:
    """Nothing for a fleet without gateways."""
    rows: list[list[str | Span]] = []
    details: list[Line] = []
    for gateway in gateways:
        shown = Span(gateway.state, STATES.get(gateway.state, ""))
        first: list[str | Span] = [gateway.host, shown, gateway.url or "-"]
        for server in gateway.servers:
            state = Span(server.state, STATES.get(server.state, ""))
            rows.append([*first, server.replica, state, str(server.sessions)])
            first = ["", "", ""]
            if server.detail:
                details.append(line(Span(f"{server.replica}: ", "strong"), server.detail, indent=2))
        if not gateway.servers:
            rows.append([*first, "-", "-", "-"])
        if gateway.message:
            details += problem_lines(gateway.host, "gateway", gateway.message, gateway.remedy)
    if not rows:
        return []
    header = ("gateway", "state", "address", "replica", "requests", "at work")
    return [line(), *table(rows, header=header, width=width), *details]


def all_serve(gateways: Sequence[GatewayStatus]) -> bool:
    """Every gateway that was made is there, and none had to put a replica out."""
    return all(
        gateway.state in ("serving", "absent") and all(server.state != "down" for server in gateway.servers)
        for gateway in gateways
    )
