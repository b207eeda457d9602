"""What was deployed here, by number: enough to do it again, from any controller."""

from __future__ import annotations

import hashlib
import json
import os

from flagprov.host.files import read_json, replace, typed
from flagprov.host.wire import Blocked, Newer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

STATE = "/var/lib/flagprov"
KEEP = 20
SCHEMA_VERSION = 1
PENDING = "pending"  # begun, and not proved yet
SHARED = ("image", "weights")  # belong to every replica of the host
STORED: dict[str, Any] = {"result": str, "resources": list}  # what every entry has


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


def remember(
    resources: list[dict[str, Any]],
    deployment: dict[str, Any],
    result: str,
    restored: dict[str, int] | None = None,
) -> None:
    """Append a deployment to each replica's history; the oldest ones go. Keys stay where they are used.

    `restored`: replica -> the number of what is put back; it stays the work of the run that made it.
    """
    for replica in deployed_replicas(resources):
        known = numbers(replica)
        number = known[-1] + 1 if known else 1
        entry = dict(deployment, schema_version=SCHEMA_VERSION, number=number, result=result)
        entry["resources"] = _of(replica, resources)
        entry["before"] = (deployment.get("before") or {}).get(replica)
        if replica in (restored or {}):
            source = read(replica, restored[replica])  # type: ignore[index]
            entry.update(restores=source["number"], run=run_of(source))
            entry.update({key: source.get(key, []) for key in ("set", "settings")})
        _write(replica, entry)  # first: what begins now must be known, whatever ends this program
        there = _readable(replica, known)
        for earlier in there:
            if earlier.get("result") == PENDING:
                _write(replica, dict(earlier, result="cut off", before=None))
        served = [each["number"] for each in (*there, entry) if each.get("result") == "done"]
        good = served[-1] if served else None  # a way back, however often others failed since
        for old in known[: max(0, len(known) + 1 - KEEP)]:
            if old != good:
                os.unlink(os.path.join(_folder(replica), "%d.json" % old))


def _readable(replica: str, known: list[int]) -> list[dict[str, Any]]:
    """These entries, but for those that are damaged or that a newer flagprov made."""
    found = []
    for number in known:
        try:
            found.append(dict(read(replica, number), number=number))
        except (Blocked, TypeError):
            pass
    return found


def _of(replica: str, resources: list[dict[str, Any]]) -> list[dict[str, Any]]:
    mine = (r for r in resources if r["replica"] == replica or r["kind"] in SHARED)
    return [r for r in mine if not r["spec"].get("secret")]


def other_pending(resources: list[dict[str, Any]]) -> bool:
    """Whether the newest deployment is none that a gate of these could prove: something else, or settled."""
    for replica in deployed_replicas(resources):
        entry = _newest(replica)
        result = entry.get("result", "done")
        if result not in ("done", PENDING):
            return True
        if result == PENDING and entry["resources"] != _of(replica, resources):
            return True
    return False


def _newest(replica: str) -> dict[str, Any]:
    known = numbers(replica)
    return read(replica, known[-1]) if known else {}


def _write(replica: str, entry: dict[str, Any]) -> None:
    replace(os.path.join(_folder(replica), "%d.json" % entry["number"]), json.dumps(entry).encode(), 0o600)


def run_of(entry: dict[str, Any]) -> str:
    """Which run made what this entry has; in the order of time."""
    return str(entry.get("run") or "%s %s" % (entry.get("at", ""), entry.get("by", "")))


def mark(replica: str, result: str, kept: dict[str, Any] | None = None) -> dict[str, Any]:
    """Say of the newest deployment what came of it; one that was settled before stays as it is.

    `kept`: the number of the one that served on in its place, and whose command that was; it is the newest
    from now on, as what was put back would be.
    """
    known = numbers(replica)
    entry = read(replica, known[-1]) if known else {}
    if entry.get("result") == PENDING:
        _write(replica, dict(entry, result=result, before=None))
    if kept and known and entry.get("number") != kept["number"]:
        source = read(replica, int(kept["number"]))
        serves = dict(source, restores=source["number"], run=run_of(source))
        serves.update({key: kept.get(key) for key in ("command", "by", "at")}, number=known[-1] + 1)
        _write(replica, serves)
    return {}


def marked(request: dict[str, Any]) -> dict[str, Any]:
    """By the run that holds this host: the newest deployment is another's where that one took it over."""
    if request.get("lease"):
        from flagprov.host.lease import renew

        renew(request["lease"])
    return mark(str(request["replica"]), str(request["result"]), request.get("kept"))


def unproved() -> dict[str, bool]:
    """Replicas that nobody has seen serve as they are now, and whether a gate is to come.

    Their newest deployment was never settled, for its run was cut off; or it did not succeed, and what runs
    is not what served last: neither could that be put back. A history that cannot be read says nothing.
    """
    root = os.path.join(STATE, "replicas")
    found = {}
    for replica in sorted(os.listdir(root)) if os.path.isdir(root) else []:
        try:
            entry = _newest(replica)
            if entry.get("result") == PENDING:
                found[replica] = bool(entry.get("gated"))
            elif entry.get("result", "done") != "done" and _runs_unproved(replica):
                found[replica] = True
        except (Blocked, KeyError, TypeError):  # damaged, or written by another version of flagprov
            continue
    return found


def _runs_unproved(replica: str) -> bool:
    """Whether its container runs and is not that of the last deployment which served."""
    from flagprov.host import docker
    from flagprov.host.resources import container, current
    from flagprov.host.slots import CONTAINER, in_place

    try:
        name = CONTAINER + in_place(replica)
        there = docker.container(name)
        if not (there and there["State"]["Running"]):
            return False
        good = last_good(replica)
        served = read(replica, good)["resources"] if good is not None else []
        now = [container.observe(r["spec"]) for r in served if (r["kind"], r["name"]) == ("container", name)]
        links = [r["spec"] for r in served if r["kind"] == "current"]
    except (Blocked, docker.DockerError):
        return False
    if not all(current.observe(link)["config"] == link["config"] for link in links):
        return True
    return not any(each.get("digest") == each.get("wanted") for each in now)


def read(replica: str, number: int) -> dict[str, Any]:
    path = os.path.join(_folder(replica), "%d.json" % number)
    if not os.path.exists(path):
        raise Blocked("history", "%s has no deployment %d" % (replica, number), "flagprov history lists them")
    entry = read_json(path)
    if typed(entry, {"schema_version": int}) and entry["schema_version"] > SCHEMA_VERSION:
        raise Newer("history", "deployment %d was made by a newer flagprov" % number, "update flagprov")
    if not typed(entry, STORED):
        what = "deployment %d of %s is damaged: %s" % (number, replica, path)
        raise Blocked("history", what, "remove that file there: those before it count then", replica=replica)
    return dict(entry)


def last_good(replica: str, before: int | None = None) -> int | None:
    """The newest deployment that ended serving, older than `before`."""
    for number in reversed(numbers(replica)):
        if (before is None or number < before) and read(replica, number)["result"] == "done":
            return number
    return None


def previous(replica: str) -> int | None:
    """The good one before the good one that is in place now; after a failure the last good one itself."""
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
    """Resources of stored deployments that served: `number` is a number, or `last`."""
    resources: list[dict[str, Any]] = []
    for wish in wishes:
        replica = str(wish["replica"])
        number = wish["number"]
        if number == "last":
            number = last_good(replica)
        if number is None:
            message = "%s has no earlier deployment that served" % replica
            raise Blocked("history", message, "flagprov history lists what there was", replica=replica)
        entry = read(replica, int(number))
        if entry["result"] != "done":
            message = "deployment %d of %s never served: %s" % (entry["number"], replica, entry["result"])
            raise Blocked("history", message, "name one whose result is done", replica=replica)
        resources.extend(entry["resources"])
    return resources


def restored(wishes: list[dict[str, Any]]) -> dict[str, int]:
    """Replica -> number of what is put back."""
    return {str(wish["replica"]): int(wish["number"]) for wish in wishes if wish["number"] != "last"}


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
    """The history of this host's replicas, without their resources; before a change it has to be whole."""
    root = os.path.join(STATE, "replicas")
    entries = []
    damaged = []
    for replica in sorted(os.listdir(root)) if os.path.isdir(root) else []:
        for number in numbers(replica):
            try:
                entry = read(replica, number)
            except Newer:
                raise
            except Blocked as error:
                if not request.get("damaged"):
                    raise
                damaged.append(error.wire())
                continue
            resources = entry.pop("resources")
            entry.update(replica=replica, what=asked(resources), run=run_of(entry), place=_place(resources))
            entries.append(entry)
    return {"deployments": entries, "damaged": damaged}


def _place(resources: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Slot, devices and port of what was deployed; None where there is no container among it."""
    for resource in resources:
        labels = (resource["spec"].get("create") or {}).get("Labels")
        if resource["kind"] == "container" and labels:
            devices = labels["io.flagprov.devices"].split(",")
            return {
                "slot": labels.get("io.flagprov.slot", ""),
                "devices": [int(index) for index in devices if index],
                "port": int(labels["io.flagprov.port"]),
            }
    return None
