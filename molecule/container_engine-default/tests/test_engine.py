"""A host that had no container engine, after container_engine with its defaults."""

from __future__ import annotations

import json
from typing import Any


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
    script = r"""
        set -eu
        tar -C / -ch bin/sh bin/sleep lib64 lib/x86_64-linux-gnu/libc.so.6 | docker import - tiny >/dev/null
        docker create --name flagprov-t-0 --init tiny sh -c 'trap "exit 0" TERM; while :; do sleep 1; done' >/dev/null
        mkdir -p /var/lib/flagprov/replicas/t-0
        echo 'exit 0' >/var/lib/flagprov/replicas/t-0/wait
        unit=flagprov@t-0.service
        up() { timeout 30 sh -c 'until [ "$(docker inspect -f {{.State.Running}} flagprov-t-0)" = true ]; do sleep 0.2; done'; }
        started() { docker inspect -f '{{.State.StartedAt}}' flagprov-t-0; }
        again() { timeout 30 sh -c 'until now=$(docker inspect -f {{.State.StartedAt}} flagprov-t-0 2>/dev/null) &&
            [ "$now" != "$0" ]; do sleep 0.2; done' "$1"; }
        systemctl start $unit; up
        before=$(started); docker kill flagprov-t-0 >/dev/null; again "$before"; up; echo killed
        before=$(started); systemctl restart docker; again "$before"; up; echo docker restarted
        systemctl stop $unit; [ "$(docker inspect -f '{{.State.Running}}' flagprov-t-0)" = false ]; echo stopped
        systemctl is-failed $unit && exit 1
        docker rm flagprov-t-0 >/dev/null; docker rmi tiny >/dev/null; rm -r /var/lib/flagprov/replicas/t-0
    """
    ran = host.run("bash -c %s", script)
    assert ran.rc == 0, ran.stdout + ran.stderr + host.run("journalctl -u 'flagprov@*' -n 30").stdout
    assert ran.stdout.split("\n")[:3] == ["killed", "docker restarted", "stopped"]
