"""A host of the RHEL family that had no docker and no repository with it, after container_engine."""

from __future__ import annotations

from typing import Any


def test_docker_runs(host: Any) -> None:
    assert host.package("docker-ce").is_installed
    assert host.service("docker").is_running
    assert host.service("docker").is_enabled


def test_its_repository_is_named(host: Any) -> None:
    text = host.file("/etc/yum.repos.d/flagprov-container-engine.repo").content_string
    assert "baseurl=file:///srv/docker" in text
