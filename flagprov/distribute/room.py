"""Whether all that is on its way to hosts fits there: asked before its first byte."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flagprov.errors import HostError
from flagprov.models.fleet import Host
from flagprov.models.observed import Problem
from flagprov.serving import STATE
from flagprov.transport import Connections

UNPACKED = 2.5  # times the size of an image's compressed layers, as most are
ROOM = "free space there (flagprov prune), or set flagprov_weights_root to a larger file system"

Need = Mapping[str, Any]


def of_weights(path: str, files: Iterable[tuple[str, int, str]]) -> Need:
    listed = [list(entry) for entry in files]
    return {"what": "weights", "path": path, "bytes": sum(entry[1] for entry in listed), "files": listed}


def of_layers(layers: Iterable[tuple[str, int]]) -> list[Need]:
    """An image that comes from host to host."""
    listed = [list(layer) for layer in layers]
    return [
        {"what": "the image as it comes", "path": f"{STATE}/oci", "layers": listed},
        {"what": "the image unpacked", "path": "", "layers": listed, "times": UNPACKED},
    ]


def of_pull(mib: int) -> Need:
    """An image that dockerd itself gets."""
    return {"what": "the image", "path": "", "bytes": mib << 20}


def lacking(
    connections: Connections, hosts: Iterable[Host], needs: Mapping[str, Sequence[Need]]
) -> dict[str, tuple[Problem, ...]]:
    """Hosts that have not the room, and where; one that does not answer says so later."""
    asked = [host for host in hosts if needs.get(host.name)]
    answers = connections.each(asked, lambda s: s.ask({"op": "room", "needs": needs[s.host.name]}))
    found: dict[str, tuple[Problem, ...]] = {}
    for name, answer in answers.items():
        faults = [] if isinstance(answer, HostError) else [fault for fault in answer["faults"] if fault]
        if faults:
            found[name] = tuple(Problem("space", fault, ROOM) for fault in faults)
    return found
