"""A host with driver and docker after nvidia_container_toolkit, and after its driver was changed."""

from __future__ import annotations

import json
from typing import Any


def test_docker_knows_the_runtime_and_keeps_its_settings(host: Any) -> None:
    config = json.loads(host.file("/etc/docker/daemon.json").content_string)
    assert config["runtimes"]["nvidia"]["path"] == "nvidia-container-runtime"
    assert config["log-opts"]["max-size"] == "100m"
    assert "default-runtime" not in config
    assert "nvidia" in json.loads(host.check_output("docker info --format '{{json .Runtimes}}'"))


def test_containers_get_gpus(host: Any) -> None:
    assert host.run("docker run --rm --gpus all tiny sh -c 'exit 0'").rc == 0


def test_the_specification_is_of_the_driver_that_is_loaded(host: Any) -> None:
    text = host.file("/etc/cdi/nvidia.yaml").content_string
    assert "/lib/firmware/nvidia/535.183.06/" in text
    assert "580" not in text


def test_the_version_is_exact_and_held(host: Any) -> None:
    assert host.package("nvidia-container-toolkit").version == "1.18.1-1"
    assert "nvidia-container-toolkit" in host.check_output("apt-mark showhold").split()
