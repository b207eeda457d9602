"""A host after role release_weights, run by itself where the weights are there."""

from __future__ import annotations

from typing import Any


def test_the_weights_are_as_they_were(host: Any) -> None:
    assert host.run("cd /srv/models/Qwen3-Tiny && sha256sum --check --quiet /srv/web/SHA256SUMS").rc == 0
    assert not host.file("/srv/models/Qwen3-Tiny/.flagprov-manifest.json").exists
    assert host.file("/srv/models").listdir() == ["Qwen3-Tiny"]


def test_nothing_else_was_brought(host: Any) -> None:
    assert host.run("docker ps --all --quiet").stdout == ""
    assert not host.file("/var/lib/flagprov/images").exists
