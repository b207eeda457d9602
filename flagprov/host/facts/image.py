"""What an image says of itself before it is pulled: from here, or from its registry.

Whether it can be had is asked of dockerd. Its configuration and size dockerd does not tell, so the registry
is asked for them directly; where that is not possible, they stay unknown.
"""

from __future__ import annotations

import os

from flagprov.host import docker, registry
from flagprov.host.facts import Unparsed
from flagprov.host.facts.registry import ARCHES, Registry, answer, told

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def image(spec: dict[str, Any]) -> dict[str, Any]:
    """`where` is host, registry, missing, unreachable, or brought where hosts do not pull."""
    reference, digests = str(spec["reference"]), list(spec.get("digests", ()))
    here = docker.image_id(reference, digests)
    if here:
        seen = docker.call("GET", "/images/%s/json" % here)
        env = told((seen.get("Config") or {}).get("Env") or [])
        return answer("host", [str(seen["Architecture"])], env, None)
    if spec.get("base"):  # of one that is still to be built, what is known is what it is made from
        return image(spec["base"])
    if spec.get("brought"):
        return dict(answer("brought", [], {}, None), why="it comes from host to host")
    said = registry.ask(reference, digests)
    if said["why"]:
        return dict(answer("missing" if said["answers"] else "unreachable", [], {}, None), why=said["why"])
    arch = ARCHES.get(os.uname().machine, os.uname().machine)
    try:
        found = Registry(reference).answer(arch)
    except Unparsed:
        return answer("registry", said["arches"], {}, None)
    return dict(found, arches=said["arches"] or found["arches"])
