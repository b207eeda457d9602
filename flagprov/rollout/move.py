"""Batch after batch: change, gate, soak; what fails is put back, the rest is left alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from flagprov.apply.bring import Brought
from flagprov.apply.converge import OnEvent, failed, host_event
from flagprov.apply.lease import Lease
from flagprov.errors import HostError, UnreachableError
from flagprov.gateway.gateways import Gateways
from flagprov.models.event import Event
from flagprov.models.fleet import Host
from flagprov.models.observed import Running, Survey
from flagprov.models.outcome import HostOutcome
from flagprov.models.plan import Batch, HostPlan, Plan
from flagprov.rollout.gate import Figures, judge, measure
from flagprov.rollout.hooks import NO_HOOKS, Hooks, Phase, Refused
from flagprov.rollout.options import Options
from flagprov.rollout.whole import group_of, halt, partners, replicas_on
from flagprov.transport import Connections, Session


@dataclass
class Rolling:
    """One change on its way over the fleet."""

    connections: Connections
    hosts: Mapping[str, Host]
    surveys: Mapping[str, Survey]
    options: Options
    lease: Lease
    on_event: OnEvent
    bring: Callable[[Session], Brought]
    # Done to the hosts of a batch together, before each of them is brought; errors of those that stay out.
    prepare: Callable[[Sequence[str]], Mapping[str, HostError]] = lambda names: {}
    good: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # host -> what to put back
    gateways: Gateways | None = None
    hooks: Hooks = NO_HOOKS
    release: str = ""  # a host may serve others too: they are neither measured nor judged

    def roll(self, plan: Plan, brought: dict[str, Brought], gated: bool) -> dict[str, Brought]:
        """Outcomes of all hosts of the plan; `brought` holds those that ended before."""
        self.release = plan.release
        for number, batch in enumerate(plan.batches, 1):
            names = list(dict.fromkeys(host.host for replica in batch.replicas for host in replica.hosts))
            moving = [self.hosts[name] for name in names if name not in brought]
            if gated and len(plan.batches) > 1:
                self._say(moving, f"batch {number} of {len(plan.batches)}")
            refused = self._tell("pre-batch", plan, number, moving)
            if refused:
                brought.update({h.name: _failure(HostError(h.name, "hook", refused)) for h in moving})
                brought.update(self._left_alone(plan, brought, number))
                return brought
            results = self._change(moving, batch, gated)
            broken = {name: error for name, error in results.items() if isinstance(error, HostError)}
            brought.update({name: found for name, found in results.items() if isinstance(found, Brought)})
            rest = partners(batch, broken)
            self._tell("on-failure" if broken else "post-batch", plan, number, moving, broken)
            if broken and gated:
                brought.update(self._put_back(broken | rest, batch))
                brought.update(self._left_alone(plan, brought, number))
                return brought
            broken |= self._halt(rest, batch)
            brought.update({name: _failure(error) for name, error in broken.items()})
            if gated and self.options.pause_s and number < len(plan.batches):
                time.sleep(self.options.pause_s)
        return brought

    def _tell(
        self,
        phase: Phase,
        plan: Plan,
        number: int,
        moving: Sequence[Host],
        failures: Mapping[str, HostError] | None = None,
    ) -> str:
        """What a site's program has against it."""
        batch, of = plan.batches[number - 1], len(plan.batches)
        try:
            trouble = self.hooks.tell(phase, plan.release, batch, number, of, failures)
        except Refused as no:
            self._say(moving, f"{phase}: {no}")
            return str(no)
        if trouble:
            self._say(moving, trouble)
        return ""

    def _say(self, hosts: Sequence[Host], text: str) -> None:
        for host in hosts:
            self.on_event(Event(time.time(), host.name, "note", "serve", "rollout", text))

    def _change(self, moving: Sequence[Host], batch: Batch, gated: bool) -> dict[str, Brought | HostError]:
        """Change the hosts of a batch; those that fail early are not brought, nor is who serves with them."""
        taken = self.connections.each(moving, self._before) if gated else {}
        broken = {name: error for name, error in taken.items() if isinstance(error, HostError)}
        fine = [host for host in moving if host.name not in broken]
        away = self._drain(fine, batch)
        broken.update(away if gated else {})
        fine = [host for host in fine if host.name not in broken]
        provisioned = [host for host in fine if provisions(batch, host.name)]
        broken.update(self.prepare([host.name for host in fine]))
        self._return_others(provisioned)
        alone = partners(batch, broken)
        fine = [host for host in fine if host.name not in broken and host.name not in alone]
        figures = {name: found for name, found in taken.items() if not isinstance(found, HostError)}

        def move(session: Session) -> Brought:
            return self._move(session, figures[session.host.name])

        return {**broken, **self.connections.each(fine, move if gated else self.bring)}

    def _move(self, session: Session, before: Mapping[str, Figures]) -> Brought:
        """Change one host; its own figures from before are what it is judged by."""
        host = session.host.name
        brought = self.bring(session)
        for note in brought.notes.values():
            probe = note.get("probe") if isinstance(note, Mapping) else None
            if probe:
                after = measure(session, probe, self.options, warm_up=1)
                reason = judge(before.get(probe["replica"]), after, self.options)
                if reason:
                    self._mark(session, probe["replica"])
                    raise HostError(host, "gate", f"{probe['replica']}: {reason}")
        self._admit(host, brought.notes)
        self._soak(session)
        return brought

    def _drain(self, hosts: Sequence[Host], batch: Batch) -> dict[str, HostError]:
        """Out of the gateways before anything stops; requests at work may end first."""
        steps = {plan.host: plan for replica in batch.replicas for plan in replica.hosts if disturbs(plan)}
        names = [host.name for host in hosts if host.name in steps]
        again = [name for name in names if provisions(batch, name)]
        replicas = {r.replica for name in names for r in self._running(name, self.release)}
        others = {r.replica for name in again for r in self._running(name)}
        if self.gateways is None or not (replicas or others):
            return {}
        try:
            self.gateways.drain(self.release, sorted(replicas))
            if others - replicas:
                self.gateways.leave(sorted(others - replicas))
        except HostError as error:
            for name in names:
                self.good.pop(name, None)  # nothing is to be put back: it serves as before
            return {name: _of_gateway(name, error) for name in names}
        return {}

    def _running(self, host: str, release: str = "") -> list[Running]:
        return [running for running in self.surveys[host].running if release in ("", running.release)]

    def _return_others(self, hosts: Sequence[Host]) -> None:
        """Replicas of other releases, which a provisioning drained and started again as they were."""
        for host in hosts if self.gateways is not None else ():
            records = self.surveys[host.name].records
            for running in self._running(host.name):
                probe = (records.get(running.replica) or {}).get("probe")
                if running.release == self.release or not probe or probe["readiness"] == "rank":
                    continue
                assert self.gateways
                try:
                    self.gateways.admit(running.release, [probe])
                except HostError as error:
                    self._say([host], f"{running.replica} gets no requests: {error.host}: {error.message}")

    def _admit(self, host: str, notes: Mapping[str, Any]) -> None:
        """What serves again gets requests again; of a replica over several hosts its head says so."""
        probes = [note["probe"] for note in notes.values() if isinstance(note, Mapping) and note.get("probe")]
        heads = [probe for probe in probes if probe["readiness"] != "rank"]
        if self.gateways is None or not heads:
            return
        try:
            self.gateways.admit(self.release, heads)
        except HostError as error:
            raise _of_gateway(host, error) from None

    def _before(self, session: Session) -> dict[str, Figures]:
        host = session.host.name
        history = session.ask({"op": "history"})["deployments"]
        last = {entry["replica"]: entry["number"] for entry in history if entry["result"] == "done"}
        mine = [r for r in self.surveys[host].running if r.release == self.release]
        running = [r.replica for r in mine if r.state == "running"]
        self.good[host] = [{"replica": name, "number": last[name]} for name in running if name in last]
        records = self.surveys[host].records
        probes = {name: records[name]["probe"] for name in running if name in records}
        return {name: measure(session, probe, self.options, warm_up=0) for name, probe in probes.items()}

    def _soak(self, session: Session) -> None:
        """Nothing may fall over in the first seconds."""
        deadline = time.monotonic() + self.options.soak_s
        while time.monotonic() < deadline:
            for replica in session.ask({"op": "status", "release": self.release})["replicas"]:
                if replica["state"] != "ready":
                    self._mark(session, replica["replica"])
                    message = f"{replica['replica']} became {replica['state']}: {replica.get('detail', '')}"
                    raise HostError(session.host.name, "soak", message)
            time.sleep(min(1.0, max(0.0, deadline - time.monotonic())))

    def _mark(self, session: Session, replica: str) -> None:
        """The newest deployment did start, but was refused: never go back to it."""
        session.ask({"op": "mark", "replica": replica, "result": "refused"})

    def _halt(self, rest: Mapping[str, HostError], batch: Batch) -> dict[str, HostError]:
        """Ranks whose replica has lost another host: stopped, with the end of their logs."""

        def stop(session: Session) -> str:
            return halt(session, replicas_on(batch, session.host.name), self.lease, self.on_event)

        logs = self.connections.each([self.hosts[name] for name in rest], stop)
        found = {}
        for name, error in rest.items():
            log = logs[name]
            if isinstance(log, HostError):
                found[name] = HostError(name, "serve", f"{error.message}; stopping it: {log.message}")
            else:
                remedy = "the end of its log is below; the replica was stopped"
                found[name] = HostError(name, "serve", error.message, remedy=remedy, log=log)
        return found

    def _put_back(self, broken: Mapping[str, HostError], batch: Batch) -> dict[str, Brought]:
        """A replica over several hosts goes back only where all of them can; else it is stopped."""
        reachable = [name for name, error in broken.items() if not isinstance(error, UnreachableError)]
        back = {name for name in reachable if self.good.get(name)}
        groups = {name: group_of(batch, name) for name in reachable}
        alone = {n: broken[n] for n, group in groups.items() if len(group) > 1 and not group <= back}
        restored = [self.hosts[name] for name in reachable if name not in alone]
        answers = self.connections.each(restored, self._restore)
        broken = {**broken, **self._halt(alone, batch)}
        outcomes = {}
        for name, error in broken.items():
            outcome = _failure(error).outcome
            answer = answers.get(name)
            if isinstance(answer, HostError):
                told = f"{outcome.message}; putting the old one back failed: {answer.message}"
            elif answer:
                told = f"{outcome.message}; the deployment from before was put back and serves"
            else:
                told = outcome.message
            outcomes[name] = Brought(replace(outcome, message=told))
        return outcomes

    def _restore(self, session: Session) -> bool:
        """Whether there was something to go back to, and it serves again."""
        wishes = self.good.get(session.host.name)
        if not wishes:
            return False
        host = session.host.name
        if self.gateways is not None:
            self.gateways.drain(self.release, [str(wish["replica"]) for wish in wishes])
        payload = {"op": "converge", "from": wishes, "digest": "", "lease": self.lease.wire}
        answer = session.ask(payload, lambda message: self.on_event(host_event(host, message)))
        self._admit(host, answer["notes"])
        return True

    def _left_alone(self, plan: Plan, brought: Mapping[str, Brought], stopped: int) -> dict[str, Brought]:
        names = {host.host for host in plan.hosts()} - set(brought)
        self._say([self.hosts[name] for name in sorted(names)], f"not touched: batch {stopped} failed")
        return {name: Brought(HostOutcome(name, "unchanged")) for name in names}


def provisions(batch: Batch, host: str) -> bool:
    """Whether roles run there, which may stop all that serves."""
    plans = [plan for replica in batch.replicas for plan in replica.hosts if plan.host == host]
    return any(step.action == "provision" for plan in plans for step in plan.steps)


def disturbs(plan: HostPlan) -> bool:
    """Whether something that serves may stop; what is not known yet may."""
    return bool(plan.pending) or any(step.cost not in ("", "nothing") for step in plan.steps)


def _of_gateway(host: str, error: HostError) -> HostError:
    return HostError(host, "gateway", f"{error.host}: {error.message}", remedy=error.remedy, log=error.log)


def _failure(error: HostError) -> Brought:
    return Brought(failed(error, isinstance(error, UnreachableError)))
