"""The lab's status as text and JSON."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from flagprov.report.json import plain
from flagprov.report.text import Line, Span, line, table

if TYPE_CHECKING:
    from flagprov.lab import LabHost, LabStatus


def of_lab(status: LabStatus) -> dict[str, Any]:
    return {
        "hosts": plain(status.hosts),
        "registry": status.registry,
        "inventory": str(status.inventory),
    }


def lab_lines(status: LabStatus, inventory: str, *, width: int | None = None) -> list[Line]:
    """`inventory` is the path as the user would write it."""
    if not status.hosts:
        return [line("there is no lab; ", Span("flagprov lab up", "strong"), " brings one up")]
    rows: list[list[str | Span]] = [
        [host.name, host.address, _state(host), host.docker] for host in status.hosts
    ]
    lines = table(rows, header=("host", "address", "state", "docker"), width=width)
    facts: list[list[str | Span]] = [
        [Span("registry", "faint"), status.registry or "not running"],
        [Span("inventory", "faint"), inventory],
        [Span("next", "faint"), f"flagprov deploy {shlex.quote(inventory)} qwen3-tiny"],
    ]
    return [*lines, line(), *table(facts, width=width)]


def _state(host: LabHost) -> Span:
    if not host.running:
        return Span("stopped", "bad")
    return Span("up", "good") if host.ssh else Span("no ssh", "warn")
