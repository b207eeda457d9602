"""Hosts of other families than Debian's, made out of the lab's bare ones: real dnf and rpm, no apt."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from flagprov.lab.layout import Layout
from flagprov.lab.shell import attempt, docker

SCRIPTS = Path(__file__).with_name("families")
FAMILIES = {"rhel": ("rhel.sh",), "openeuler": ("rhel.sh", "openeuler.sh")}


def ensure_image(lab: Layout, bare: str, family: str, rpms: Sequence[str]) -> str:
    """The image of a family, by content; rpms are NAME or NAME=DEBIAN_PACKAGE, offered by its repository."""
    if family not in FAMILIES:
        raise SystemExit(f"no family {family} of hosts; there are: {', '.join(FAMILIES)}")
    scripts = [(SCRIPTS / name).read_text(encoding="utf-8") for name in FAMILIES[family]]
    offered = [pair if "=" in pair else f"{pair}={pair}" for pair in rpms]
    key = hashlib.sha256("\0".join([bare, *scripts, *offered]).encode()).hexdigest()[:12]
    image = f"flagprov-{lab.id}/{family}:{key}"
    if attempt(["docker", "image", "inspect", image]).returncode == 0:
        return image
    container = f"flagprov-{lab.id}-{family}-{key}"
    attempt(["docker", "rm", "--force", container])
    try:
        docker("run", "--detach", "--name", container, "--network", "host", bare, "sleep", "infinity")
        for script in scripts:
            docker("exec", "-i", container, "sh", "-s", "--", *offered, stdin=script.encode())
        docker("commit", "--change", f"LABEL {lab.label}", container, image)
    finally:
        attempt(["docker", "rm", "--force", container])
    return image
