"""A plan as text: each step with its reason and cost, and the hosts that are left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby

from flagprov.models.observed import Change
from flagprov.models.plan import STOP_FIRST, HostPlan, LeftOut, Plan, ReplicaPlan
from flagprov.report.text import Line, Span, Style, count, line, names, paragraph, table

IN_FULL = 10  # replicas; in larger plans equal ones are shown once
_ACTIONS: dict[str, Style] = {"remove": "bad", "stop": "warn", "restart": "warn", "wait": "faint"}


def has_changes(plan: Plan) -> bool:
    """A plan whose later steps are not known yet is no plan without changes."""
    return plan.changes > 0 or any(host.pending for host in plan.hosts())


def plan_lines(plan: Plan, *, width: int | None = None) -> list[Line]:
    lines = [_title(plan)]
    for number, batch in enumerate(plan.batches, 1):
        if len(plan.batches) > 1:
            lines += [line(), line(Span(f"batch {number} of {len(plan.batches)}", "strong"))]
        total = sum(len(each.replicas) for each in plan.batches)
        moving = [replica for replica in batch.replicas if _moves(replica)]
        for group in _groups(moving, merge=total > IN_FULL):
            lines += _replica(group, width)
        lines += _resting([replica for replica in batch.replicas if not _moves(replica)])
    for gateway in plan.gateways:
        lines += [line(), line(Span(f"gateway {gateway.host}", "strong"), indent=2)]
        lines += _steps(gateway, 4, width)
    for text in plan.notes:
        lines += [line(), *_note(text)]
    if plan.left_out:
        lines += [line(), line(Span("left out", "strong"))]
        lines += left_out_lines(plan.left_out)
    return lines


def _title(plan: Plan) -> Line:
    what = f"{plan.verb} {plan.release}".strip()
    hosts = len({host.host for host in plan.hosts()})
    if plan.left_out and not hosts:
        return line(Span(f"{what}: every host was left out", "bad"))
    if not has_changes(plan):
        on = f" on {count(hosts, 'host')}" if hosts else ""
        return line(Span(f"{what}: no change{on}", "good"))
    more = " and what follows from them" if any(host.pending for host in plan.hosts()) else ""
    return line(Span(f"{what}: {count(plan.changes, 'change')}{more} on {count(hosts, 'host')}", "strong"))


def _groups(replicas: Sequence[ReplicaPlan], *, merge: bool) -> list[list[ReplicaPlan]]:
    if not merge:
        return [[replica] for replica in replicas]
    found: dict[object, list[ReplicaPlan]] = {}
    for replica in replicas:
        found.setdefault(_shape(replica), []).append(replica)
    return list(found.values())


def _shape(replica: ReplicaPlan) -> object:
    """Equal for replicas that differ in nothing but their own and their hosts' names."""

    def neutral(text: str, host: str) -> str:
        return text.replace(replica.replica or host, "\0").replace(host, "\1")

    host = replica.hosts[0].host
    return (
        replica.cost,
        replica.order,
        neutral(replica.order_reason, host),
        tuple(
            (
                tuple(
                    (s.stage, s.action, s.cost, s.kind, neutral(s.name, h.host), neutral(s.reason, h.host))
                    for s in h.steps
                ),
                neutral(h.pending, h.host),
            )
            for h in replica.hosts
        ),
    )


def _moves(replica: ReplicaPlan) -> bool:
    return any(host.steps or host.pending for host in replica.hosts)


def _where(group: Sequence[ReplicaPlan]) -> str:
    hosts = names(host.host for replica in group for host in replica.hosts)
    title = names(replica.replica for replica in group)
    return f"{title} on {hosts}" if title and title != hosts else hosts


def _resting(group: Sequence[ReplicaPlan]) -> list[Line]:
    return [line(), line(f"{_where(group)}: ", Span("no change", "good"), indent=2)] if group else []


def _replica(group: Sequence[ReplicaPlan], width: int | None) -> list[Line]:
    shown = group[0]
    cost = f": {shown.cost}" if shown.cost not in ("", "nothing") else ""
    lines = [line(), line(Span(_where(group), "strong"), cost, indent=2)]
    if shown.order:
        style: Style = "warn" if shown.order == STOP_FIRST else "good"
        lines.append(line(Span(f"{shown.order}: ", style), shown.order_reason, indent=4))
    if len(group) > 1:
        lines.append(
            line(
                Span(
                    f"{len(group)} equal ones; the steps of {shown.replica or shown.hosts[0].host}:", "faint"
                ),
                indent=4,
            )
        )
    for host in shown.hosts:
        if len(shown.hosts) > 1:
            lines.append(line(Span(host.host, "strong"), indent=4))
        lines += _steps(host, 4 if len(shown.hosts) == 1 else 6, width)
    return lines


def _steps(host: HostPlan, indent: int, width: int | None) -> Iterable[Line]:
    if not host.steps and not host.pending:
        return [line(Span("no change", "good"), indent=indent)]
    lines = table([_step(step) for step in _folded(host.steps)], indent=indent, width=width)
    if host.pending:
        lines.append(line(Span(f"later: {host.pending}", "faint"), indent=indent))
    return lines


def _folded(steps: Sequence[Change]) -> Iterable[Change]:
    """Directories side by side that have the same done to them are one line."""
    for (kind, *_), group in groupby(steps, key=lambda s: (s.kind, s.stage, s.action, s.reason, s.cost)):
        alike = list(group)
        if kind == "directory" and len(alike) > 1:
            yield replace(alike[0], kind="", name=f"{len(alike)} directories")
        else:
            yield from alike


def _step(step: Change) -> list[str | Span]:
    cost = "" if step.cost in ("", "nothing") else f" ({step.cost})"
    told = step.kind in (step.stage, step.action)
    thing = step.name if told else f"{step.kind.replace('_', ' ')} {step.name}".strip()
    reason = f": {step.reason}" if step.reason else ""
    return [
        Span(step.stage, "faint"),
        Span(step.action, _ACTIONS.get(step.action, "good")),
        thing + reason + cost,
    ]


def _note(text: str) -> list[Line]:
    first, *rest = paragraph(text) or [line()]
    return [line(Span("note: ", "warn"), *first.spans), *(Line(each.spans, 2) for each in rest)]


def left_out_lines(left_out: Iterable[LeftOut]) -> list[Line]:
    """Hosts with the same problem once, all of them named."""
    found: dict[tuple[str, str, str, bool], list[str]] = {}
    for each in left_out:
        problem = each.problem
        key = (problem.step, problem.message, problem.remedy, each.unreachable)
        found.setdefault(key, []).append(each.host)
    lines: list[Line] = []
    for (step, message, remedy, unreachable), hosts in found.items():
        what = "unreachable" if unreachable else step
        lines += problem_lines(names(hosts), what, message, remedy)
    return lines


def problem_lines(hosts: str, what: str, message: str, remedy: str, log: str = "") -> list[Line]:
    """One failure: where, what, the way out, and the engine's last words."""
    first, *rest = paragraph(message) or [line("no message")]
    lines = [line(Span(hosts, "bad"), f", {what}: " if what else ": ", *first.spans, indent=2)]
    lines += [Line(each.spans, 4) for each in rest]
    lines += paragraph(remedy, indent=4)
    if log.strip():
        lines.append(line(Span("last lines of its log:", "faint"), indent=4))
        lines += [Line((Span("| ", "faint"), *each.spans), 4, whole=True) for each in paragraph(log)]
    return lines
