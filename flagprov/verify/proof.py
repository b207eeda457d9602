"""`flagprov verify`: every replica answers, is what was deployed, and its weights are whole."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from flagprov.apply.converge import OnEvent, failed, host_event
from flagprov.catalog import load_release, locked_files
from flagprov.errors import HostError, ReleaseError, UnreachableError
from flagprov.models.outcome import HostOutcome, Outcome
from flagprov.models.request import Request
from flagprov.scope import Scope, check_named, scope_of
from flagprov.transport import Connections, Session
from flagprov.verify.status import completions, merge

Replicas = list[dict[str, Any]]


def verify(request: Request, *, deep: bool, on_event: OnEvent) -> Outcome:
    """Reads only; `deep` hashes every byte of the weights."""
    begun = time.monotonic()
    scope = scope_of(request)
    payload = {"op": "verify", "release": scope.release, "deep": deep, "files": _locked(scope)}

    def ask(session: Session) -> Replicas:
        def said(message: Mapping[str, Any]) -> None:
            on_event(host_event(session.host.name, {**message, "stage": "verify"}))

        return list(session.ask(payload, said)["replicas"])

    with Connections(scope.fleet) as connections:
        answers = connections.once(scope.fleet.hosts, ask)
    known = {name: found for name, found in answers.items() if not isinstance(found, HostError)}
    silent = {name: error for name, error in answers.items() if isinstance(error, HostError)}
    check_named(scope, (str(each["release"]) for found in known.values() for each in found), silent)
    replicas = merge(scope.fleet, known, silent, scope.site.deployed(), scope.release)
    lost = {host: r for r in replicas for host in r.hosts if r.state == "absent"}
    hosts, proofs = [], []
    for host in scope.fleet.hosts:
        if host.name in silent:
            error = silent[host.name]
            hosts.append(failed(error, isinstance(error, UnreachableError)))
            continue
        wrong = [problem for replica in known[host.name] for problem in replica["wrong"]]
        if host.name in lost and not known[host.name]:
            gone = f"{lost[host.name].name} was deployed here, and there is no trace of it"
            wrong.append({"step": "drift", "message": gone, "remedy": "flagprov deploy puts it right"})
        hosts.append(_judged(host.name, wrong))
        notes = {r["replica"]: {**r, "port": r["port"]} for r in known[host.name]}
        proofs += completions(host, notes)
    return Outcome(
        verb="verify",
        release=scope.release or "",
        hosts=tuple(hosts),
        replicas=replicas,
        completions=tuple(proofs),
        seconds=round(time.monotonic() - begun, 3),
    )


def _judged(host: str, wrong: list[dict[str, str]]) -> HostOutcome:
    """One outcome a host: all that is wrong, each once, and the way out of the first."""
    if not wrong:
        return HostOutcome(host, "unchanged")
    messages = dict.fromkeys(problem["message"] for problem in wrong)
    error = HostError(host, wrong[0]["step"], "; ".join(messages), remedy=wrong[0]["remedy"])
    return failed(error, False)


def _locked(scope: Scope) -> dict[str, list[list[Any]]]:
    """Files of the weights that this site has locked, by release."""
    deployed = {str(replica["release"]) for replica in scope.site.deployed().values()}
    found: dict[str, list[list[Any]]] = {}
    for name in sorted(deployed | ({scope.release} if scope.release else set())):
        lock = scope.site.lock_file(name)
        if lock.is_file():
            try:
                files = locked_files(load_release(name), lock)
            except ReleaseError:
                continue  # of a file that is elsewhere: the hosts' own manifests are what is known
            found[name] = [list(entry) for entry in files]
    return found
