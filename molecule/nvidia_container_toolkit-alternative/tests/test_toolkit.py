"""A host with dnf, a docker and an older toolkit of the site's, after nvidia_container_toolkit."""

from __future__ import annotations

import json
from typing import Any


def test_docker_has_the_runtime_by_default_and_keeps_the_sites_settings(host: Any) -> None:
    config = json.loads(host.file("/etc/docker/daemon.json").content_string)
    assert config["default-runtime"] == "nvidia"
    assert config["features"] == {"cdi": True}
    assert set(config["runtimes"]) == {"other", "nvidia"}
    assert config["log-opts"] == {"max-size": "10m"}
    info = json.loads(host.check_output("docker info --format '{{json .}}'"))
    assert info["DefaultRuntime"] == "nvidia"


def test_containers_run_with_it(host: Any) -> None:
    assert host.run("docker run --rm tiny sh -c 'exit 0'").rc == 0
    assert host.run("docker run --rm --gpus all tiny sh -c 'exit 0'").rc == 0


def test_the_specification_is_where_the_site_wants_it(host: Any) -> None:
    assert "/lib/firmware/nvidia/580.126.20/" in host.file("/etc/cdi/gpus.yaml").content_string
    assert not host.file("/etc/cdi/nvidia.yaml").exists


def test_the_version_is_exact_and_kept(host: Any) -> None:
    for name in ("nvidia-container-toolkit", "nvidia-container-toolkit-base", "libnvidia-container1"):
        assert host.package(name).version == "1.18.1", name
    assert "libnvidia-container1" in host.file("/etc/dnf/dnf.conf").content_string


def test_a_machine_without_nvswitches_has_no_fabric_manager(host: Any) -> None:
    assert not host.exists("nv-fabricmanager")
    assert "<state>N/A</state>" in host.check_output("nvidia-smi -q -x")
