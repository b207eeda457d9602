"""An outcome as text: per host state and times, endpoints, failures, the completion, what to try next."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace

from flagprov.models.desired import Stage
from flagprov.models.outcome import Completion, HostOutcome, Outcome, ReplicaStatus
from flagprov.report.gateway import gateway_lines
from flagprov.report.plan import problem_lines
from flagprov.report.text import Line, Span, Style, count, duration, line, names, natural, table

IN_FULL = 20  # hosts or replicas; more are shown in groups
STATES: dict[str, Style] = {
    "changed": "good", "unchanged": "", "failed": "bad", "unreachable": "warn",
    "ready": "good", "starting": "warn", "draining": "warn", "degraded": "warn", "hung": "bad",
    "stopped": "faint", "absent": "faint",
}  # fmt: skip


def outcome_lines(outcome: Outcome, *, width: int | None = None) -> list[Line]:
    """The final report of a verb that changes things."""
    lines = [_title(outcome)]
    lines += _section("hosts", _hosts(outcome.hosts, width))
    lines += _section("replicas", _replicas(outcome.replicas, width))
    lines += gateway_lines(outcome.gateways, width=width)
    lines += _section("failed", failure_lines(outcome.hosts))
    if outcome.completions:
        chat = "chat " if "messages" in outcome.completions[0].request else ""
        lines += _section(f"{chat}completion", _completions(outcome.completions, width))
    for note in outcome.notes:
        lines += [line(), line(Span("note: ", "warn"), note)]
    if outcome.run_directory:
        lines += [line(), line(Span(f"record of this run: {outcome.run_directory}", "faint"))]
    return lines


def next_lines(outcome: Outcome, inventory: str) -> list[Line]:
    """What to try next, as commands to paste."""
    where = shlex.quote(inventory)
    release = shlex.quote(outcome.release) if outcome.release else "RELEASE"
    commands: list[tuple[str, str]] = []
    failed = [host for host in outcome.hosts if host.state in ("failed", "unreachable")]
    if outcome.verb == "deploy":
        if failed:
            again = "the same command does what is missing, and only that"
            commands.append((again, "once it is mended"))
        if outcome.completions:
            commands.append((curl(outcome.completions[0]), "the same question again"))
        commands.append((f"flagprov status {where}", "what serves where"))
        target = outcome.replicas[0].name if outcome.replicas else failed[0].host if failed else ""
        if target:
            commands.append((f"flagprov logs -f {where} {shlex.quote(target)}", "what the engine says"))
        commands.append(
            (f"flagprov plan {where} {release} --set serve.max_model_len=1024", "what a change would do")
        )
        commands.append((f"flagprov teardown {where} {release}", "take it away again"))
    elif outcome.verb == "stop":
        commands.append((f"flagprov deploy {where} {release}", "start it again"))
        commands.append((f"flagprov teardown {where} {release}", "take it away"))
    if not commands:
        return []
    rows = table([[Span(why, "faint"), command] for command, why in commands], indent=2)
    return [line(), line(Span("next", "strong")), *(replace(row, whole=True) for row in rows)]


def curl(completion: Completion) -> str:
    """The completion's request as a shell command."""
    base = completion.endpoint.rstrip("/")
    base = base if base.endswith("/v1") else f"{base}/v1"
    way = "chat/completions" if "messages" in completion.request else "completions"
    body = shlex.quote(_json(completion.request))
    return f"curl {shlex.quote(f'{base}/{way}')} -H 'Content-Type: application/json' -d {body}"


def _json(value: Mapping[str, object]) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _section(title: str, lines: list[Line]) -> list[Line]:
    return [line(), line(Span(title, "strong")), *lines] if lines else []


def _title(outcome: Outcome) -> Line:
    what = f"{outcome.verb} {outcome.release}".strip()
    took = f"; took {duration(outcome.seconds)}" if outcome.seconds else ""
    states = [host.state for host in outcome.hosts]
    if outcome.succeeded and not outcome.changes:
        return line(Span(f"{what}: no change on {count(len(states), 'host')}", "good"), took)
    spans: list[Span] = []
    for state in ("changed", "unchanged", "failed", "unreachable"):
        if state in states:
            number = states.count(state)
            said = f"{number} {state}" if spans else f"{count(number, 'host')} {state}"
            spans += [Span(", "), Span(said, STATES[state])] if spans else [Span(said, STATES[state])]
    return line(Span(f"{what}: ", "strong"), *spans, took)


def _hosts(hosts: Sequence[HostOutcome], width: int | None) -> list[Line]:
    labels = [stage.label for stage in Stage]
    used = {stage for host in hosts for stage in host.seconds}
    stages = [stage for stage in labels if stage in used] + sorted(used - set(labels))
    groups = _host_groups(hosts)
    rows: list[list[str | Span]] = [
        [
            names(host.host for host in group),
            Span(group[0].state, STATES[group[0].state]),
            str(group[0].changes),
            *(_longest(group, stage) for stage in stages),
        ]
        for group in groups
    ]
    lines = table(rows, header=("host", "state", "changes", *stages), indent=2, width=width)
    if len(groups) < len(hosts) and stages:
        lines.append(line(Span("times are those of the slowest host of each line", "faint"), indent=2))
    return lines


def _host_groups(hosts: Sequence[HostOutcome]) -> list[list[HostOutcome]]:
    if len(hosts) <= IN_FULL:
        return [[host] for host in sorted(hosts, key=lambda host: natural(host.host))]
    found: dict[tuple[str, int], list[HostOutcome]] = {}
    for host in hosts:
        found.setdefault((host.state, host.changes if host.state == "changed" else 0), []).append(host)
    return [found[key] for key in sorted(found)]


def _longest(group: Sequence[HostOutcome], stage: str) -> str:
    times = [host.seconds[stage] for host in group if stage in host.seconds]
    return duration(max(times)) if times else "-"


def _replicas(replicas: Sequence[ReplicaStatus], width: int | None) -> list[Line]:
    shown = sorted(replicas, key=lambda replica: (replica.state == "ready", natural(replica.name)))
    if len(replicas) > IN_FULL:
        ready = [replica for replica in shown if replica.state == "ready"]
        shown = [replica for replica in shown if replica.state != "ready"] + ready[:3]
    rows: list[list[str | Span]] = [
        [replica.name, Span(replica.state, STATES.get(replica.state, "")), names(replica.hosts),
         replica.endpoint or "-", replica.detail]
        for replica in shown
    ]  # fmt: skip
    header = ["replica", "state", "hosts", "endpoint", "detail"]
    if not any(replica.detail for replica in shown):
        rows, header = [row[:-1] for row in rows], header[:-1]
    lines = table(rows, header=header, indent=2, width=width)
    if len(shown) < len(replicas):
        lines.append(line(f"and {len(replicas) - len(shown)} more that are ready", indent=2))
    return lines


def failure_lines(hosts: Sequence[HostOutcome]) -> list[Line]:
    """Every failed host; those that failed in the same way together."""
    found: dict[tuple[str, str, str, str], list[str]] = {}
    for host in hosts:
        if host.state in ("failed", "unreachable"):
            what = host.step or ("unreachable" if host.state == "unreachable" else "")
            found.setdefault((what, host.message, host.remedy, host.log), []).append(host.host)
    return [each for key, failed in found.items() for each in problem_lines(names(failed), *key)]


def _completions(completions: Sequence[Completion], width: int | None) -> list[Line]:
    first = completions[0]
    rows: list[list[str | Span]] = [
        ["endpoint", Span(first.endpoint, "strong")],
        ["model", first.model],
        ["request", _json(first.request)],
        ["answer", Span(json.dumps(first.text, ensure_ascii=False), "good")],
        ["took", duration(first.seconds)],
    ]
    lines = table(rows, indent=2, width=width)
    others = completions[1:]
    if others:
        slowest = duration(max(each.seconds for each in others))
        which = names(each.replica for each in others)
        lines.append(line(f"also answered: {which}, the slowest in {slowest}", indent=2))
    return lines
