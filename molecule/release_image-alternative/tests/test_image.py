"""A host after role release_image, run by itself where the site has another name for the image."""

from __future__ import annotations

import json
from typing import Any


def test_the_sites_own_image_was_looked_into(host: Any) -> None:
    (found,) = host.file("/var/lib/flagprov/images").listdir()
    facts = json.loads(host.file(f"/var/lib/flagprov/images/{found}").content_string)
    assert facts["flagscale"] == "0.8.0"
    assert "registry.example" not in host.run("docker images").stdout


def test_nothing_else_was_brought(host: Any) -> None:
    assert host.run("docker ps --all --quiet").stdout == ""
    assert host.file("/var/lib/flagprov/replicas").listdir() == []
    assert host.file("/srv/models").listdir() == ["Qwen3-Tiny"]
