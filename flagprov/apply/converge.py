"""One host from its plan to its outcome, through the host program."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flagprov.errors import HostError, UnreachableError
from flagprov.models.desired import Resource
from flagprov.models.event import Event
from flagprov.models.observed import Change
from flagprov.models.outcome import HostOutcome
from flagprov.transport import Session

if TYPE_CHECKING:
    from flagprov.apply.lease import Lease

OnEvent = Callable[[Event], None]


def host_event(host: str, message: Mapping[str, Any]) -> Event:
    """A host's line as an event; its text is untrusted and only ever shown."""
    return Event(
        time=time.time(),
        host=host,
        kind=message["kind"],
        stage=str(message.get("stage", "")),
        step=str(message.get("step", "")),
        text=str(message.get("text", "")),
        replica=message.get("replica"),
        data=dict(message.get("data") or {}),
    )


def converge(
    session: Session,
    resources: Sequence[Resource],
    digest: str,
    lease: Lease,
    on_event: OnEvent,
    deployment: Mapping[str, Any] | None = None,
    restarts: Sequence[str] = (),
    *,
    beside: bool = False,
    checked: bool = False,
    only: Sequence[str] = (),
) -> dict[str, Any]:
    """Apply resources; refused by the host when its look has moved, or when another run holds it.

    `restarts`: endpoints of engines that the plan restarts for how they are. `beside`: they start in free
    slots, and what is in the others serves on and stays the replicas. `checked`: nothing is applied where a
    look finds a problem. `only`: of these kinds, though all are looked at.
    """
    host = session.host.name
    payload = {
        "op": "converge",
        "resources": [resource.wire() for resource in resources],
        "digest": digest,
        "lease": lease.wire,
        "deployment": deployment,
        "restarts": list(restarts),
        **({"beside": True} if beside else {}),
        **({"checked": True} if checked else {}),
        **({"only": list(only)} if only else {}),
    }
    return session.ask(payload, lambda message: on_event(host_event(host, message)))


def to_restart(steps: Iterable[Change]) -> list[str]:
    """Endpoints whose engines a plan restarts for how they are; no later look may add to these."""
    return [step.name for step in steps if (step.kind, step.action) == ("probe", "restart")]


def failed(error: HostError, unreachable: bool, seconds: Mapping[str, float] | None = None) -> HostOutcome:
    return HostOutcome(
        host=error.host,
        state="unreachable" if unreachable else "failed",
        step=error.step,
        message=error.message,
        remedy=error.remedy,
        log=error.log,
        seconds=dict(seconds or {}),
    )


def failures(answers: Mapping[str, object]) -> dict[str, HostOutcome]:
    """What became of the hosts that gave an error instead of an answer."""
    return {
        name: failed(error, isinstance(error, UnreachableError))
        for name, error in answers.items()
        if isinstance(error, HostError)
    }
