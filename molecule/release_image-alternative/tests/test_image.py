"""A host after role release_image, where the site has another name for the release's image."""

from __future__ import annotations

from typing import Any


def test_the_sites_own_image_was_looked_into(host: Any) -> None:
    assert len(host.file("/var/lib/flagprov/images").listdir()) == 1
    assert "registry.example" not in host.run("docker images").stdout
