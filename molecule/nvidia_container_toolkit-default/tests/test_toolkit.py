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


def test_so_is_the_one_that_counts_more(host: Any) -> None:
    assert "/lib/firmware/nvidia/535.183.06/" in host.file("/run/cdi/nvidia.yaml").content_string


def test_what_was_stopped_for_the_driver_runs_again(host: Any) -> None:
    for name in ("nvidia-dcgm", "nvidia-persistenced", "nvidia-fabricmanager"):
        assert host.service(name).is_running, name


def test_the_version_is_exact_and_held(host: Any) -> None:
    assert host.package("nvidia-container-toolkit").version == "1.18.1-1"
    assert "nvidia-container-toolkit" in host.check_output("apt-mark showhold").split()
