"""Hosts that are taken out of the fleet's changes for a while: cordoned, drained, and back again."""

from __future__ import annotations

import getpass
import json
import socket
from collections.abc import Callable

from flagprov.apply.converge import OnEvent
from flagprov.desired import stopped
from flagprov.errors import UsageError
from flagprov.models.desired import Resource, Stage
from flagprov.models.observed import Problem, Survey
from flagprov.models.outcome import Outcome
from flagprov.models.plan import Plan
from flagprov.models.request import Request
from flagprov.observe import survey
from flagprov.scope import Scope, scope_of
from flagprov.serving import STATE
from flagprov.transport import Session
from flagprov.upkeep import change

MARK = f"{STATE}/cordoned.json"


def cordon(
    request: Request, *, reason: str, approve: Callable[[Plan], bool], on_event: OnEvent, drain: bool = False
) -> Outcome | None:
    """No deploy or rollout changes these hosts until they are uncordoned; with `drain` they serve nothing."""
    mark = mark_of(reason)

    def resources(session: Session) -> tuple[Resource, ...]:
        seen = survey(session)
        if seen.docker_version is None:
            return (mark,)
        halted = (resource for running in seen.running for resource in stopped(running)) if drain else ()
        return (mark, *halted)

    return change("drain" if drain else "cordon", _named(request), resources, approve, on_event)


def mark_of(reason: str) -> Resource:
    """The file that keeps a host out of changes."""
    content = json.dumps({"by": _who(), "reason": reason}, sort_keys=True) + "\n"
    return Resource("file", MARK, Stage.CONFIG, {"path": MARK, "mode": "0644", "content": content})


def uncordon(request: Request, *, approve: Callable[[Plan], bool], on_event: OnEvent) -> Outcome | None:
    """Take part in changes again; what a drain stopped is started by the next deploy."""
    gone = Resource("file", MARK, Stage.CONFIG, {"path": MARK, "absent": True})
    return change("uncordon", _named(request), lambda session: (gone,), approve, on_event)


def cordoned(seen: Survey) -> Problem | None:
    """Why a host stays out of changes."""
    mark = seen.facts.get("cordoned")
    if not mark:
        return None
    why = f": {mark['reason']}" if mark.get("reason") else ""
    said = f"cordoned by {mark.get('by', 'somebody')} on {mark.get('since', 'an unknown day')}{why}"
    return Problem("cordon", said, f"flagprov uncordon INVENTORY {seen.host}")


def _named(request: Request) -> Scope:
    if not request.limit:
        raise UsageError("no host is named", remedy="name hosts, or a group of the inventory")
    return scope_of(request)


def _who() -> str:
    return f"{getpass.getuser()}@{socket.gethostname()}"
