"""Which layers of an image need not come here: dockerd has them, or an earlier run brought them."""

from __future__ import annotations

import hashlib
import os

from flagprov.host import docker
from flagprov.host.transfer import manifest
from flagprov.host.wire import Blocked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DATA_ROOT = "/var/lib/docker"
CONTENT = "io.containerd.content.v1.content/blobs/sha256"
CONTAINERD = ("/var/lib/containerd", "%s/containerd/daemon")  # the system's, and dockerd's own


def data_root() -> str:
    """Where images become large; dockerd's usual place where it does not answer yet."""
    return str(_info().get("DockerRootDir") or DATA_ROOT)


def held(layers: list[str]) -> set[str]:
    """Of an image's layers, lowest first, those that dockerd does not ask a registry for.

    By what it goes by itself. Wrong is never dangerous: a blob that it asks for after all comes then.
    """
    info = _info() if layers else {}
    root, driver = str(info.get("DockerRootDir") or DATA_ROOT), str(info.get("Driver") or "")
    if any("io.containerd.snapshotter" in str(entry) for entry in info.get("DriverStatus") or []):
        stores = [os.path.join(place.replace("%s", root), CONTENT) for place in CONTAINERD]
        return {d for d in layers if any(os.path.isfile(os.path.join(s, _hex(d))) for s in stores)}
    lowest = _unpacked(os.path.join(root, "image", driver), layers)
    return set(layers[:lowest]) - set(layers[lowest:])


def _unpacked(store: str, layers: list[str]) -> int:
    """How many of the lowest lie unpacked one on the other; above a missing one dockerd asks for all."""
    chain, known = "", os.path.join(store, "distribution/diffid-by-digest/sha256")
    for number, digest in enumerate(layers):
        try:
            with open(os.path.join(known, _hex(digest)), encoding="ascii") as stream:
                unpacked = stream.read().strip()
        except OSError:
            return number
        chain = _sha256("%s %s" % (chain, unpacked)) if chain else unpacked
        if not os.path.isdir(os.path.join(store, "layerdb/sha256", _hex(chain))):
            return number
    return len(layers)


def arrived(folder: str) -> set[str]:
    """Blobs that lie here whole, each part of an image in a directory of its own."""
    found: set[str] = set()
    for part in parts(folder):
        known = manifest.read(part).values()
        found |= {"sha256:%s" % entry["sha256"] for entry in known if manifest.unchanged(part, entry)}
    return found


def parts(folder: str) -> list[str]:
    """What of an image has arrived; what is on its way has a name of its own."""
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    return [os.path.join(folder, name) for name in names if ".flagprov-" not in name]


def _info() -> dict[str, Any]:
    try:
        return dict(docker.call("GET", "/info"))
    except (Blocked, docker.DockerError):
        return {}


def _hex(digest: str) -> str:
    return os.path.basename(digest.split(":")[-1])


def _sha256(text: str) -> str:
    return "sha256:%s" % hashlib.sha256(text.encode()).hexdigest()
