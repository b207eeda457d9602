"""A batch that was refused: what served before serves again, what is new is stopped."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flagprov.apply.bring import Brought
from flagprov.apply.converge import failed, host_event
from flagprov.errors import HostError, UnreachableError
from flagprov.models.plan import Batch
from flagprov.rollout.whole import group_of, halt, replicas_on
from flagprov.transport import Session

if TYPE_CHECKING:
    from flagprov.rollout.move import Rolling


class PuttingBack:
    """The way back of one batch."""

    def __init__(self, rolling: Rolling, batch: Batch) -> None:
        self._rolling, self._batch = rolling, batch
        self._deployment = {
            "command": f"put back after {rolling.lease.wire.get('command', '')}",
            "by": rolling.lease.wire.get("holder"),
            "at": rolling.lease.wire.get("since"),
            "release": rolling.release,
        }

    def put_back(self, refused: Mapping[str, HostError], well: Collection[str]) -> dict[str, Brought]:
        """Outcomes of the hosts, with the reason why each was refused; `well`: those that only go along.

        A replica over several hosts goes back only where all of them can; else it is stopped.
        """
        self._well = well
        self._seen: dict[str, Mapping[str, Any]] = {}  # what a host says of the old one, which serves again
        able = {name for name in refused if self._rolling.good.get(name)}
        self._whole = {name for name in refused if group_of(self._batch, name) & set(refused) <= able}
        hosts = [self._rolling.hosts[name] for name in refused]
        answers = self._rolling.connections.each(hosts, self._host)
        outcomes = {}
        for name, error in refused.items():
            outcome = failed(error, isinstance(error, UnreachableError))
            answer = answers[name]
            if isinstance(answer, HostError):
                told, log = f"putting the old one back failed: {answer.message}", answer.log
            else:
                told, log = answer
            message = f"{outcome.message}; {told}" if told else outcome.message
            outcome = replace(outcome, message=message, log=outcome.log or log)
            outcomes[name] = Brought(outcome, self._seen.get(name, {}))
        return outcomes

    def _host(self, session: Session) -> tuple[str, str]:
        """What was done on one host, in words, and the end of the log of what was stopped."""
        host = session.host.name
        wishes = self._rolling.good.get(host, []) if host in self._whole else []
        back = {str(wish["replica"]) for wish in wishes}
        new = [name for name in replicas_on(self._batch, host) if name not in back]
        if host in self._well:  # without a history nobody knows what it was; it serves, and served before
            served = {r.replica for r in self._rolling.surveys[host].running if r.state == "running"}
            new = [name for name in new if name not in served]
        for replica in (*back, *new):
            session.ask({"op": "mark", "replica": replica, "result": "refused"})
        told = [self._restore(session, wishes)] if wishes else []
        log = ""
        if new:
            told += self._out(session, new)
            log = halt(session, new, self._rolling.lease, self._rolling.on_event)
            told.append(f"{', '.join(new)} has nothing to go back to, and was stopped")
        return "; ".join(told), log

    def _restore(self, session: Session, wishes: list[dict[str, Any]]) -> str:
        """Whatever a gateway says: what was refused must not stay."""
        rolling, host = self._rolling, session.host.name
        troubles = self._out(session, [str(wish["replica"]) for wish in wishes])
        payload = {
            "op": "converge",
            "from": wishes,
            "digest": "",
            "lease": rolling.lease.wire,
            "deployment": self._deployment,
        }
        answer = session.ask(payload, lambda message: rolling.on_event(host_event(host, message)))
        self._seen[host] = answer["notes"]
        try:
            rolling.let_in(host, answer["notes"])
        except HostError as error:
            troubles.append(f"it gets no requests yet: {error.message}")
        return "; ".join(("the deployment from before was put back and serves", *troubles))

    def _out(self, session: Session, replicas: list[str]) -> list[str]:
        """Out of every gateway that can be told; what the others said."""
        gateways = self._rolling.gateways
        failures = gateways.put_out(self._rolling.release, replicas) if gateways is not None else {}
        return [
            f"gateway {name} was not told to drain it: {error.message}" for name, error in failures.items()
        ]


def of_gateway(host: str, error: HostError) -> HostError:
    return HostError(host, "gateway", f"{error.host}: {error.message}", remedy=error.remedy, log=error.log)
