"""A host that had no container engine, after container_engine with its defaults."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("replica.sh")


def test_docker_is_new_enough_and_runs(host: Any) -> None:
    assert host.service("docker").is_running
    assert host.service("docker").is_enabled
    version = host.check_output("docker version --format '{{.Server.Version}}'")
    assert tuple(int(part) for part in version.split("+")[0].split(".")) >= (20, 10, 5)


def test_logs_are_rotated(host: Any) -> None:
    config = json.loads(host.file("/etc/docker/daemon.json").content_string)
    assert config == {"log-driver": "json-file", "log-opts": {"max-size": "100m", "max-file": "5"}}


def test_replicas_have_their_unit(host: Any) -> None:
    unit = "/etc/systemd/system/flagprov@.service"
    assert host.file(unit).mode == 0o644
    assert host.run(f"systemd-analyze verify --man=no {unit}").stderr == ""
    shown = host.check_output(
        "systemctl show flagprov@none.service -p LoadState -p Restart -p StartLimitBurst -p After -p Wants"
    )
    for expected in ("LoadState=loaded", "Restart=always", "StartLimitBurst=5", "docker.service"):
        assert expected in shown


def test_no_proxies(host: Any) -> None:
    assert not host.file("/etc/systemd/system/docker.service.d/flagprov-proxy.conf").exists


def test_a_replica_comes_back(host: Any) -> None:
    """The unit's life with a container of a shell: killed, client killed, docker restarted, stopped."""
    ran = host.run("sh -c %s", SCRIPT.read_text())
    assert ran.rc == 0, ran.stdout + ran.stderr + host.run("journalctl -u 'flagprov@*' -n 30").stdout
    assert ran.stdout.splitlines() == [
        "killed",
        "docker restarted",
        "docker stopped and started",
        "stopped",
        "not failed",
    ]
