"""What was deployed here, by number: enough to do it again, from any controller."""

from __future__ import annotations

import hashlib
import json
import os

from flagprov.host.files import read_json, replace
from flagprov.host.wire import Blocked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

STATE = "/var/lib/flagprov"
KEEP = 20
SCHEMA_VERSION = 1
SHARED = ("image", "weights")  # belong to every replica of the host


def _folder(replica: str) -> str:
    return os.path.join(STATE, "replicas", replica, "deployments")


def numbers(replica: str) -> list[int]:
    """In the order in which they were made."""
    folder = _folder(replica)
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return sorted(int(name[:-5]) for name in names if name.endswith(".json") and name[:-5].isdigit())


def deployed_replicas(resources: list[dict[str, Any]]) -> list[str]:
    """Replicas that these resources bring all the way to a container."""
    return sorted(
        {r["replica"] for r in resources if r["kind"] == "container" and not r["spec"].get("absent")}
    )


def remember(resources: list[dict[str, Any]], deployment: dict[str, Any], result: str) -> None:
    """Append a deployment to each replica's history; the oldest ones go. Keys stay where they are used."""
    resources = [r for r in resources if not r["spec"].get("secret")]
    for replica in deployed_replicas(resources):
        known = numbers(replica)
        number = known[-1] + 1 if known else 1
        mine = [r for r in resources if r["replica"] == replica or r["kind"] in SHARED]
        entry = dict(deployment, schema_version=SCHEMA_VERSION, number=number, result=result, resources=mine)
        path = os.path.join(_folder(replica), "%d.json" % number)
        replace(path, json.dumps(entry).encode(), 0o600)
        for old in known[: max(0, len(known) + 1 - KEEP)]:
            os.unlink(os.path.join(_folder(replica), "%d.json" % old))


def mark(replica: str, result: str) -> dict[str, Any]:
    """Say of the newest deployment what came of it after all."""
    known = numbers(replica)
    if known:
        entry = dict(read(replica, known[-1]), result=result)
        replace(os.path.join(_folder(replica), "%d.json" % known[-1]), json.dumps(entry).encode(), 0o600)
    return {}


def read(replica: str, number: int) -> dict[str, Any]:
    entry = read_json(os.path.join(_folder(replica), "%d.json" % number))
    if not entry:
        raise Blocked("history", "%s has no deployment %d" % (replica, number), "flagprov history lists them")
    if entry.get("schema_version", 0) > SCHEMA_VERSION:
        raise Blocked("history", "deployment %d was made by a newer flagprov" % number, "update flagprov")
    return dict(entry)


def last_good(replica: str, before: int | None = None) -> int | None:
    """The newest deployment that ended serving, older than `before`."""
    for number in reversed(numbers(replica)):
        if (before is None or number < before) and read(replica, number)["result"] == "done":
            return number
    return None


def previous(replica: str) -> int | None:
    """What a rollback goes to: the good one before the good one that is in place now.

    After a failed deployment that is the last good one itself.
    """
    known = numbers(replica)
    if not known:
        return None
    if read(replica, known[-1])["result"] != "done":
        return last_good(replica)
    here = read(replica, known[-1])["resources"]
    for number in reversed(known[:-1]):
        entry = read(replica, number)
        if entry["result"] == "done" and entry["resources"] != here:
            return number
    return None


def chosen(wishes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Resources of stored deployments: `number` is a number, `previous` or `last`."""
    resources: list[dict[str, Any]] = []
    for wish in wishes:
        replica = str(wish["replica"])
        number = wish["number"]
        if number == "previous":
            number = previous(replica)
        elif number == "last":
            number = last_good(replica)
        if number is None:
            message = "%s has no earlier deployment that served" % replica
            raise Blocked("history", message, "flagprov history lists what there was", replica=replica)
        resources.extend(read(replica, int(number))["resources"])
    return resources


def latest(release: str, sets: list[str]) -> list[dict[str, Any]]:
    """What was deployed last for a release with these settings, each resource once; else empty."""
    found: dict[str, dict[str, Any]] = {}
    root = os.path.join(STATE, "replicas")
    for replica in sorted(os.listdir(root)) if os.path.isdir(root) else []:
        known = numbers(replica)
        entry = read(replica, known[-1]) if known else {}
        if entry.get("release") == release:
            if entry.get("set") != sets:
                return []
            found.update((_canonical(resource), resource) for resource in entry["resources"])
    return list(found.values())


def asked(resources: Iterable[dict[str, Any]]) -> str:
    """The same for the same resources, in whatever order."""
    return hashlib.sha256("\n".join(sorted({_canonical(r) for r in resources})).encode()).hexdigest()


def _canonical(resource: dict[str, Any]) -> str:
    return json.dumps(resource, sort_keys=True, separators=(",", ":"))


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """The history of this host's replicas, without their resources."""
    root = os.path.join(STATE, "replicas")
    entries = []
    for replica in sorted(os.listdir(root)) if os.path.isdir(root) else []:
        for number in numbers(replica):
            entry = read(replica, number)
            del entry["resources"]
            entries.append(dict(entry, replica=replica))
    return {"deployments": entries}
