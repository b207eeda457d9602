"""The lab's status as text and JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flagprov.report.json import plain
from flagprov.report.text import Line, Span, line, table

if TYPE_CHECKING:
    from flagprov.lab import LabStatus


def of_lab(status: LabStatus) -> dict[str, Any]:
    found = plain(status)
    assert isinstance(found, dict)
    return found


def lab_lines(status: LabStatus, *, width: int | None = None) -> list[Line]:
    """Whatever the lab knows: a table for each list, a line for each fact."""
    facts: list[list[str | Span]] = []
    lines: list[Line] = []
    for key, value in of_lab(status).items():
        name = key.replace("_", " ")
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            rows = [[_said(each) for each in entry.values()] for entry in value]
            lines += [
                line(Span(name, "strong")),
                *table(rows, header=tuple(value[0]), indent=2, width=width),
                line(),
            ]
        elif key != "schema_version":
            facts.append([Span(name, "faint"), _said(value)])
    return lines + table(facts, width=width)


def _said(value: Any) -> str:
    match value:
        case None | "" | []:
            return "-"
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(str(each) for each in value)
    return str(value)
