"""Batch after batch: change, gate, soak; what fails is put back, the rest is left alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from flagprov.apply.bring import Brought, failure
from flagprov.errors import HostError, UnreachableError
from flagprov.models.fleet import Host
from flagprov.models.outcome import HostOutcome
from flagprov.models.plan import Batch, HostPlan, Plan, ReplicaPlan
from flagprov.rollout.beside import Beside, Pair
from flagprov.rollout.gate import Figures
from flagprov.rollout.hooks import NO_HOOKS, Hooks, Phase, Refused
from flagprov.rollout.moving import Moving, of_gateway
from flagprov.rollout.order import Budget, stand_ins
from flagprov.rollout.put_back import PuttingBack
from flagprov.rollout.whole import halt, partners, replicas_on
from flagprov.transport import Session


@dataclass(frozen=True, slots=True)
class Changed:
    """What became of the hosts of a batch, and those among them that nothing was done to."""

    results: Mapping[str, Brought | HostError]
    untouched: frozenset[str] = frozenset()
    notes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # of what serves on there

    @property
    def broken(self) -> dict[str, HostError]:
        return _errors(self.results)


@dataclass
class Rolling(Moving):
    """One change on its way over the fleet."""

    hooks: Hooks = NO_HOOKS
    budget: Budget | None = None
    beside: Beside | None = None  # replicas whose new ones start before their old ones stop

    def roll(self, plan: Plan, brought: dict[str, Brought], gated: bool) -> dict[str, Brought]:
        """Outcomes of all hosts of the plan; `brought` holds those that ended before."""
        self.release = plan.release
        if self.gateways is not None:
            self.gateways.tidy(self.release, self.surveys)
        if gated and brought:
            plan = replace(plan, batches=stand_ins(plan.batches, brought, self._kind))
        for number, batch in enumerate(plan.batches, 1):
            names = list(dict.fromkeys(host.host for replica in batch.replicas for host in replica.hosts))
            moving = [self.hosts[name] for name in names if name not in brought]
            if gated and len(plan.batches) > 1:
                self.say(moving, f"batch {number} of {len(plan.batches)}")
            spent = self._spent(plan, batch) if gated and number > 1 else ""
            refused = spent or self._tell("pre-batch", plan, number, moving)
            if refused:
                step, remedy = ("budget", "bring them back, then run it again") if spent else ("hook", "")
                errors = [HostError(host.name, step, refused, remedy=remedy) for host in moving]
                brought.update({error.host: failure(error) for error in errors})
                brought.update(self._left_alone(plan, brought, number))
                return brought
            changed = self._change_gated(moving, batch) if gated else self._change(moving, batch)
            broken = changed.broken
            brought.update({n: found for n, found in changed.results.items() if isinstance(found, Brought)})
            self._tell("on-failure" if broken else "post-batch", plan, number, moving, broken)
            if broken and gated:
                brought.update(self._refused(changed, moving, batch))
                brought.update(self._left_alone(plan, brought, number))
                return brought
            if gated:
                self._settle(moving, batch)
            touched = {name: error for name, error in broken.items() if name not in changed.untouched}
            broken |= self._halt(partners(batch, touched), batch)
            brought.update({name: failure(error) for name, error in broken.items()})
            if gated and self.options.pause_s and number < len(plan.batches):
                self.sleep(self.options.pause_s)
        return brought

    def _spent(self, plan: Plan, batch: Batch) -> str:
        """Why this batch would take more out of service than may be: hosts that went away during the run."""
        if self.budget is None or not any(self._serves(replica) for replica in batch.replicas):
            return ""
        mine = {host.host for replica in batch.replicas for host in replica.hosts}
        rest = [self.hosts[name] for name in dict.fromkeys(h.host for h in plan.hosts()) if name not in mine]
        answers = self.connections.each(rest, _ping)
        away = self._gone(plan, answers)
        if len(away) + len(batch.replicas) <= self.budget.left:
            return ""
        away = self._gone(plan, {**answers, **self.when_back(answers, _ping)})
        if len(away) + len(batch.replicas) <= self.budget.left:
            return ""
        return (
            f"{', '.join(away)} went away meanwhile; with this batch more would be out of service than may be"
        )

    @staticmethod
    def _gone(plan: Plan, answers: Mapping[str, object]) -> list[str]:
        away = {name for name, answer in answers.items() if isinstance(answer, UnreachableError)}
        parts = [replica for batch in plan.batches for replica in batch.replicas]
        return [part.replica for part in parts if part.replica and away & {host.host for host in part.hosts}]

    def _kind(self, replica: ReplicaPlan) -> object:
        """Replicas that can stand in for each other as canaries."""
        return self.hosts[replica.hosts[0].host].chip, self._serves(replica)

    def _serves(self, replica: ReplicaPlan) -> bool:
        running = [r for host in replica.hosts for r in self.running(host.host, self.release)]
        return any(r.replica == replica.replica and r.state == "running" for r in running)

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
            self.say(moving, f"{phase}: {no}")
            return str(no)
        if trouble:
            self.say(moving, trouble)
        return ""

    def _change(self, moving: Sequence[Host], batch: Batch) -> Changed:
        """Without gates: nothing that serves is interrupted, or all of it may be."""
        kept = self._drain(moving, batch)
        going = [host for host in moving if host.name not in kept]
        broken = dict(self.prepare([host.name for host in going]))
        self._return_others([host for host in going if provisions(batch, host.name)])
        out = {**broken, **partners(batch, broken)}
        fine = [host for host in going if host.name not in out]
        results = self.connections.each(fine, lambda session: self.bring(session, {}))
        return Changed({**kept, **broken, **results}, frozenset(kept))

    def _change_gated(self, moving: Sequence[Host], batch: Batch) -> Changed:
        """Measured, drained, changed, and judged; who goes away meanwhile is waited for."""
        nobody = frozenset(host.name for host in moving)
        taken = self.connections.each(moving, self.before)
        taken |= self.when_back(taken, self.before)
        if lost := _errors(taken):
            return Changed(lost, nobody)
        figures = {name: found for name, found in taken.items() if not isinstance(found, HostError)}
        pair = Pair(self, self.beside, moving) if self.beside else None
        failed = pair.start(figures) if pair else {}
        failed = failed or self._drain(moving, batch)
        if failed:
            errors, notes = pair.give_up(failed) if pair else (failed, {})
            return Changed(errors, nobody, notes)
        broken = dict(self.prepare([host.name for host in moving]))
        self._return_others([host for host in moving if provisions(batch, host.name)])
        out = {**broken, **partners(batch, broken)}

        def move(session: Session) -> Brought:
            if pair and session.host.name in pair.names:
                return pair.switch(session)
            return self._move(session, figures[session.host.name])

        results = self.connections.each([host for host in moving if host.name not in out], move)
        return Changed({**broken, **results, **self.when_back(results, move)})

    def _move(self, session: Session, before: Mapping[str, Figures]) -> Brought:
        """Change one host; its own figures from before are what it is judged by."""
        brought = self.bring(session, self.kept(before))
        self.gate(session, brought, before)
        self.let_in(session.host.name, brought.notes)
        self.soak(session)
        return brought

    def _drain(self, hosts: Sequence[Host], batch: Batch) -> dict[str, HostError]:
        """Out of the gateways before anything stops; requests at work may end first."""
        steps = {plan.host: plan for replica in batch.replicas for plan in replica.hosts if disturbs(plan)}
        names = [host.name for host in hosts if host.name in steps]
        again = [name for name in names if provisions(batch, name)]
        replicas = {r.replica for name in names for r in self.running(name, self.release)}
        others = {r.replica for name in again for r in self.running(name)}
        if self.gateways is None or not (replicas or others):
            return {}
        try:
            if others - replicas:
                self.gateways.leave(sorted(others - replicas))
            self.gateways.drain(self.release, sorted(replicas))
        except HostError as error:
            self._return_others([self.hosts[name] for name in again])
            return {name: of_gateway(name, error) for name in names}
        return {}

    def _return_others(self, hosts: Sequence[Host]) -> None:
        """Replicas of other releases, which a provisioning drained and started again as they were."""
        for host in hosts if self.gateways is not None else ():
            records = self.surveys[host.name].records
            for running in self.running(host.name):
                probe = (records.get(running.replica) or {}).get("probe")
                if running.release == self.release or not probe or probe["readiness"] == "rank":
                    continue
                assert self.gateways
                try:
                    self.gateways.admit(running.release, [probe])
                except HostError as error:
                    self.say([host], f"{running.replica} gets no requests: {error.host}: {error.message}")

    def _settle(self, moved: Sequence[Host], batch: Batch) -> None:
        """The whole batch has passed: from now on it is what a way back leads to."""

        def settle(session: Session) -> None:
            for replica in replicas_on(batch, session.host.name):
                session.ask({"op": "mark", "replica": replica, "result": "done", "lease": self.lease.wire})

        for name, error in _errors(self.connections.each(moved, settle)).items():
            self.say([self.hosts[name]], f"its history does not know yet that it was proved: {error.message}")

    def _halt(self, rest: Mapping[str, HostError], batch: Batch) -> dict[str, HostError]:
        """Ranks whose replica has lost another host: stopped, with the end of their logs."""

        def stop(session: Session) -> str:
            ranks = replicas_on(batch, session.host.name, spread=True)
            return halt(session, ranks, self.lease, self.on_event)

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

    def _refused(self, changed: Changed, moving: Sequence[Host], batch: Batch) -> dict[str, Brought]:
        """A batch goes back as a whole, with those in it that were well; what was not touched serves on."""
        broken = changed.broken
        if changed.untouched:
            return {n: Brought(failure(e).outcome, changed.notes.get(n, {})) for n, e in broken.items()}
        culprits = ", ".join(broken)
        siblings = {
            host.name: HostError(host.name, "rollout", f"{culprits}, of the same batch, failed")
            for host in moving
            if host.name not in broken
        }
        rest = partners(batch, broken)
        well = {name: error for name, error in siblings.items() if name not in rest}
        return PuttingBack(self, batch).put_back({**well, **rest, **broken}, well)

    def _left_alone(self, plan: Plan, brought: Mapping[str, Brought], stopped: int) -> dict[str, Brought]:
        names = {host.host for host in plan.hosts()} - set(brought)
        self.say([self.hosts[name] for name in sorted(names)], f"not touched: batch {stopped} failed")
        return {name: Brought(HostOutcome(name, "unchanged")) for name in names}


def _ping(session: Session) -> None:
    session.ask({"op": "lease", "do": "show"})


def provisions(batch: Batch, host: str) -> bool:
    """Whether roles run there, which may stop all that serves."""
    plans = [plan for replica in batch.replicas for plan in replica.hosts if plan.host == host]
    return any(step.action == "provision" for plan in plans for step in plan.steps)


def disturbs(plan: HostPlan) -> bool:
    """Whether something that serves may stop; what is not known yet may."""
    return bool(plan.pending) or any(step.cost not in ("", "nothing") for step in plan.steps)


def _errors(answers: Mapping[str, object]) -> dict[str, HostError]:
    return {name: answer for name, answer in answers.items() if isinstance(answer, HostError)}
