"""The lab's status as text and JSON."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from flagprov.report.json import plain
from flagprov.report.text import Line, Span, line, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flagprov.lab import LabHost, LabStatus


def of_lab(status: LabStatus) -> dict[str, Any]:
    return {
        "hosts": plain(status.hosts),
        "registry": status.registry,
        "inventory": str(status.inventory),
        "chip_inventories": [str(path) for path in status.chip_inventories],
    }


NEXT = {"h100": "qwq-32b", "ascend": "qwen3-4b", "graviton": "qwen2-7b"}


def lab_lines(status: LabStatus, inventories: Sequence[str], *, width: int | None = None) -> list[Line]:
    """`inventories` are their paths as the user would write them."""
    if not status.hosts:
        return [line("there is no lab; ", Span("flagprov lab up", "strong"), " brings one up")]
    rows: list[list[str | Span]] = [
        [host.name, host.address, _state(host), host.docker, host.chip] for host in status.hosts
    ]
    lines = table(rows, header=("host", "address", "state", "docker", "chip"), width=width)
    facts: list[list[str | Span]] = [
        [Span("registry", "faint"), status.registry or "not running"],
        [Span("inventory", "faint"), ", ".join(inventories)],
        [Span("next", "faint"), f"flagprov deploy {shlex.quote(inventories[0])} {_release(inventories[0])}"],
    ]
    return [*lines, line(), *table(facts, width=width)]


def _release(inventory: str) -> str:
    """One that the inventory's hosts can serve."""
    chips = inventory.rpartition("/")[2].removeprefix("lab").removeprefix("-").removesuffix(".ini")
    return "qwen3-tiny" if not chips else NEXT.get(chips, "qwen3-4b")


def _state(host: LabHost) -> Span:
    if not host.running:
        return Span("stopped", "bad")
    return Span("up", "good") if host.ssh else Span("no ssh", "warn")
