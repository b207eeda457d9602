"""A batch that was refused: what served before serves again, what is new is stopped."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from flagprov.apply.bring import Brought
from flagprov.apply.converge import failed, host_event
from flagprov.errors import HostError, UnreachableError
from flagprov.models.plan import Batch
from flagprov.rollout.moving import Moving
from flagprov.rollout.whole import group_of, halt, replicas_on
from flagprov.transport import Session


class PuttingBack:
    """The way back of one batch."""

    def __init__(self, moving: Moving, batch: Batch) -> None:
        self._moving, self._batch = moving, batch
        self._deployment = {
            "command": f"put back after {moving.lease.wire.get('command', '')}",
            "by": moving.lease.wire.get("holder"),
            "at": moving.lease.wire.get("since"),
            "release": moving.release,
        }

    def put_back(self, refused: Mapping[str, HostError], well: Collection[str]) -> dict[str, Brought]:
        """Outcomes of the hosts, with the reason why each was refused; `well`: those that only go along.

        A replica over several hosts goes back only where all of them can; else it is stopped.
        """
        self._well = well
        self._seen: dict[str, Mapping[str, Any]] = {}  # what a host says of the old one, which serves again
        able = {name for name in refused if self._moving.good.get(name)}
        self._whole = {name for name in refused if group_of(self._batch, name) & set(refused) <= able}
        hosts = [self._moving.hosts[name] for name in refused]
        self._left: set[str] = set()  # replicas that gateways have put out; the head lets them in, once
        answers = self._moving.connections.each(hosts, self._host)
        lost = {n: a for n, a in answers.items() if not isinstance(refused[n], UnreachableError)}
        answers |= self._moving.when_back(lost, self._host)  # the others have been waited for
        halves = self._stop_halves({n for n, answer in answers.items() if isinstance(answer, HostError)})
        outcomes = {}
        for name, error in refused.items():
            outcome = failed(error, isinstance(error, UnreachableError))
            answer = answers[name]
            if isinstance(answer, HostError):
                told, log = f"putting the old one back failed: {answer.message}", answer.log
            else:
                told, log = answer
            message = "; ".join(filter(None, (outcome.message, told, halves.get(name))))
            outcome = replace(outcome, message=message, log=outcome.log or log)
            outcomes[name] = Brought(outcome, self._seen.get(name, {}))
        return outcomes

    def _stop_halves(self, broken: Collection[str]) -> dict[str, str]:
        """Replicas with a host where nothing could be put back, on all their hosts; what became of these."""
        halves = {
            host.host: replica.replica
            for replica in self._batch.replicas
            if len(replica.hosts) > 1 and any(host.host in broken for host in replica.hosts)
            for host in replica.hosts
        }
        if not halves:
            return {}
        self._out(sorted(set(halves.values())))

        def stop(session: Session) -> str:
            mine = replicas_on(self._batch, session.host.name, spread=True)
            return halt(session, mine, self._moving.lease, self._moving.on_event)

        stopped = self._moving.connections.each([self._moving.hosts[name] for name in halves], stop)
        for name in halves:
            self._seen.pop(name, None)
        found = {}
        for name, replica in halves.items():
            answer = stopped[name]
            trouble = f"stopping it failed: {answer.message}" if isinstance(answer, HostError) else ""
            found[name] = f"{replica} is whole or not at all: {trouble or 'it was stopped'}"
        return found

    def _host(self, session: Session) -> tuple[str, str]:
        """What was done on one host, in words, and the end of the log of what was stopped."""
        host = session.host.name
        wishes = self._moving.good.get(host, []) if host in self._whole else []
        back = {str(wish["replica"]) for wish in wishes}
        new = [name for name in replicas_on(self._batch, host) if name not in back]
        if host in self._well:  # without a history nobody knows what it was; it serves, and served before
            served = {r.replica for r in self._moving.surveys[host].running if r.state == "running"}
            new = [name for name in new if name not in served]
        for replica in (*back, *new):
            mark = {"op": "mark", "replica": replica, "result": "refused"}
            session.ask({**mark, "lease": self._moving.lease.wire})
        told = [self._restore(session, wishes)] if wishes else []
        log = ""
        if new:
            told += self._out(new)
            log = halt(session, new, self._moving.lease, self._moving.on_event)
            told.append(f"{', '.join(new)} has nothing to go back to, and was stopped")
        return "; ".join(told), log

    def _restore(self, session: Session, wishes: list[dict[str, Any]]) -> str:
        """Whatever a gateway says: what was refused must not stay."""
        moving, host = self._moving, session.host.name
        names = [str(wish["replica"]) for wish in wishes if wish["replica"] not in self._left]
        troubles = self._out(names) if names else []
        if not troubles:
            self._left.update(names)
        payload = {
            "op": "converge",
            "from": wishes,
            "digest": "",
            "lease": moving.lease.wire,
            "deployment": self._deployment,
        }
        answer = session.ask(payload, lambda message: moving.on_event(host_event(host, message)))
        self._seen[host] = answer["notes"]
        try:
            moving.let_in(host, answer["notes"])
        except HostError as error:
            troubles.append(f"it gets no requests yet: {error.message}")
        return "; ".join(("the deployment from before was put back and serves", *troubles))

    def _out(self, replicas: list[str]) -> list[str]:
        """Out of every gateway that can be told; what the others said."""
        gateways = self._moving.gateways
        failures = gateways.put_out(self._moving.release, replicas) if gateways is not None else {}
        return [
            f"gateway {name} was not told to drain it: {error.message}" for name, error in failures.items()
        ]
