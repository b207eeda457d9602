"""A host with a docker and settings of its own, after container_engine with nearly every variable changed."""

from __future__ import annotations

import json
from typing import Any

SECRET = "s%3Cret"


def test_daemon_json_keeps_what_was_there(host: Any) -> None:
    assert json.loads(host.file("/etc/docker/daemon.json").content_string) == {
        "runtimes": {"other": {"path": "/usr/sbin/runc"}},
        "log-driver": "json-file",
        "log-opts": {"max-size": "10m", "max-file": "3"},
        "insecure-registries": ["old.example:5000", "registry.example:5000"],
        "registry-mirrors": ["https://mirror.example"],
        "data-root": "/srv/docker",
        "max-concurrent-downloads": 2,
    }


def test_docker_has_read_it(host: Any) -> None:
    info = json.loads(host.check_output("docker info --format '{{json .}}'"))
    assert info["DockerRootDir"] == "/srv/docker"
    assert "other" in info["Runtimes"]
    assert info["RegistryConfig"]["Mirrors"] == ["https://mirror.example/"]
    assert info["HttpProxy"].endswith("proxy.example:3128")
    assert info["NoProxy"] == "localhost,.example"


def test_credentials_of_the_proxy_stay_private(host: Any) -> None:
    file = host.file("/etc/docker/flagprov-proxy.env")
    assert (file.user, file.mode) == ("root", 0o600)
    assert SECRET in file.content_string
    assert SECRET not in host.check_output("systemctl show docker.service; systemctl cat docker.service")
    assert SECRET not in host.file("/etc/docker/daemon.json").content_string


def test_the_registry_is_trusted(host: Any) -> None:
    authority = host.file("/etc/docker/certs.d/registry.example:443/flagprov.crt")
    assert authority.content_string.startswith("-----BEGIN CERTIFICATE-----")
    assert authority.mode == 0o644
    assert not host.file("/etc/docker/certs.d/gone.example/flagprov.crt").exists
    assert host.file("/etc/docker/certs.d/gone.example/ca.crt").exists  # which was the host's own
