"""Look (observe + diff) and converge (look + apply), over resources in the order of their stages."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time

from flagprov.host import wire
from flagprov.host.resources import load
from flagprov.host.shell import AtOnce
from flagprov.host.slots import beside, with_others
from flagprov.host.wire import Blocked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO, Any

STATE = "/var/lib/flagprov"
LOCK_S = 20.0


def look(request: dict[str, Any], *, endpoints: bool = True) -> dict[str, Any]:
    """Changes, problems and notes; nothing is changed. Without `endpoints` no engine is asked."""
    changes: list[dict[str, Any]] = []
    problems: list[dict[str, Any]] = []
    notes: dict[str, Any] = {}
    changed: set[str] = set()
    resources = [r for r in with_others(wanted(request)) if endpoints or r["kind"] != "probe"]
    for resource, observed in _observed(resources):
        module = load(resource["kind"])
        if isinstance(observed, Blocked):
            problems.append(dict(observed.wire(), replica=resource["replica"]))
            continue
        if hasattr(module, "note"):
            notes[resource["name"]] = module.note(resource["spec"], observed)
        for action, reason, cost in module.diff(resource["spec"], observed, changed):
            if action == "block":
                problems.append(
                    {
                        "step": resource["kind"],
                        "message": reason,
                        "remedy": cost,
                        "replica": resource["replica"],
                    }
                )
                continue
            changed.add(resource["name"])
            changes.append(_change(resource, action, reason, cost))
    return {"digest": digest(changes, problems), "changes": changes, "problems": problems, "notes": notes}


def _observed(resources: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any] | Blocked]]:
    with AtOnce({r["spec"]["unit"] for r in resources if r["kind"] in ("unit", "probe")}):
        for resource in resources:
            try:
                yield resource, load(resource["kind"]).observe(resource["spec"])
            except Blocked as problem:
                yield resource, problem


def _change(resource: dict[str, Any], action: str, reason: str, cost: str) -> dict[str, Any]:
    return {
        "kind": resource["kind"],
        "name": resource["name"],
        "stage": resource["stage"],
        "action": action,
        "reason": reason,
        "replica": resource["replica"],
        "cost": cost,
    }


def digest(changes: list[dict[str, Any]], problems: list[dict[str, Any]]) -> str:
    """Over what would be done, less what moves by itself: how an engine is.

    That one is restarted for how it is has to be asked for by name instead; see `converge`.
    """
    stable = [change for change in changes if change["kind"] != "probe"]
    return hashlib.sha256(json.dumps([stable, problems], sort_keys=True).encode()).hexdigest()


def converge(request: dict[str, Any]) -> dict[str, Any]:
    """Apply what differs; refused when the host is no longer as the plan saw it.

    `restarts` names the endpoints whose engines the plan restarts for how they are (hung, degraded, wrong).
    `checked`: where there is no digest, a look whose problems end it. `only`: of all that is looked at,
    resources of these kinds are applied.
    """
    from flagprov.host.lease import Beating

    os.makedirs(STATE, exist_ok=True)
    with open(os.path.join(STATE, "lock"), "a") as lock:
        _lock(lock)
        with Beating(request.get("lease")):
            if request.get("digest") or request.get("checked"):
                _checked(look(request, endpoints=False), request.get("digest"))
            return _recorded(request)


def _checked(now: dict[str, Any], digest: str | None) -> None:
    """It is still as the plan saw it; without a plan's digest, nothing is in the way."""
    if digest and now["digest"] != digest:
        raise Blocked("plan", "this host has changed since it was looked at", "run the command again")
    for problem in () if digest else now["problems"]:
        raise Blocked(problem["step"], problem["message"], problem["remedy"], replica=problem["replica"])


def _lock(stream: IO[str]) -> None:
    """What a killed controller began here ends by itself, mostly within seconds."""
    deadline = time.monotonic() + LOCK_S
    while True:
        try:
            return fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() >= deadline:
                raise Blocked(
                    "lock", "another flagprov is changing this host", "wait for it, then run again"
                ) from None
        time.sleep(0.2)


def wanted(request: dict[str, Any]) -> list[dict[str, Any]]:
    """The resources that the controller sent, or those of deployments that this host remembers."""
    if request.get("from"):
        from flagprov.host.history import chosen

        return chosen(request["from"])
    resources: list[dict[str, Any]] = request["resources"]
    return resources


def _recorded(request: dict[str, Any]) -> dict[str, Any]:
    """Apply, and have it in the history from the first change on: a run that is cut off has proved nothing.

    A gated deployment stays pending until the controller has seen it through its gate. `beside`: the old ones
    serve on while new ones start in free slots, and these are not the replicas yet.
    """
    only = request.get("only")
    resources = [r for r in wanted(request) if only is None or r["kind"] in only]
    due = beside(resources) if request.get("beside") else with_others(resources)
    restarts = frozenset(request.get("restarts") or ())
    deployment = request.get("deployment")
    if not deployment:
        return _apply(due, restarts)
    from flagprov.host import history

    restored = history.restored(request.get("from") or [])
    begun = []

    def begin() -> None:
        begun.append(True)
        _noted(lambda: history.remember(resources, deployment, history.PENDING, restored))

    def settle(result: str) -> None:
        _noted(lambda: [history.mark(replica, result) for replica in history.deployed_replicas(resources)])

    if history.other_pending(resources):
        begin()
    try:
        result = _apply(due, restarts, None if begun else begin)
    except Blocked:
        if not begun:
            begin()
        settle("failed")
        raise
    if not deployment.get("gated"):
        settle("done")
    return result


def _noted(write: Callable[[], object]) -> None:
    try:
        write()
    except OSError as error:  # a full disk must not hide what failed before
        message = "%s: %s" % (error.filename, error.strerror)
        wire.event("note", "verify", "history", "not written: %s" % message)


def _apply(
    resources: list[dict[str, Any]],
    restarts: frozenset[str],
    before_first: Callable[[], None] | None = None,
) -> dict[str, Any]:
    changed: set[str] = set()
    notes: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    count = 0
    for resource in resources:
        module = load(resource["kind"])
        begun = time.monotonic()
        spec = resource["spec"]
        if resource["kind"] == "probe":
            observed = module.after(spec, changed)
            observed["may_restart"] = resource["name"] in restarts
        else:
            observed = module.observe(spec)
        changes = module.diff(spec, observed, changed)
        for action, reason, remedy in changes:
            if action == "block":
                raise Blocked(resource["kind"], reason, remedy, replica=resource["replica"])
        if changes:
            step = "%s %s" % (", ".join(change[0] for change in changes), resource["name"])
            wire.started(resource["stage"], step, changes[0][1], resource["replica"])
            observed["to_do"] = {change[0] for change in changes}
            if before_first and not count:
                before_first()
            try:
                observed = _guarded(module, resource, spec, observed)
            except Blocked as problem:
                wire.failed(problem.message)
                raise
            changed.add(resource["name"])
            count += len(changes)
            wire.done(time.monotonic() - begun)
        if hasattr(module, "note"):
            notes[resource["name"]] = module.note(spec, observed)
        stage = resource["stage"]
        seconds[stage] = seconds.get(stage, 0.0) + time.monotonic() - begun
    return {
        "changes": count,
        "notes": notes,
        "seconds": {key: round(value, 3) for key, value in seconds.items()},
    }


def _guarded(
    module: Any, resource: dict[str, Any], spec: dict[str, Any], observed: dict[str, Any]
) -> dict[str, Any]:
    """What there is afterwards. Every failure names its step; docker's and the kernel's words are kept."""
    from flagprov.host.docker import DockerError

    step = "%s %s" % (resource["kind"], resource["name"])
    try:
        after: dict[str, Any] | None = module.apply(spec, observed)
        return module.observe(spec) if after is None and hasattr(module, "note") else after or observed
    except Blocked as problem:
        problem.replica = problem.replica or resource["replica"]
        raise
    except DockerError as error:
        raise Blocked(
            step, "docker: %s" % error, "journalctl -u docker", replica=resource["replica"]
        ) from None
    except OSError as error:
        message = "%s: %s" % (error.filename or resource["name"], error.strerror or error)
        raise Blocked(
            step, message, "free space or mend permissions, then run again", replica=resource["replica"]
        ) from None
