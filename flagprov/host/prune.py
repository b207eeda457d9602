"""What of ours on this host nothing needs any more: no container, and none of the last deployments."""

from __future__ import annotations

import os

from flagprov.host import build, docker, history
from flagprov.host.resources import weights
from flagprov.host.shell import unit_state
from flagprov.host.slots import CONFIGS, CURRENT
from flagprov.host.transfer import manifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STATE = "/var/lib/flagprov"


def unused(request: dict[str, Any]) -> dict[str, Any]:
    """Images, weights and directories that may go; `kept` says of what looks unused why it stays."""
    needed, known = _deployed(int(request["keep"]))
    containers = [
        docker.container(found["Id"]) or {} for found in docker.call("GET", "/containers/json?all=1") or []
    ]
    mounted = {str(m.get("Source")) for c in containers for m in c.get("Mounts") or []}
    files, stay = _weights(known - needed, needed)
    return {
        "needed": sorted(name for kind, name in needed if kind == "image"),
        "images": _images(known, needed, {str(c.get("Image")) for c in containers}),
        "weights": files,
        "directories": _directories(needed, mounted),
        "builds": build.left(),
        "kept": stay,
    }


def kept(request: dict[str, Any]) -> dict[str, Any]:
    """Why some of these weights stay where a teardown is to take them, and the containers `going`."""
    there = [path for path in request["weights"] if os.path.isdir(path)]
    reasons = [weights.kept(path, request.get("going", ())) for path in there]
    return {"kept": [why for why in reasons if why]}


def _deployed(keep: int) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """(kind, what) of the resources that the last deployments need, and of all that are remembered."""
    needed: set[tuple[str, str]] = set()
    known: set[tuple[str, str]] = set()
    root = os.path.join(STATE, "replicas")
    for replica in sorted(os.listdir(root)) if os.path.isdir(root) else []:
        numbers = history.numbers(replica)
        back = {number for number in (history.last_good(replica), history.previous(replica)) if number}
        for number in numbers:
            things = _things(history.read(replica, number)["resources"])
            known |= things
            if number in numbers[-keep:] or number in back:
                needed |= things
    return needed, known


def _things(resources: list[dict[str, Any]]) -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    for resource in resources:
        spec = resource["spec"]
        if resource["kind"] == "image":
            for image in (spec, spec.get("base")):
                if image:  # what another one is made from is needed to make it anew
                    found |= {("image", name) for name in [image["reference"]] + list(image["digests"])}
        elif resource["kind"] in ("weights", "tree", "directory"):
            found.add((resource["kind"], str(spec["path"])))
    return found


def _images(
    known: set[tuple[str, str]], needed: set[tuple[str, str]], used: set[str]
) -> list[dict[str, Any]]:
    """Local images that we deployed once; looked into is deployed, too."""
    folder = os.path.join(STATE, "images")
    looked_into = {name.split("-")[0] for name in os.listdir(folder)} if os.path.isdir(folder) else set()
    found = []
    for image in docker.call("GET", "/images/json") or []:
        held = [name.split("@", 1)[1] for name in image.get("RepoDigests") or [] if "@" in name]
        names = [image["Id"]] + held + [tag for tag in image.get("RepoTags") or [] if tag != "<none>:<none>"]
        ours = image["Id"].split(":")[-1] in looked_into or any(("image", name) in known for name in names)
        if not ours or image["Id"] in used or any(("image", name) in needed for name in names):
            continue
        shown = ([tag for tag in names if not tag.startswith("sha256:")] + [image["Id"]])[0]
        found.append({"id": image["Id"], "name": shown, "bytes": image["Size"]})
    return found


def _weights(
    candidates: set[tuple[str, str]], needed: set[tuple[str, str]]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Only what a manifest of ours lists goes, and nothing that others may read over the network."""
    found, stay = [], []
    wanted = {path for kind, path in needed if kind == "weights"}
    for kind, path in sorted(candidates):
        if kind != "weights" or not os.path.isdir(path):
            continue
        why = weights.kept(path)
        if why:
            stay.append(why)
        elif not any(weights.overlap(path, other) for other in wanted):
            size = sum(entry["size"] for entry in manifest.read(path).values())
            found.append({"path": path, "bytes": size})
    return found, stay


def _directories(needed: set[tuple[str, str]], mounted: set[str]) -> list[dict[str, Any]]:
    """Configurations, caches, finished jobs, and what is left of images and packages that were brought."""
    in_use = {path for _, path in needed} | mounted
    found = [path for path in _entries("caches") + _configurations() if path not in in_use]
    bringing = False
    for path in _entries("jobs"):
        name = os.path.basename(path)
        works = unit_state("flagprov-job-%s.service" % name).get("ActiveState") in ("active", "activating")
        bringing = bringing or (works and name.startswith(("transfer-", "load-", "build-")))
        ended = any("result" in line or "error" in line for line in _tail(os.path.join(path, "events")))
        if ended and not works:
            found.append(path)
    if not bringing:
        packages = os.path.join(STATE, "packages")  # roles take from it only while they run
        found += _entries("oci") + [path for path in [packages] if os.path.isdir(path)]
    return [{"path": path, "bytes": _size(path)} for path in found]


def _configurations() -> list[str]:
    """Those that no launcher is to run; `configs` is where all of them lay once."""
    found = _entries(CONFIGS)
    for folder in _entries("replicas"):
        runs = os.path.realpath(os.path.join(folder, CONFIGS, CURRENT))
        there = [path for path in _entries(os.path.join(folder, CONFIGS)) if os.path.isdir(path)]
        found += [path for path in there if not os.path.islink(path) and os.path.realpath(path) != runs]
    return found


def _entries(folder: str) -> list[str]:
    root = os.path.join(STATE, folder)
    return [os.path.join(root, name) for name in sorted(os.listdir(root))] if os.path.isdir(root) else []


def _tail(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.readlines()[-1:]
    except OSError:
        return []


def _size(path: str) -> int:
    return sum(
        os.lstat(os.path.join(folder, name)).st_size for folder, _, names in os.walk(path) for name in names
    )
