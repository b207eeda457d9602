"""Status as an aligned table: replicas, their ranks where they differ, hosts that did not answer."""

from __future__ import annotations

from collections.abc import Sequence

from flagprov.models.outcome import OperatorStatus, Outcome, ReplicaStatus
from flagprov.report.gateway import all_serve, gateway_lines
from flagprov.report.outcome import STATES, failure_lines
from flagprov.report.text import Line, Span, count, line, names, natural, table

UNWELL = frozenset({"degraded", "hung", "failed", "unreachable", "absent"})


def is_well(outcome: Outcome) -> bool:
    """No host failed to answer, and no replica is in a state that somebody must look at."""
    unwell = any(replica.state in UNWELL for replica in outcome.replicas)
    return outcome.succeeded and not unwell and all_serve(outcome.gateways)


def status_lines(outcome: Outcome, *, width: int | None = None) -> list[Line]:
    replicas = sorted(outcome.replicas, key=lambda replica: natural(replica.name))
    answered = sum(host.state in ("changed", "unchanged") for host in outcome.hosts)
    nothing = line(f"no replica on {count(answered, 'host')}")
    lines = _table(replicas, width) if replicas else [nothing]
    for replica in replicas:
        lines += _details(replica)
    lines += gateway_lines(outcome.gateways, width=width)
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


def operator_texts(replica: ReplicaStatus) -> list[str]:
    """What its processes compute with: one text for all hosts that say the same."""
    hosts: dict[str, list[str]] = {}
    for rank in replica.ranks:
        if rank.operators is not None:
            for text in _of_rank(rank.operators):
                hosts.setdefault(text, []).append(rank.host)
    return [f"{text} on {names(found)}" for text, found in hosts.items()]


def _of_rank(said: OperatorStatus) -> list[str]:
    if not said.on:
        return [f"native operators{f' ({said.reason})' if said.reason else ''}"]
    counts: dict[str, int] = {}
    for process in said.processes:
        if process.flaggems == "on":
            text = f"FlagGems {process.version}".rstrip() + f" on, {process.operators} operators replaced"
        elif process.flaggems == "failed":
            text = f"FlagGems failed ({process.error})"
        else:
            text = f"FlagGems off ({process.process})"
        counts[text] = counts.get(text, 0) + 1
    texts = [f"{text}, in {number} process{'' if number == 1 else 'es'}" for text, number in counts.items()]
    return texts or ["FlagGems not proved by any process"]


def _details(replica: ReplicaStatus) -> list[Line]:
    lines: list[Line] = []
    if replica.detail:
        lines.append(line(Span(f"{replica.name}: ", "strong"), replica.detail))
    lines += [line(Span(f"{replica.name}: ", "strong"), text) for text in operator_texts(replica)]
    odd = [rank for rank in replica.ranks if rank.state != replica.state]
    if odd and len(replica.ranks) > 1:
        ranks = ", ".join(f"rank {rank.rank} on {rank.host} {rank.state}" for rank in replica.ranks)
        lines.append(line(Span(f"{replica.name}: ", "strong"), ranks))
    return [line(), *lines] if lines else []
