"""What an image really is: a probe runs once inside it, per digest, and its answer is kept on the host."""

from __future__ import annotations

import json
import os

from flagprov.host import docker
from flagprov.host.files import read_json, replace
from flagprov.host.shell import run
from flagprov.host.wire import Blocked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ROOT = "/var/lib/flagprov/images"
PROBE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "image_probe.py")


def _path(spec: dict[str, Any], image: str) -> str:
    return os.path.join(ROOT, "%s-%s.json" % (image.split(":")[-1], spec["probe"]))


def observe(spec: dict[str, Any]) -> dict[str, Any]:
    image = docker.image_id(spec["reference"], spec["digests"])
    facts = read_json(_path(spec, image)) if image else None
    return {"image": image, "facts": facts}


def note(spec: dict[str, Any], observed: dict[str, Any]) -> dict[str, Any]:
    return {"image": observed["image"], "facts": observed["facts"]}


def diff(spec: dict[str, Any], observed: dict[str, Any], changed: set[str]) -> list[tuple[str, str, str]]:
    if observed["facts"] is not None:
        return []
    return [("probe", "nobody has looked into this image yet", "nothing")]


def apply(spec: dict[str, Any], observed: dict[str, Any]) -> None:
    image = docker.image_id(spec["reference"], spec["digests"])
    if not image:
        raise Blocked("image facts", "%s is not here" % spec["reference"], "deploy again")
    name = "flagprov-probe-%s" % image.split(":")[-1][:12]
    run(["docker", "rm", "-f", name], timeout=60)
    argv = ["docker", "run", "--rm", "--name", name, "--label", "io.flagprov.probe=1", "--network", "none"]
    argv += ["-v", "%s:/flagprov_probe.py:ro" % PROBE, "--entrypoint", "python3", image, "/flagprov_probe.py"]
    answer = run(argv, timeout=spec.get("timeout_s", 300))
    try:
        facts = json.loads(answer.out.strip().splitlines()[-1])
    except (ValueError, IndexError):
        log = (answer.err or answer.out).strip()[-2000:]
        message = "the probe inside %s said nothing usable (code %d)" % (spec["reference"], answer.code)
        raise Blocked("image facts", message, "has the image a python3?", log) from None
    replace(_path(spec, image), json.dumps(facts).encode(), 0o644)
