"""A host after role serve_config, with a setting of this deployment."""

from __future__ import annotations

from typing import Any


def test_the_setting_is_in_the_configuration(host: Any) -> None:
    (config,) = host.file("/var/lib/flagprov/configs").listdir()
    said = host.run(f"grep --recursive --no-filename max_model_len /var/lib/flagprov/configs/{config}").stdout
    assert "256" in said
    assert "512" not in said
    assert host.file(f"/var/lib/flagprov/configs/{config}/launcher.py").is_file
    assert host.file("/var/lib/flagprov/replicas/fetched-0/run").is_directory


def test_nothing_runs(host: Any) -> None:
    assert host.run("docker ps --all --quiet").stdout == ""
    assert not host.file("/var/lib/flagprov/replicas/fetched-0/record.json").exists
