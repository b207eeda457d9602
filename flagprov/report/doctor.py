"""Findings as a table, and what to do about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from flagprov.models.finding import Diagnosis, Finding
from flagprov.report.json import plain
from flagprov.report.plan import problem_lines
from flagprov.report.text import Line, Span, Style, count, line, names, natural, paragraph, table

STATES: dict[str, Style] = {"ok": "good", "warning": "warn", "failed": "bad", "unknown": "faint"}
IN_FULL = 10  # hosts; of more, those with equal findings are shown together


def doctor_lines(diagnosis: Diagnosis, *, width: int | None = None) -> list[Line]:
    groups = _groups(diagnosis.findings)
    rows: list[list[str | Span]] = [
        [names(each.host for each in group), group[0].check, _state(group[0]), group[0].message]
        for group in groups
    ]
    lines = table(rows, header=("host", "check", "state", "finding"), width=width)
    lines += _remedies(diagnosis.findings)
    if diagnosis.silent:
        lines += [line(), line(Span("hosts without an answer", "strong"))]
    for host, problem, unreachable in diagnosis.silent:
        what = "unreachable" if unreachable else problem.step
        lines += problem_lines(host, what, problem.message, problem.remedy)
    return [*lines, line(), _summary(diagnosis)]


def _remedies(findings: Sequence[Finding]) -> list[Line]:
    """The way out of everything that is not well, once for all hosts that need it."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for each in findings:
        if each.state != "ok" and each.remedy:
            found.setdefault((each.check, each.state, each.remedy), []).append(each.host)
    lines = [line(), line(Span("what to do", "strong"))] if found else []
    for (check, state, remedy), hosts in found.items():
        lines.append(line(Span(names(hosts), STATES[state]), f", {check}:", indent=2))
        lines += paragraph(remedy, indent=4)
    return lines


def _state(finding: Finding) -> Span:
    return Span("forced", "warn") if finding.forced else Span(finding.state, STATES[finding.state])


def _groups(findings: Sequence[Finding]) -> list[list[Finding]]:
    """Findings in the order of hosts and checks."""
    hosts = {finding.host for finding in findings}
    order = list(dict.fromkeys(finding.check for finding in findings))
    if len(hosts) <= IN_FULL:
        return [[each] for each in sorted(findings, key=lambda each: natural(each.host))]
    found: dict[tuple[str, str, str, str, bool], list[Finding]] = {}
    for each in sorted(findings, key=lambda each: order.index(each.check)):
        key = (each.check, each.state, each.message, each.remedy, each.forced)
        found.setdefault(key, []).append(each)
    return list(found.values())


def _summary(diagnosis: Diagnosis) -> Line:
    counts = Counter("forced" if each.forced else each.state for each in diagnosis.findings)
    hosts = len({each.host for each in diagnosis.findings})
    parts = [
        f"{counts[state]} {state}"
        for state in ("ok", "warning", "unknown", "forced", "failed")
        if counts[state]
    ]
    said = f"{count(hosts, 'host')}: {', '.join(parts) or 'nothing was checked'}"
    if diagnosis.silent:
        said += f"; {count(len(diagnosis.silent), 'host')} without an answer"
    return line(Span(said, "good" if diagnosis.healthy else "bad"))


def of_doctor(diagnosis: Diagnosis) -> dict[str, Any]:
    silent = [
        {"host": host, **plain(problem), "unreachable": unreachable}
        for host, problem, unreachable in diagnosis.silent
    ]
    return {**plain(diagnosis), "silent": silent, "healthy": diagnosis.healthy}
