"""An A2 host with its driver, after ascend_container with its defaults, which only looks."""

from __future__ import annotations

from typing import Any


def test_what_the_cards_mount_is_there(host: Any) -> None:
    for path in ("/usr/local/Ascend/driver", "/usr/local/dcmi"):
        assert host.file(path).is_directory
    for path in ("/usr/local/bin/npu-smi", "/etc/ascend_install.info"):
        assert host.file(path).is_file


def test_docker_was_left_alone(host: Any) -> None:
    assert not host.file("/etc/docker/daemon.json").exists
    assert not host.file("/usr/local/Ascend/Ascend-Docker-Runtime").exists
