"""`facts` and `doctor`: what hosts are, and whether they are fit for a release."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flagprov.doctor.detect import detected
from flagprov.doctor.examine import check_forced, examine
from flagprov.doctor.gather import Examination, ask, roots
from flagprov.doctor.subject import Subject
from flagprov.errors import HostError, UnreachableError
from flagprov.models.facts import HostFacts
from flagprov.models.finding import Diagnosis, Finding
from flagprov.models.fleet import Host
from flagprov.models.observed import Problem, Survey
from flagprov.models.release import Release
from flagprov.models.request import Request
from flagprov.observe import survey
from flagprov.placement import place
from flagprov.preparation import prepare
from flagprov.transport import KEPT, Connections, Session

ACCELERATORS = ("nvidia-smi", "npu-smi")


@dataclass(frozen=True, slots=True)
class FleetFacts:
    answers: Mapping[str, HostFacts | HostError]
    chips: Mapping[str, tuple[str, ...]]  # host -> chips that its tools do not contradict
    expected: Mapping[str, str | None]  # host -> what the inventory says

    def words(self) -> dict[str, str]:
        """What there is to say of each host's chip."""
        told = {}
        for name, fitting in self.chips.items():
            seen, wanted = " or ".join(fitting) or "none that is known", self.expected[name]
            agrees = wanted in fitting
            facts = self.answers[name]
            seen += " (emulated)" if isinstance(facts, HostFacts) and facts.emulated else ""
            told[name] = seen if agrees else f"{seen}; the inventory says {wanted or 'nothing'}"
        return told


def facts(request: Request) -> FleetFacts:
    """Facts of every host of the inventory; one connection and one exec each."""
    from flagprov.chips import load_chips
    from flagprov.fleet import load_fleet

    fleet = load_fleet(request.inventory, request.limit)
    payloads = _payloads(fleet.hosts)
    with Connections(fleet) as connections:
        answers = connections.once(fleet.hosts, lambda session: ask(session, payloads[session.host.name]))
    chips = load_chips()
    known = {name: found for name, found in answers.items() if isinstance(found, HostFacts)}
    fitting = {name: detected(found, chips) for name, found in known.items()}
    return FleetFacts(answers, fitting, {host.name: host.chip for host in fleet.hosts})


def doctor(request: Request) -> Diagnosis:
    """All checks on every host, for a release where one is named."""
    check_forced(request.force)
    return _for_release(request) if request.release else _for_hosts(request)


def _for_hosts(request: Request) -> Diagnosis:
    from flagprov.chips import load_chips
    from flagprov.fleet import load_fleet

    fleet, chips = load_fleet(request.inventory, request.limit), load_chips()
    payloads = _payloads(fleet.hosts, use=True)
    with Connections(fleet) as connections:
        answers = connections.once(fleet.hosts, lambda session: ask(session, payloads[session.host.name]))
    known = {name: found for name, found in answers.items() if isinstance(found, HostFacts)}
    findings: list[Finding] = []
    for host in fleet.hosts:
        if host.name in known:
            peers = {name: other for name, other in known.items() if name != host.name}
            chip = chips.get(host.chip or "")
            subject = Subject(host, known[host.name], chip, chips, peers=peers)
            findings.extend(examine(subject, request.force))
    return Diagnosis("", tuple(findings), _silent(answers))


def _for_release(request: Request) -> Diagnosis:
    job = prepare(request)
    with Connections(job.fleet) as connections:
        answers = connections.each(job.fleet.hosts, survey, keep=KEPT)
        surveys = {name: found for name, found in answers.items() if isinstance(found, Survey)}
        placement = place(job.fleet, job.release.name, job.wishes(surveys), job.reserved(surveys))
        examination = Examination(job, placement, surveys)
        able = [host for host in job.fleet.hosts if host.name in surveys]

        def gather(session: Session) -> None:
            examination.ask(session, surveys[session.host.name])

        second = connections.once(able, gather)
    findings = [finding for host in able for finding in examination.findings(host)]
    silent = (*_silent(answers), *_silent(second))
    return Diagnosis(job.release.name, tuple(findings), silent)


def _silent(answers: Mapping[str, Any]) -> tuple[tuple[str, Problem, bool], ...]:
    return tuple(
        (name, Problem(error.step, error.message, error.remedy), isinstance(error, UnreachableError))
        for name, error in answers.items()
        if isinstance(error, HostError)
    )


def _payloads(hosts: tuple[Host, ...], use: bool = False) -> dict[str, dict[str, Any]]:
    from flagprov.catalog import list_releases
    from flagprov.chips import load_chips

    chips = load_chips()
    releases: tuple[Release, ...] = list_releases()
    return {
        host.name: {
            "paths": roots(host, chips.get(host.chip or ""), releases),
            "use": dict.fromkeys(ACCELERATORS) if use else {},  # all devices that are free
        }
        for host in hosts
    }
