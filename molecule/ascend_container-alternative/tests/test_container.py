"""An A3 host with a docker of its own, after ascend_container brought the vendor's runtime."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

CHIP = Path(__file__).parents[3] / "flagprov" / "chips" / "ascend-a3.yaml"
RUN = "docker run --rm --runtime ascend --env ASCEND_VISIBLE_DEVICES=6,7 tiny sh -c"


def test_daemon_json_keeps_what_was_there(host: Any) -> None:
    assert json.loads(host.file("/etc/docker/daemon.json").content_string) == {
        "log-opts": {"max-size": "10m"},
        "runtimes": {
            "other": {"path": "/usr/sbin/runc"},
            "ascend": {
                "path": "/usr/local/Ascend/Ascend-Docker-Runtime/ascend-docker-runtime",
                "runtimeArgs": [],
            },
        },
    }


def test_docker_took_it_up_without_a_restart(host: Any) -> None:
    info = json.loads(host.check_output("docker info --format '{{json .}}'"))
    assert "ascend" in info["Runtimes"]
    assert info["DefaultRuntime"] == "runc"
    assert host.check_output("docker ps --format '{{.Names}}'") == "foreign"
    assert host.run("test /etc/docker/daemon.json -nt /run/docker.pid").rc != 0


def test_a_container_gets_the_devices_that_it_asks_for(host: Any) -> None:
    said = host.check_output(f"{RUN} 'for each in /dev/davinci* /usr/local/dcmi; do echo $each; done'")
    assert said.split() == ["/dev/davinci6", "/dev/davinci7", "/dev/davinci_manager", "/usr/local/dcmi"]
    there = host.check_output(f"{RUN} 'cd /usr/local/Ascend/driver && echo *'")
    assert there.split() == ["include", "lib64"]
    other = host.run("docker run --rm tiny sh -c '[ ! -e /dev/davinci6 ]'")
    assert other.rc == 0, other.stderr


def test_a_container_without_privileges_can_open_its_devices(host: Any) -> None:
    """The nodes are not root's."""
    capabilities = yaml.safe_load(CHIP.read_text())["least"]["cap_add"]
    granted = " ".join(f"--cap-add {name}" for name in capabilities)
    rights = f"--cap-drop ALL {granted} --security-opt no-new-privileges"
    run = f"docker run --rm %s {rights} tiny sh -c ': </dev/davinci6'"
    by_mounts = host.run(run % "--device /dev/davinci6")
    assert by_mounts.rc == 0, by_mounts.stderr
    by_runtime = host.run(run % "--runtime ascend --env ASCEND_VISIBLE_DEVICES=6")
    assert by_runtime.rc == 0, by_runtime.stderr
    assert host.run((run % "--device /dev/davinci6").replace("DAC_OVERRIDE", "SYS_NICE")).rc != 0


def test_the_runtime_is_the_one_that_was_asked_for(host: Any) -> None:
    noted = host.file("/usr/local/Ascend/Ascend-Docker-Runtime/ascend_docker_runtime_install.info")
    assert "version=v7.1.RC1" in noted.content_string.splitlines()
