"""The state of every replica, from what its hosts say and what was deployed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from flagprov.models.desired import Placement
from flagprov.models.fleet import Fleet, Host
from flagprov.models.outcome import (
    Completion,
    OperatorStatus,
    ProcessOperators,
    RankStatus,
    ReplicaState,
    ReplicaStatus,
)

WORST_FIRST = (
    "failed",
    "hung",
    "degraded",
    "unreachable",
    "absent",
    "stopped",
    "draining",
    "starting",
    "ready",
)


def endpoint(host: Host, port: int) -> str:
    """URL of a replica's API, by the address under which we reach its host."""
    address = host.connection.address
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def merge(
    fleet: Fleet,
    answers: Mapping[str, Iterable[Mapping[str, Any]]],
    silent: Iterable[str],
    deployed: Mapping[str, Mapping[str, Any]],
    release: str | None,
) -> tuple[ReplicaStatus, ...]:
    """One status per replica; a replica over several hosts is as good as its worst rank."""
    ranks: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
    for host, replicas in answers.items():
        for replica in replicas:
            ranks.setdefault(str(replica["replica"]), []).append((host, replica))
    quiet = set(silent)
    names = {host.name for host in fleet.hosts}
    # A rank without any trace is missed by what the replica's other ranks say of its hosts.
    said = {name: found[0][1] for name, found in ranks.items() if len(found[0][1]["hosts"]) > 1}
    for name, known in {**said, **deployed}.items():
        seen = {host for host, _ in ranks.get(name, ())}
        for host in set(known["hosts"]) & names - seen:
            state = "unreachable" if host in quiet else "absent"
            detail = (
                "its host does not answer" if state == "unreachable" else "deployed once, no trace of it now"
            )
            ranks.setdefault(name, []).append((host, {**known, "state": state, "detail": detail}))
    hosts = {host.name: host for host in fleet.hosts}
    statuses = [_status(name, found, hosts) for name, found in sorted(ranks.items())]
    return tuple(status for status in statuses if release in (None, status.release))


def _status(
    name: str, found: list[tuple[str, Mapping[str, Any]]], hosts: Mapping[str, Host]
) -> ReplicaStatus:
    order = list(found[0][1]["hosts"])
    found.sort(key=lambda rank: order.index(rank[0]) if rank[0] in order else len(order))
    worst = min((rank[1] for rank in found), key=lambda replica: WORST_FIRST.index(replica["state"]))
    head = found[0][1]
    return ReplicaStatus(
        name=name,
        release=str(head["release"]),
        chip=str(head["chip"]),
        hosts=tuple(order),
        endpoint=endpoint(hosts[order[0]], int(head["port"])) if order[0] in hosts else "",
        state=worst["state"],
        model=str(head.get("model", "")),
        engine_version=str(head.get("engine_version", "")),
        ranks=tuple(
            RankStatus(
                host,
                order.index(host) if host in order else i,
                str(replica["state"]),
                operators_of(replica.get("operators")),
            )
            for i, (host, replica) in enumerate(found)
        ),
        detail=str(worst.get("detail", "")),
    )


def operators_of(said: Mapping[str, Any] | None) -> OperatorStatus | None:
    """What a host says of its processes, as a value; hosts are not trusted with their types."""
    if not said:
        return None
    processes = tuple(
        ProcessOperators(
            int(each.get("pid") or 0),
            str(each.get("process") or ""),
            each["flaggems"] if each.get("flaggems") in ("on", "failed") else "off",
            str(each.get("version") or ""),
            int(each.get("operators") or 0),
            str(each.get("error") or ""),
        )
        for each in said.get("processes", ())
    )
    return OperatorStatus(
        str(said.get("asked")), said.get("on") is True, str(said.get("reason") or ""), processes
    )


def of_placement(
    fleet: Fleet, placement: Placement, notes: Mapping[str, Mapping[str, Any]]
) -> tuple[ReplicaStatus, ...]:
    """What a deploy just saw, from its hosts' notes; no host is asked again."""
    hosts = {host.name: host for host in fleet.hosts}
    statuses = []
    for replica in placement.replicas:
        said: dict[str, Mapping[str, Any]] = {
            host: next((n for n in notes.get(host, {}).values() if n.get("replica") == replica.name), {})
            for host in replica.hosts
        }
        states = [_shown(note) for note in said.values()]
        head = said[replica.hosts[0]]
        port = int((head.get("probe") or {}).get("port", replica.port))
        worst = min(said.values(), key=lambda note: WORST_FIRST.index(_shown(note)))
        statuses.append(
            ReplicaStatus(
                name=replica.name,
                release=replica.release,
                chip=replica.chip,
                hosts=replica.hosts,
                endpoint=endpoint(hosts[replica.hosts[0]], port),
                state=cast(ReplicaState, min(states, key=WORST_FIRST.index)),
                model=str(head.get("model", "")),
                ranks=tuple(RankStatus(h, i, states[i]) for i, h in enumerate(replica.hosts)),
                detail=str(worst.get("detail", "")),
            )
        )
    return tuple(statuses)


def _shown(note: Mapping[str, Any]) -> str:
    """What serves something else than was deployed counts as failed."""
    state = str(note.get("state", "absent"))
    return "failed" if state == "wrong" else state


def completions(host: Host, notes: Mapping[str, Any]) -> list[Completion]:
    """The proofs among a host's notes."""
    proofs = []
    for note in notes.values():
        proof = note.get("completion") if isinstance(note, Mapping) else None
        if proof:
            proofs.append(
                Completion(
                    host=host.name,
                    replica=str(note["replica"]),
                    endpoint=endpoint(host, int(note["port"])),
                    model=str(proof["model"]),
                    request=dict(proof["request"]),
                    text=str(proof["text"]),
                    seconds=float(proof["seconds"]),
                )
            )
    return proofs
