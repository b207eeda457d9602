"""A host after role serve_config, with a setting of this deployment."""

from __future__ import annotations

from typing import Any

CONFIGS = "/var/lib/flagprov/replicas/fetched-0/configs"


def test_the_setting_is_in_the_configuration(host: Any) -> None:
    (config,) = host.file(CONFIGS).listdir()  # no link to it yet
    said = host.run(f"grep --recursive --no-filename max_model_len {CONFIGS}/{config}").stdout
    assert "256" in said
    assert "512" not in said
    assert host.file(f"{CONFIGS}/{config}/launcher.py").is_file
    assert host.file("/var/lib/flagprov/replicas/fetched-0/run").is_directory


def test_nothing_runs(host: Any) -> None:
    assert host.run("docker ps --all --quiet").stdout == ""
    assert not host.file("/var/lib/flagprov/replicas/fetched-0/record.json").exists
