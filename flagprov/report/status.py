"""Status as an aligned table: replicas, their ranks where they differ, hosts that did not answer."""

from __future__ import annotations

from collections.abc import Sequence

from flagprov.models.outcome import Outcome, ReplicaStatus
from flagprov.report.outcome import STATES, failure_lines
from flagprov.report.text import Line, Span, count, line, names, natural, table

UNWELL = frozenset({"degraded", "hung", "failed", "unreachable", "absent"})


def is_well(outcome: Outcome) -> bool:
    """No host failed to answer, and no replica is in a state that somebody must look at."""
    return outcome.succeeded and not any(replica.state in UNWELL for replica in outcome.replicas)


def status_lines(outcome: Outcome, *, width: int | None = None) -> list[Line]:
    replicas = sorted(outcome.replicas, key=lambda replica: natural(replica.name))
    answered = sum(host.state in ("changed", "unchanged") for host in outcome.hosts)
    nothing = line(f"no replica on {count(answered, 'host')}")
    lines = _table(replicas, width) if replicas else [nothing]
    for replica in replicas:
        lines += _details(replica)
    failures = failure_lines(outcome.hosts)
    if failures:
        lines += [line(), line(Span("hosts without an answer", "strong")), *failures]
    for note in outcome.notes:
        lines += [line(), line(Span("note: ", "warn"), note)]
    return lines


def _table(replicas: Sequence[ReplicaStatus], width: int | None) -> list[Line]:
    rows: list[list[str | Span]] = [
        [
            replica.name,
            Span(replica.state, STATES.get(replica.state, "")),
            replica.release,
            replica.chip,
            names(replica.hosts),
            replica.endpoint or "-",
            " ".join(part for part in (replica.model, replica.engine_version) if part) or "-",
        ]
        for replica in replicas
    ]
    header = ("replica", "state", "release", "chip", "hosts", "endpoint", "model")
    return table(rows, header=header, width=width)


def _details(replica: ReplicaStatus) -> list[Line]:
    lines: list[Line] = []
    if replica.detail:
        lines.append(line(Span(f"{replica.name}: ", "strong"), replica.detail))
    odd = [rank for rank in replica.ranks if rank.state != replica.state]
    if odd and len(replica.ranks) > 1:
        ranks = ", ".join(f"rank {rank.rank} on {rank.host} {rank.state}" for rank in replica.ranks)
        lines.append(line(Span(f"{replica.name}: ", "strong"), ranks))
    return [line(), *lines] if lines else []
