"""A host after role release_image, run by itself."""

from __future__ import annotations

import json
from typing import Any


def test_what_the_image_is_was_found_out_once(host: Any) -> None:
    (found,) = host.file("/var/lib/flagprov/images").listdir()
    facts = json.loads(host.file(f"/var/lib/flagprov/images/{found}").content_string)
    assert facts["flagscale"] == "0.8.0"


def test_nothing_else_was_brought(host: Any) -> None:
    assert host.run("docker ps --all --quiet").stdout == ""
    assert not host.file("/var/lib/flagprov/configs").exists
    assert host.file("/var/lib/flagprov/replicas").listdir() == []
