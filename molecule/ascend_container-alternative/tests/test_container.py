"""An A3 host with a docker of its own, after ascend_container brought the vendor's runtime."""

from __future__ import annotations

import json
from typing import Any

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
    other = host.run("docker run --rm tiny sh -c '[ ! -e /dev/davinci6 ]'")
    assert other.rc == 0, other.stderr
