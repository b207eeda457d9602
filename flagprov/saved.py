"""A plan in a file, to be looked at by others and applied later, exactly as it is or not at all."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flagprov.apply import record
from flagprov.errors import FlagprovError, UsageError, VersionError
from flagprov.models.fleet import Fleet
from flagprov.models.plan import START_FIRST, Plan
from flagprov.preparation import Request
from flagprov.rollout.options import Options
from flagprov.rollout.order import Size

SCHEMA_VERSION = 1
KIND = "flagprov plan"
REQUEST = "request.json"  # in the directory of a run


@dataclass(frozen=True, slots=True)
class SavedPlan:
    """What was asked for, and what was to be done on each host."""

    path: Path
    verb: str
    request: Request
    options: Options
    batches: tuple[tuple[str, ...], ...]  # names of replicas
    hosts: Mapping[str, Any]  # host -> digest of its look, and its steps
    token: str = ""  # of the lease that a killed run still has

    def check(self, plan: Plan) -> None:
        """Refuses a plan that is no longer this one."""
        now = _hosts(plan)
        moved = sorted(name for name in {*now, *self.hosts} if now.get(name) != self.hosts.get(name))
        if moved:
            raise FlagprovError(
                f"{', '.join(moved)}: not as {self.path} has it any more; nothing was changed",
                remedy=f"plan again, look at it, and save it: flagprov {self.verb} ... --save {self.path}",
            )
        if _batches(plan) != self.batches:
            raise FlagprovError(
                f"the fleet has changed since {self.path} was written: its batches would be others",
                remedy="plan again, and look at it",
            )


def save(path: Path, verb: str, request: Request, options: Options, plan: Plan) -> None:
    """Written beside and moved into place; readable by its owner, for settings are in it."""
    wanted = {**dataclasses.asdict(request), "release": _anywhere(request.release)}
    value = {
        "kind": KIND,
        "schema_version": SCHEMA_VERSION,
        "verb": verb,
        "request": {**wanted, "inventory": str(request.inventory.absolute())},
        "options": dataclasses.asdict(dataclasses.replace(options, golden=None)),  # the release has it
        "batches": _batches(plan),
        "hosts": _hosts(plan),
    }
    beside = path.with_name(f".{path.name}.new")
    beside.touch(mode=0o600)
    beside.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    beside.replace(path)


def _anywhere(release: str | None) -> str | None:
    """A file's name holds wherever it is read again."""
    return str(Path(release).absolute()) if release and Path(release).is_file() else release


def load(path: Path) -> SavedPlan:
    """Raises UsageErrors that name the file."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {(error.strerror or 'not readable').lower()}") from None
    except ValueError:
        stored = None
    if not isinstance(stored, dict) or stored.get("kind") != KIND:
        raise UsageError(f"{path}: not a saved plan", remedy="flagprov plan ... --save FILE writes one")
    if stored.get("schema_version") != SCHEMA_VERSION:
        raise VersionError(f"{path}: written by another version of flagprov", remedy="plan again")
    try:
        return SavedPlan(
            path=path,
            verb=str(stored["verb"]),
            request=_request(stored["request"]),
            options=_options(stored["options"]),
            batches=tuple(tuple(map(str, batch)) for batch in stored["batches"]),
            hosts=dict(stored["hosts"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path}: not a whole plan: {error}", remedy="plan again, and save it") from None


def unfinished(fleet: Fleet, verb: str) -> SavedPlan:
    """The newest run of this verb that has not come to its end: its controller was killed."""
    runs = sorted((fleet.site / "runs").glob(f"*-{verb}*"), reverse=True)
    for run in runs:
        if (run / REQUEST).is_file():
            if record.ended(run):
                break
            if record.lives(run):
                raise UsageError(
                    f"{run.name} is still at work", remedy="wait for it; flagprov lock show says who it is"
                )
            return dataclasses.replace(load(run / REQUEST), token=record.token_of(run))
    raise UsageError(
        f"{fleet.inventory}: its last {verb} came to an end", remedy="there is nothing to take up again"
    )


def _request(stored: Mapping[str, Any]) -> Request:
    lists = {name: tuple(value) for name, value in stored.items() if isinstance(value, list)}
    return Request(**{**stored, **lists, "inventory": Path(stored["inventory"])})


def _options(stored: Mapping[str, Any]) -> Options:
    batches = tuple(Size(**size) for size in stored["batches"])
    most = stored["max_unavailable"] and Size(**stored["max_unavailable"])
    return Options(**{**stored, "batches": batches, "max_unavailable": most})


def _batches(plan: Plan) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(replica.replica for replica in batch.replicas) for batch in plan.batches)


def _hosts(plan: Plan) -> dict[str, Any]:
    """JSON values only, so that what was read compares with what is."""
    found: dict[str, Any] = {}
    for host in plan.hosts():  # once for each of its replicas
        known = found.setdefault(host.host, {"digest": host.digest, "pending": host.pending, "steps": []})
        known["steps"] += [[step.kind, step.name, step.action, step.cost] for step in host.steps]
    for replica in (each for batch in plan.batches for each in batch.replicas):
        for host in replica.hosts if replica.order == START_FIRST else ():
            found[host.host].setdefault("slots", {})[replica.replica] = replica.order_reason
    left = {left.host: {"left_out": left.problem.step} for left in plan.left_out}
    return {**found, **left}
