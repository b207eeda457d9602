"""A host after role serve_config: a configuration beside what runs, and nothing that runs."""

from __future__ import annotations

from typing import Any


def test_the_configuration_is_there(host: Any) -> None:
    (config,) = host.file("/var/lib/flagprov/configs").listdir()
    assert host.file(f"/var/lib/flagprov/configs/{config}/launcher.py").is_file
    assert host.file("/var/lib/flagprov/replicas/qwen3-tiny-standin-0/run").is_directory


def test_nothing_runs(host: Any) -> None:
    assert host.run("docker ps --all --quiet").stdout == ""
    assert not host.file("/var/lib/flagprov/replicas/qwen3-tiny-standin-0/record.json").exists
