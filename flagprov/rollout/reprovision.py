"""Hosts that the roles have to prepare: idle ones first and together, others in their batch, drained."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from time import time
from typing import Any

from flagprov.apply.bring import Brought
from flagprov.apply.converge import converge, failed
from flagprov.apply.lease import Lease
from flagprov.apply.record import RunRecord
from flagprov.choosing import with_besides
from flagprov.desired import stopped
from flagprov.doctor.gather import Examination
from flagprov.errors import HostError, UnreachableError
from flagprov.gateway.gateways import Gateways
from flagprov.models.desired import Placement, Resource, Stage, unit_name
from flagprov.models.event import Event
from flagprov.models.fleet import Host
from flagprov.models.observed import UP, Change, Running, Survey
from flagprov.models.outcome import HostOutcome
from flagprov.observe import survey
from flagprov.placement import place
from flagprov.plan import provision_step
from flagprov.preparation import Job, hosts_of
from flagprov.report.text import names as in_words
from flagprov.serving import STOP_TIMEOUT_S
from flagprov.transport import Connections, Session

HARMLESS = {"host_baseline", "container_engine", "nvidia_container_toolkit", "ascend_container", "firewall"}


def step(job: Job, host: Host, reason: str) -> Change:
    """The plan's provisioning step of one host, with the dearest that it may come to."""
    roles = job.chips[str(host.chip)].roles
    return provision_step(reason, roles, reboots=job.allow_reboot and not HARMLESS.issuperset(roles))


def busy(seen: Survey | None) -> bool:
    """Whether a restart of docker or of the machine would end something there, of ours or of others."""
    if seen is None:
        return False
    computing = (device.processes for devices in seen.devices.values() for device in devices)
    return any(map(_is_up, seen.running)) or bool(seen.facts.get("foreign")) or any(computing)


def _is_up(running: Running) -> bool:
    """In whichever slot."""
    return any(each.state in UP for each in with_besides([running]))


def drained(job: Job, needy: Iterable[str], surveys: Mapping[str, Survey]) -> tuple[str, ...]:
    """Hosts that are provisioned in their batch; without permission roles disturb nothing, and need none."""
    if not (job.allow_disruption or job.allow_reboot):
        return ()
    return tuple(name for name in needy if busy(surveys.get(name)))


def notes(job: Job, needy: Collection[str], surveys: Mapping[str, Survey]) -> list[str]:
    """What provisioning may cost, and what no rollback brings back."""
    said = []
    serving = [name for name in needy if busy(surveys.get(name))]
    if drained(job, serving, surveys):
        may = "docker may be restarted" + (", the host rebooted" if job.allow_reboot else "")
        said.append(
            f"something runs on {in_words(serving)}: batch after batch, what is ours is drained, the host "
            f"provisioned ({may}) and looked at again, and what was drained serves again"
        )
    elif serving:
        said.append(
            f"something runs on {in_words(serving)}: a role that has to restart docker or to reboot refuses "
            "there; --allow-disruption and --allow-reboot allow it, drained and batch after batch"
        )
    chips = {str(host.chip) for host in job.fleet.hosts if host.name in needy}
    if any(role.endswith("_driver") for chip in chips for role in job.chips[chip].roles):
        said.append("drivers and firmware are not rolled back, whatever becomes of the rest")
    return said


@dataclass
class Provisioning:
    """The roles' part of one run; `surveys` and `placement` are what is true after it."""

    job: Job
    connections: Connections
    lease: Lease
    record: RunRecord
    surveys: dict[str, Survey]
    placement: Placement
    needy: Sequence[str]
    gateways: Gateways | None = None
    outcomes: dict[str, HostOutcome] = field(default_factory=dict)  # of the hosts that were provisioned

    def __post_init__(self) -> None:
        self.waiting = set(drained(self.job, self.needy, self.surveys))
        # With its record from before: once it is down, a look does not tell which slot served.
        self._stopped: dict[str, list[tuple[Running, Mapping[str, Any]]]] = {}

    def first(self) -> dict[str, Brought]:
        """Hosts where nothing is drained, all together; outcomes of those that cannot go on."""
        names = [name for name in self.needy if name not in self.waiting]
        broken = self._roles(names)
        broken |= self._look_again([name for name in names if name not in broken])
        return {
            name: Brought(
                self.outcomes[name]
                if self.outcomes[name].state in ("failed", "unreachable")
                else failed(error, isinstance(error, UnreachableError))
            )
            for name, error in broken.items()
        }

    def in_batch(self, names: Sequence[str]) -> dict[str, HostError]:
        """Hosts of a batch that wait: drained, provisioned, looked at again; errors of those that stay out.

        What served there before serves again in both cases, but for what the run brings by itself.
        """
        due = [name for name in names if name in self.waiting]
        if not due:
            return {}
        self.waiting.difference_update(due)
        broken = self._leave_gateways(due)
        due = [name for name in due if name not in broken]
        broken |= _errors(self.connections.each(hosts_of(self.job.fleet, due), self._drain))
        broken |= self._roles([name for name in due if name not in broken])
        broken |= self._look_again([name for name in due if name not in broken])
        fit = [name for name in due if name not in broken]
        broken |= _errors(self.connections.each(hosts_of(self.job.fleet, fit), self._return_others))
        back = [name for name in broken if name in self._stopped]
        self.connections.each(hosts_of(self.job.fleet, back), self._return_all)
        for name in due:
            if (error := self._return_to_gateways(name)) and name not in broken:
                broken[name] = error
        return broken

    def _others(self, name: str) -> list[Running]:
        """Replicas of other releases, which this run would not touch but for the host under them."""
        running = self.surveys[name].running
        return [r for r in running if _is_up(r) and r.release != self.job.release.name]

    def _leave_gateways(self, names: Sequence[str]) -> dict[str, HostError]:
        """Those of this release are out of them already."""
        others = sorted({running.replica for name in names for running in self._others(name)})
        if self.gateways is None or not others:
            return {}
        try:
            self.gateways.leave(others)
        except HostError as error:
            return {name: HostError(name, "gateway", f"{error.host}: {error.message}") for name in names}
        return {}

    def _return_to_gateways(self, name: str) -> HostError | None:
        probes: dict[str, list[Mapping[str, Any]]] = {}
        for running, record in self._stopped.get(name, ()):
            if running.release != self.job.release.name and record.get("probe"):
                probes.setdefault(running.release, []).append(record["probe"])
        if self.gateways is not None:
            for release, found in probes.items():
                try:
                    self.gateways.admit(release, found)
                except HostError as error:
                    return HostError(name, "gateway", f"{error.host}: {error.message}", remedy=error.remedy)
        return None

    def _drain(self, session: Session) -> None:
        host = session.host.name
        seen, kept = self.surveys[host], self._stopped.setdefault(host, [])
        for running in seen.running:
            if _is_up(running):
                self._say(host, f"{running.replica} is drained")
                if running.state in UP:
                    kept.append((running, seen.records.get(running.replica) or {}))
                converge(session, stopped(running), "", self.lease, self.record)

    def _roles(self, names: Sequence[str]) -> dict[str, HostError]:
        if not names:
            return {}
        from flagprov.apply.provision import provision

        hosts = hosts_of(self.job.fleet, names)
        packages: Mapping[str, bool] | None = None
        broken: dict[str, HostError] = {}
        if self.job.bundle is not None:
            from flagprov.distribute import offline

            packages, broken = offline.bring(self.job, self.connections, hosts, self.record, self.lease.wire)
            self.outcomes.update({n: failed(e, isinstance(e, UnreachableError)) for n, e in broken.items()})
            hosts = [host for host in hosts if host.name not in broken]
        if not hosts:
            return broken
        found = provision(
            self.job.fleet,
            hosts,
            self.record,
            directory=self.record.directory,
            allow_disruption=self.job.allow_disruption,
            allow_reboot=self.job.allow_reboot,
            packages=packages,
        )
        self.outcomes.update(found)
        return broken | {name: _error(o) for name, o in found.items() if o.state in ("failed", "unreachable")}

    def _look_again(self, names: Sequence[str]) -> dict[str, HostError]:
        """Hosts that were provisioned are placed by what they are now, and examined; errors of the unfit."""
        if not names:
            return {}
        job, hosts = self.job, hosts_of(self.job.fleet, names)
        answers = self.connections.each(hosts, self._survey_anew)
        broken = _errors(answers)
        self.surveys.update({name: seen for name, seen in answers.items() if isinstance(seen, Survey)})
        self.placement = place(
            job.fleet, job.release.name, job.wishes(self.surveys), job.reserved(self.surveys)
        )
        for refusal in self.placement.refusals:
            if refusal.host in names:
                broken.setdefault(
                    refusal.host,
                    HostError(refusal.host, "placement", refusal.message, remedy=refusal.remedy),
                )
        examination = Examination(job, self.placement, self.surveys)
        able = [host for host in hosts if host.name not in broken]
        broken |= examination.ask_all(self.connections, able, self.surveys)
        for host in able:
            for problem in examination.problems(host.name):
                broken[host.name] = HostError(host.name, problem.step, problem.message, remedy=problem.remedy)
        return broken

    def _return_others(self, session: Session) -> None:
        """Replicas of other releases: this run does not bring them, so they have to prove that they serve."""
        for running, record in self._stopped[session.host.name]:
            if running.release != self.job.release.name:
                converge(session, _serving_again(running, record), "", self.lease, self.record)

    def _return_all(self, session: Session) -> None:
        """After a failure: started again as they were, whatever becomes of it."""
        for running, _ in self._stopped[session.host.name]:
            self._say(session.host.name, f"{running.replica} is started again")
            converge(session, _serving_again(running, {}), "", self.lease, self.record)

    def _survey_anew(self, session: Session) -> Survey:
        session.close()  # it may be one from before a reboot
        return survey(session, rdma=self.job.by_rdma(session.host))

    def _say(self, host: str, text: str) -> None:
        self.record(Event(time(), host, "note", Stage.PROVISION.label, "provision", text))


def _serving_again(running: Running, record: Mapping[str, object]) -> tuple[Resource, ...]:
    """Its unit runs; with a record its endpoint answers, too, where no other host is needed for that."""
    unit = unit_name(running.instance)
    spec = {"unit": unit, "active": True, "stop_timeout_s": STOP_TIMEOUT_S}
    found = [Resource("unit", unit, Stage.SERVE, spec, running.replica)]
    probe = record.get("probe")
    if isinstance(probe, Mapping) and len(running.hosts) == 1:
        what = f"endpoint of {running.replica}"
        found.append(Resource("probe", what, Stage.VERIFY, probe, running.replica))
    return tuple(found)


def _error(outcome: HostOutcome) -> HostError:
    kind = UnreachableError if outcome.state == "unreachable" else HostError
    return kind(
        outcome.host, outcome.step or "", outcome.message or "", remedy=outcome.remedy or "", log=outcome.log
    )


def _errors(answers: Mapping[str, object]) -> dict[str, HostError]:
    return {name: answer for name, answer in answers.items() if isinstance(answer, HostError)}
