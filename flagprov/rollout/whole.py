"""A replica over several hosts is brought up whole or not at all."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from flagprov.apply.converge import OnEvent, converge
from flagprov.apply.lease import Lease
from flagprov.desired import halted
from flagprov.errors import HostError, UnreachableError
from flagprov.models.desired import Replica
from flagprov.models.plan import Batch
from flagprov.transport import Session

TAIL = 30  # lines of a rank's log that are shown


def halves(replicas: Iterable[Replica], going: Collection[str]) -> dict[str, str]:
    """Hosts that cannot go, because another host of their replica does not: host -> why."""
    found = {}
    for replica in replicas:
        away = [host for host in replica.hosts if host not in going]
        for host in replica.hosts if away else ():
            if host in going:
                found[host] = f"{replica.name} needs {' and '.join(away)} too, which cannot be used now"
    return found


def kept_out(names: Iterable[str], why: HostError) -> dict[str, HostError]:
    """Hosts that another one's trouble keeps from being changed."""
    said = f"{why.host}: {why.message}"
    return {name: HostError(name, why.step, said, remedy=why.remedy, log=why.log) for name in names}


def partners(batch: Batch, broken: Mapping[str, HostError]) -> dict[str, HostError]:
    """Hosts whose replica has lost another of its hosts: they are no use alone."""
    found: dict[str, HostError] = {}
    for replica in batch.replicas:
        bad = [plan.host for plan in replica.hosts if plan.host in broken]
        for plan in replica.hosts if bad else ():
            if plan.host not in broken:
                message = f"{' and '.join(bad)}, of the same replica {replica.replica}, failed"
                found[plan.host] = HostError(plan.host, "serve", message)
    return found


def replicas_on(batch: Batch, host: str, *, spread: bool = False) -> list[str]:
    """Replicas of the batch on a host; with `spread` those only that span several hosts."""
    return [
        replica.replica
        for replica in batch.replicas
        if replica.replica
        and (len(replica.hosts) > 1 or not spread)
        and any(plan.host == host for plan in replica.hosts)
    ]


def group_of(batch: Batch, host: str) -> set[str]:
    """The host, and all that serve a replica together with it."""
    mine = [{plan.host for plan in replica.hosts} for replica in batch.replicas]
    return {host}.union(*(hosts for hosts in mine if host in hosts))


def halt(session: Session, replicas: Iterable[str], lease: Lease, on_event: OnEvent) -> str:
    """Stop replicas, such as ranks that are left alone; the end of what their engines said."""
    logs = []
    for replica in replicas:
        converge(session, halted(replica), "", lease, on_event)
        logs.append(tail(session, replica))
    return "\n".join(log for log in logs if log)


def tail(session: Session, replica: str, container: str = "") -> str:
    """The end of the log of a replica's engine, or of a container's; empty where there is none."""
    lines: list[str] = []

    def keep(message: Mapping[str, Any]) -> None:
        lines.append(str(message.get("text", "")))

    which = {"container": container} if container else {"replica": replica}
    try:
        session.ask({"op": "logs", **which, "lines": TAIL}, keep)
    except UnreachableError:
        raise
    except HostError as error:
        return error.message
    return "\n".join(lines)
