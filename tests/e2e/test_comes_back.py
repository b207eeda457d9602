"""A replica comes back without flagprov: after a crash of its container, and a reboot of its host."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .conftest import Lab

RELEASE = "qwen3-tiny-standin"


@pytest.fixture(scope="module")
def serving(lab: Lab) -> Iterator[Lab]:
    lab.teardown()
    lab.deploy(RELEASE)
    yield lab
    lab.teardown()


def ready(lab: Lab) -> bool:
    return lab.states(RELEASE) == dict.fromkeys(lab.hosts, "ready")


def test_after_its_container_was_killed(serving: Lab) -> None:
    serving.on("lab1", "docker kill -s KILL flagprov-qwen3-tiny-standin-0")
    serving.until(lambda: ready(serving), 60, "both serve")


def test_after_a_reboot(serving: Lab) -> None:
    serving.docker("restart", "-t", "5", serving.container("lab2"))
    serving.until(lambda: ready(serving), 90, "both serve")


def test_a_stopped_replica_stays_stopped_over_a_reboot_and_is_started_by_deploy(serving: Lab) -> None:
    stopped = serving.flagprov("stop", serving.inventory, RELEASE, "--limit", "lab1", "--yes")
    assert stopped.code == 0, stopped
    serving.docker("restart", "-t", "5", serving.container("lab1"))
    serving.until(lambda: serving.on("lab1", "true", check=False) == "", 60, "lab1 is up")
    serving.until(lambda: serving.states(RELEASE).get("lab1") in ("stopped", "ready"), 60, "lab1 answers")
    assert serving.states(RELEASE)["lab1"] == "stopped"
    serving.deploy(RELEASE)
    assert ready(serving)


def test_teardown_leaves_nothing(serving: Lab) -> None:
    serving.teardown()
    for host in serving.hosts:
        assert serving.on(host, "docker ps -aq --filter label=io.flagprov.replica") == ""
        assert serving.on(host, "ls -d /var/lib/flagprov 2>/dev/null", check=False) == ""
        assert serving.on(host, "systemctl list-units --all --plain --no-legend 'flagprov*'") == ""
        assert "whole" in serving.on(host, "test -f /srv/models/Qwen3-Tiny/config.json && echo whole")
    serving.deploy(RELEASE)
    assert ready(serving)
