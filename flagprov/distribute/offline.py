"""A deploy from a bundle: whether it has all that the fleet lacks, and its packages on their way to hosts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flagprov.apply.converge import OnEvent
from flagprov.distribute.bundle import Bundle
from flagprov.distribute.content import Here, content_of
from flagprov.distribute.images import ARCHITECTURES
from flagprov.distribute.needs import lacking, question
from flagprov.distribute.system_packages import ON_GATEWAYS
from flagprov.errors import FlagprovError, HostError, UsageError
from flagprov.models.fleet import Host
from flagprov.models.observed import Problem, Survey
from flagprov.models.plan import LeftOut
from flagprov.preparation import Job
from flagprov.report.text import names
from flagprov.serving import STATE
from flagprov.transport import Connections

STEP = "bundle"
PLACE = f"{STATE}/packages/files"
# Where roles fetch the vendor's installers from.
_ADDRESSES = ("ascend_driver_source", "ascend_container_runtime_source")


def lacks(
    job: Job, connections: Connections, surveys: Mapping[str, Survey], needy: Iterable[str]
) -> list[LeftOut]:
    """What hosts need that are provisioned, and gateways, and the bundle has not."""
    bundle = job.bundle
    assert bundle is not None
    asked = {host.name: _roles(job, host, set(needy)) for host in job.fleet.machines}
    hosts = [host for host in job.fleet.machines if asked[host.name]]
    values = {host.name: _values(job, host) for host in hosts}
    answers = connections.each(
        hosts, lambda session: session.ask(question(asked[session.host.name], values[session.host.name]))
    )
    found: list[LeftOut] = []
    for host in hosts:
        answer = answers[host.name]
        if not isinstance(answer, HostError):
            problems = _missing(bundle, asked[host.name], values[host.name], answer)
        elif answer.step == "python":
            remedy = "install python3 there; it is among the packages of a bundle with --platform"
            problems = [Problem(STEP, "no python3, which takes what a bundle brings", remedy)]
        else:
            problems = []  # it does not answer, which others say
        problems += _addresses(host) if host.name in needy else []
        if (seen := surveys.get(host.name)) and host.name in needy:
            problems += _image(bundle, host, ARCHITECTURES.get(seen.arch, seen.arch))
        found += [LeftOut(host.name, problem) for problem in problems]
    return found


def refuse(left: Iterable[LeftOut]) -> None:
    """A bundle that lacks something is refused before anything starts, for all hosts."""
    hosts: dict[str, list[str]] = {}
    remedies: dict[str, None] = {}
    for each in left:
        if each.problem.step == STEP:
            hosts.setdefault(each.problem.message, []).append(each.host)
            remedies[each.problem.remedy] = None
    if hosts:
        said = [f"{text} ({names(members)})" for text, members in hosts.items()]
        raise UsageError(
            f"the bundle is not enough for this fleet: {'; '.join(said)}", remedy="\n".join(remedies)
        )


def bring(
    job: Job,
    connections: Connections,
    hosts: Sequence[Host],
    on_event: OnEvent,
    lease: Mapping[str, Any] | None = None,
) -> tuple[dict[str, bool], dict[str, HostError]]:
    """Each host's packages to the host; whether it has got some, and the errors of those that failed."""
    from flagprov.distribute.fan_out import Target, Transfer

    bundle = job.bundle
    assert bundle is not None
    ask = question((), {})
    answers = connections.each(
        hosts, lambda session: session.ask(ask) | session.ask({"op": "reach", "path": PLACE})
    )
    failures = {name: error for name, error in answers.items() if isinstance(error, HostError)}
    known = {name: answer for name, answer in answers.items() if not isinstance(answer, HostError)}
    for platform, packages in bundle.packages.items():
        targets = [
            Target(host, PLACE, tuple(known[host.name]["addresses"]))
            for host in hosts
            if host.name in known and known[host.name]["platform"] == platform
        ]
        if targets:
            content = content_of(packages.files, {"source": f"bundle, {platform}"})
            source = Here(bundle.packages_root(platform))
            transfer = Transfer(
                *(connections, job.site, content, source, targets, on_event, lease), stage="provision"
            )
            found = transfer.run()
            failures |= {name: error for name, error in found.items() if isinstance(error, HostError)}
    return {name: answer["platform"] in bundle.packages for name, answer in known.items()}, failures


def _roles(job: Job, host: Host, needy: set[str]) -> tuple[str, ...]:
    """Roles that may install something there in this run."""
    roles = job.chips[str(host.chip)].roles if host.name in needy else ()
    gateways = {gateway.name for gateway in job.fleet.gateways}
    return tuple(dict.fromkeys((*roles, *ON_GATEWAYS))) if host.name in gateways else roles


def _values(job: Job, host: Host) -> dict[str, Any]:
    chip = job.chips.get(str(host.chip))
    return {**(chip.pins if chip else {}), **host.variables}


def _missing(
    bundle: Bundle, roles: Sequence[str], values: Mapping[str, Any], answer: Mapping[str, Any]
) -> list[Problem]:
    platform = str(answer["platform"])
    packages = bundle.packages.get(platform)
    missing = lacking(roles, values, answer, packages.versions if packages else {})
    if not missing:
        return []
    headers = [package.names[0] for package in missing if answer["kernel"] in package.names[0]]
    more = "".join(f" --package {name}" for name in headers)  # which nobody can guess beforehand
    remedy = (
        f"on a controller of {platform}: {bundle.command(platforms=[platform])}{more}\n"
        f"on another, with packages that a machine of {platform} has fetched: --packages {platform}=DIRECTORY"
    )
    return [Problem(STEP, f"no {names([str(each) for each in missing])} for {platform}", remedy)]


def _addresses(host: Host) -> list[Problem]:
    return [
        Problem(
            STEP,
            f"{name} is {host.variables[name]}, which is outside of the bundle",
            f"put the vendor's packages into a directory of this controller, and name that in {name}",
        )
        for name in _ADDRESSES
        if str(host.variables.get(name) or "").startswith(("http://", "https://"))
    ]


def _image(bundle: Bundle, host: Host, architecture: str) -> list[Problem]:
    try:
        bundle.image(str(host.chip), architecture)
    except FlagprovError as error:
        return [Problem(STEP, error.message, error.remedy)]
    return []
