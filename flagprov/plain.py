"""For plain Ansible: what hosts are to have, from surveys that its own modules took.

The same preparation, placement and desired state as in `pipeline`, less the transport.
"""

from __future__ import annotations

import getpass
import socket
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flagprov.apply.bring import Bringing
from flagprov.doctor.gather import Examination, facts_of
from flagprov.errors import HostError
from flagprov.models.desired import HostDesired, Placement, Replica
from flagprov.models.fleet import Fleet, Host
from flagprov.models.observed import Survey
from flagprov.observe import read_survey
from flagprov.placement import place
from flagprov.preparation import Job, Request, prepare
from flagprov.rollout.whole import halves
from flagprov.scope import scope_of
from flagprov.serving import image_key
from flagprov.site import Site
from flagprov.upkeep import removal

Answers = Mapping[str, Mapping[str, Any]]
Tell = Callable[[str], None]
PROVISION = "provision the host: ansible-playbook playbooks/provision.yml"


def desired_state(
    request: Request, surveys: Answers, facts: Answers, notes: Answers, tell: Tell
) -> dict[str, Any]:
    """Every surveyed host's resources, as JSON; `notes` are what images had to tell, by host.

    Hosts where something new is to run say what to ask them for; with the answers they are examined.
    """
    job = prepare(request)
    read = {name: read_survey(name, answer) for name, answer in surveys.items()}
    placement = place(job.fleet, job.release.name, job.wishes(read), job.reserved(read))
    bringing = Bringing(job, placement, None, lambda event: tell(f"{event.host}: {event.text}"))
    hosts = [host for host in job.fleet.hosts if host.name in read]
    for host in hosts:
        _learn(bringing, host, read[host.name], notes.get(host.name, {}))
    examination = Examination(job, placement, read)
    for name, answer in facts.items():
        examination.facts[name] = facts_of(name, answer, float(answer["answered"]))
    looking: set[str] = set()  # images that some host looks into, for all
    states = {host.name: _state(examination, bringing, host, read[host.name], looking) for host in hosts}
    whole = [name for name, state in states.items() if not state["problem"]]
    for name, why in halves(placement.replicas, whole).items():
        states[name] = _refused("placement", why, "mend that host first")
    for note in examination.notes():
        tell(note)
    return {
        "hosts": states,
        "pending": any(state["pending"] for state in states.values()),
        "ask": any(state["ask"] for state in states.values()),
        "replicas": [asdict(replica) for replica in placement.replicas],
        "deployment": _deployment(job),
        "holder": _holder(f"deploy {job.release.name}"),
    }


def _state(
    examination: Examination, bringing: Bringing, host: Host, survey: Survey, looking: set[str]
) -> dict[str, Any]:
    if survey.docker_version is None:
        refused = _refused("docker", "no container engine answers", PROVISION)
        return refused | {"provisioned": False}
    for refusal in examination.placement.refusals:
        if refusal.host == host.name:
            return _refused("placement", refusal.message, refusal.remedy)
    try:
        desired = bringing.desired(host, survey)
    except HostError as error:
        return _refused(error.step, error.message, error.remedy)
    for problem in examination.problems(host.name):
        return _refused(problem.step, problem.message, problem.remedy)
    state = _answer(examination.job, host, survey, desired, looking)
    if host.name not in examination.facts and _is_new(desired, examination.placement, survey):
        state["ask"] = examination.payload(host, survey)
    return state


def removed_state(request: Request, surveys: Answers, *, weights: bool = False) -> dict[str, Any]:
    """What takes replicas away, and with the last one everything of flagprov; all without a release."""
    scope = scope_of(request)
    names = {host.name for host in scope.fleet.hosts}
    read = {name: read_survey(name, answer) for name, answer in surveys.items() if name in names}
    hosts = {
        name: {"resources": [each.wire() for each in removal(survey, scope.release, weights)]}
        for name, survey in read.items()
    }
    return {
        "hosts": {name: _nothing() | host for name, host in hosts.items()},
        "holder": _holder(f"teardown {scope.release or ''}".strip()),
    }


def remember(inventory: Path, replicas: Sequence[Mapping[str, Any]], hosts: Collection[str]) -> None:
    """Keep beside the inventory who serves what, of replicas that are whole on these hosts."""
    values = (Replica(**{**each, "hosts": tuple(each["hosts"]), "nodes": ()}) for each in replicas)
    Site(Fleet(inventory, ()).site).remember(each for each in values if set(each.hosts) <= set(hosts))


def forget(inventory: Path, release: str | None, hosts: Collection[str]) -> None:
    """Replicas that were taken from these hosts are remembered no longer."""
    Site(Fleet(inventory, ()).site).forget(release, hosts)


def _learn(bringing: Bringing, host: Host, survey: Survey, notes: Mapping[str, Any]) -> None:
    if notes and bringing.placement.on(host.name):
        bringing.learn(host, survey, bringing.desired(host, survey), notes)


def _is_new(desired: HostDesired, placement: Placement, survey: Survey) -> bool:
    """Whether something is to run that does not run there now."""
    running = {each.replica for each in survey.running if each.state == "running"}
    return bool(desired.pending) or any(each.name not in running for each in placement.on(desired.host))


def _answer(job: Job, host: Host, survey: Survey, desired: HostDesired, looking: set[str]) -> dict[str, Any]:
    """One host per image looks into it; the others wait for what it finds."""
    key = image_key(job.variants[host.name].image, str(host.chip), survey.arch)
    elsewhere = key in looking
    looking |= {key} if desired.pending else set()
    resources = [
        resource.wire()
        for resource in desired.resources
        if not (elsewhere and resource.kind == "image_facts")
    ]
    return _nothing() | {"resources": resources, "pending": desired.pending}


def _refused(step: str, message: str, remedy: str) -> dict[str, Any]:
    remedy = remedy or "mend this host, or leave it out with --limit"
    return _nothing() | {"problem": f"{step}: {message}", "remedy": remedy}


def _nothing() -> dict[str, Any]:
    return {"resources": [], "pending": "", "problem": "", "remedy": "", "provisioned": True, "ask": {}}


def _deployment(job: Job) -> dict[str, Any]:
    """What the hosts write into their history."""
    holder = _holder(f"deploy {job.release.name}", *(f"--set {text}" for text in job.sets))
    return {
        "command": holder["command"],
        "by": holder["holder"],
        "at": holder["since"],
        "release": job.release.name,
        "set": list(job.sets),
    }


def _holder(*command: str) -> dict[str, str]:
    """What others are told who want to change the same host."""
    return {
        "holder": f"{getpass.getuser()}@{socket.gethostname()} (ansible)",
        "command": " ".join(command),
        "since": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
    }
