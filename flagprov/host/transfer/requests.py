"""What the controller asks of a host about transfers."""

from __future__ import annotations

import os
import shutil
import socket

from flagprov.host import jobs, layers
from flagprov.host.files import replace
from flagprov.host.lease import Beating, current
from flagprov.host.shell import run
from flagprov.host.transfer import manifest
from flagprov.host.transfer.layout import listing, written
from flagprov.host.transfer.mounts import storage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Interfaces that lead nowhere outside this host.
INNER = ("lo", "docker", "br-", "veth", "virbr", "cni", "flannel", "cali")


def answer(op: str, request: dict[str, Any]) -> dict[str, Any]:
    if op == "reach":
        return reach(request)
    if op == "held":
        return held(request)
    if op == "room":
        from flagprov.host.transfer.room import room

        return room(request)
    if op == "transfer":
        with Beating(_lease(request)):
            return transfer(request["spec"])
    if op == "load":
        with Beating(request.get("lease")):
            return load(request["spec"])
    if op == "fetch":
        with Beating(request.get("lease")):
            name = jobs.name_of("fetch", {"path": request["spec"]["path"]})
            return jobs.run_job("fetch", dict(request["spec"], job=name), name)
    if op == "build":
        with Beating(request.get("lease")):
            return jobs.run_job("build", request["spec"])
    if op == "layer":
        from flagprov.host.build import layer

        return layer(request)
    return release(str(request["job"]))


def _lease(request: dict[str, Any]) -> dict[str, Any] | None:
    """A host that only gives keeps the lease that its run holds, and is not taken where it holds none."""
    wish, spec = request.get("lease"), request["spec"]
    if wish and spec.get("source") and not spec.get("place"):
        held = current()
        return wish if held and held["token"] == wish["token"] else None
    return wish


def reach(request: dict[str, Any]) -> dict[str, Any]:
    """How others reach this host, and what it has of the files."""
    path = str(request["path"])
    found: dict[str, Any] = {"addresses": addresses(), "storage": storage(path)}
    if os.path.isdir(path):
        known = manifest.read(path)
        found["written"] = written(path)
        found["files"] = [
            [name, size, known[name]["sha256"] if _vouched(path, known.get(name)) else ""]
            for name, size, _ in listing(path)
        ]
    return found


def held(request: dict[str, Any]) -> dict[str, Any]:
    """How others reach this host, and which blobs of an image need not come; its `layers`, lowest first."""
    found = layers.held(list(request["layers"])) | layers.arrived(str(request["path"]))
    return {"addresses": addresses(), "held": sorted(found)}


def _vouched(path: str, entry: dict[str, Any] | None) -> bool:
    return entry is not None and manifest.unchanged(path, entry)


def addresses() -> list[str]:
    """Global addresses of the interfaces that lead out, the default route's first."""
    found: list[str] = []
    for family, far in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.connect((far, 9))  # sends nothing: asks which address would be used
                found.append(sock.getsockname()[0])
        except OSError:
            continue
    for line in run(["ip", "-o", "addr", "show", "scope", "global"], timeout=10).out.splitlines():
        words = line.split()
        if len(words) > 3 and words[2] in ("inet", "inet6") and not words[1].startswith(INNER):
            found.append(words[3].split("/")[0])
    return [address for address in dict.fromkeys(found) if not address.startswith(("127.", "::1", "fe80"))]


def load(spec: dict[str, Any]) -> dict[str, Any]:
    """Give dockerd an image that has arrived as files; then the files have done their work."""
    answer = jobs.run_job("load", spec)
    if not answer.get("missing"):
        shutil.rmtree(spec["path"], ignore_errors=True)
    return answer


def transfer(spec: dict[str, Any]) -> dict[str, Any]:
    """Start this host's node of a transfer, or attach to it."""
    name = str(spec["job"])
    state = jobs.state_of(name)
    if state not in jobs.RUNS and (spec.get("place") or not spec.get("source")):
        # It would write to the same place. It belongs to a controller which is gone: we have the lease.
        family = name.rsplit("-", 1)[0] + "-"
        known = os.listdir(jobs.ROOT) if os.path.isdir(jobs.ROOT) else []
        if any(other.startswith(family) and other != name for other in known):
            run(["systemctl", "stop", "flagprov-job-%s*.service" % family], timeout=30)
    if os.path.exists(os.path.join(jobs.ROOT, name, "release")):
        os.unlink(os.path.join(jobs.ROOT, name, "release"))  # it is needed again
    spec = dict(spec, release_file=os.path.join(jobs.ROOT, name, "release"))
    return jobs.run_job("transfer", spec, name, state)


def release(name: str) -> dict[str, Any]:
    """Nobody needs this node any more; it ends, and its key goes."""
    folder = os.path.join(jobs.ROOT, os.path.basename(name))
    if os.path.isdir(folder):
        replace(os.path.join(folder, "release"), b"", 0o600)
    return {}
