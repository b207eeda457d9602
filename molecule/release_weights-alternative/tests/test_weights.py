"""A host after role release_weights, which had to fetch them."""

from __future__ import annotations

import json
from typing import Any

WEIGHTS = "/srv/models/Fetched"


def test_the_weights_are_those_of_the_web_server(host: Any) -> None:
    assert host.run(f"cd {WEIGHTS} && sha256sum --check --quiet /srv/web/SHA256SUMS").rc == 0
    manifest = json.loads(host.file(f"{WEIGHTS}/.flagprov-manifest.json").content_string)
    assert manifest["source"] == "http://127.0.0.1:8088"
    assert sorted(host.file("/srv/models").listdir()) == ["Fetched", "Qwen3-Tiny"]


def test_nothing_else_was_brought(host: Any) -> None:
    assert host.run("docker ps --all --quiet").stdout == ""
    assert host.file("/var/lib/flagprov/images").listdir() == []


def test_the_jobs_order_is_not_kept(host: Any) -> None:
    (job,) = host.file("/var/lib/flagprov/jobs").listdir()
    assert not host.file(f"/var/lib/flagprov/jobs/{job}/spec.json").exists
