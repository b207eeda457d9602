"""A configuration change over replicas that serve: gated, put back when it fails, reversible."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import ROOT, Lab

pytestmark = pytest.mark.lab
RELEASE = "qwen3-tiny-standin"
ROLLOUT = ("--batch", "1", "--max-unavailable", "1", "--soak", "1", "--yes", "--output", "json")


@pytest.fixture(scope="module")
def serving(lab: Lab) -> Iterator[Lab]:
    lab.teardown()
    lab.deploy(RELEASE)
    yield lab
    lab.teardown()


def rollout(lab: Lab, *more: str, expect: int = 0) -> Any:
    result = lab.flagprov("rollout", lab.inventory, RELEASE, *ROLLOUT, *more)
    assert result.code == expect, result
    return result.json


def setting(lab: Lab, host: str) -> str:
    """max_num_seqs of the configuration that the container on a host was made with."""
    name = lab.on(host, "docker ps --filter label=io.flagprov.replica --format '{{.Names}}'").strip()
    config = lab.on(
        host, f"""docker inspect -f '{{{{index .Config.Labels "io.flagprov.config"}}}}' {name}"""
    ).strip()
    found = lab.on(host, f"grep -h max_num_seqs /var/lib/flagprov/configs/{config}/conf/serve/*.yaml")
    return found.split(":")[1].strip()


def test_a_change_goes_batch_after_batch_and_back(serving: Lab) -> None:
    plan = serving.flagprov(
        "plan", serving.inventory, RELEASE, "--set", "serve.max_num_seqs=3", "--output", "json"
    )
    assert plan.code == 3, plan
    assert len(plan.json["batches"]) == 2
    rollout(serving, "--set", "serve.max_num_seqs=3")
    assert [setting(serving, host) for host in serving.hosts] == ["3", "3"]
    assert serving.flagprov("diff", serving.inventory).code == 0
    back = serving.flagprov("rollback", serving.inventory, RELEASE, *ROLLOUT)
    assert back.code == 0, back
    assert [setting(serving, host) for host in serving.hosts] == ["4", "4"]
    history = serving.flagprov("history", serving.inventory, "--output", "json").json["deployments"]
    commands = [entry["command"] for entry in history if entry["host"] == "lab1"]
    assert commands[-2:] == [f"rollout {RELEASE} --set serve.max_num_seqs=3", f"rollback {RELEASE}"]


def test_a_run_that_was_killed_is_taken_up_and_gated(serving: Lab) -> None:
    def results(host: str) -> list[str]:
        history = serving.flagprov("history", serving.inventory, "--output", "json").json["deployments"]
        return [entry["result"] for entry in history if entry["host"] == host]

    words = (*ROLLOUT, "--soak", "20", "--set", "serve.max_num_seqs=5")
    argv = [sys.executable, "-m", "flagprov", "rollout", str(serving.inventory), RELEASE, *words]
    quiet: Any = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(argv, cwd=ROOT, **quiet) as controller:
        serving.until(lambda: results("lab1")[-1] == "pending", 120, "lab1 is being changed")
        controller.kill()
    result = serving.flagprov("rollout", serving.inventory, "--resume", "--yes", "--output", "json")
    assert result.code == 0, result
    assert [setting(serving, host) for host in serving.hosts] == ["5", "5"]
    assert [results(host)[-1] for host in serving.hosts] == ["done", "done"]
    assert serving.flagprov("diff", serving.inventory).code == 0
    assert serving.flagprov("rollout", serving.inventory, "--resume", "--yes").code == 2
    assert serving.flagprov("rollback", serving.inventory, RELEASE, *ROLLOUT).code == 0
    assert [setting(serving, host) for host in serving.hosts] == ["4", "4"]


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        ("env.STANDIN_FAIL_AT_START=on order", "on order"),
        ('env.STANDIN_ORDERS={"hang": true}', "did not answer"),
        ('env.STANDIN_ORDERS={"nonsense": true}', "golden answers differ"),
    ],
    ids=["dies at start", "hangs while /health says 200", "answers nonsense"],
)
def test_a_failed_canary_is_put_back_and_the_rest_is_not_touched(
    serving: Lab, order: str, reason: str
) -> None:
    containers = "docker ps -q --filter label=io.flagprov.replica"
    before = serving.on("lab2", containers)
    found = rollout(serving, "--set", order, "--set", "deadline_s=25", expect=1)
    hosts = {entry["host"]: entry for entry in found["hosts"]}
    assert hosts["lab1"]["state"] == "failed"
    assert reason in hosts["lab1"]["message"], found
    assert "put back" in hosts["lab1"]["message"], found
    assert hosts["lab2"]["state"] == "unchanged"
    assert serving.on("lab2", containers) == before
    serving.until(lambda: serving.states(RELEASE) == dict.fromkeys(serving.hosts, "ready"), 60, "both serve")
    assert [setting(serving, host) for host in serving.hosts] == ["4", "4"]


def test_two_controllers_at_once(serving: Lab) -> None:
    """A lease that another run holds keeps this one away, and says who has it."""
    held = (
        '{"op":"lease","do":"take","lease":{"token":"t","holder":"ann@desk","command":"rollout x",'
        '"since":"2026-01-01 00:00:00 UTC","ttl_s":300}}'
    )
    program = serving.on("lab2", "ls -td /var/lib/flagprov/programs/*/ | head -1").strip()
    run = f'import sys; sys.path.insert(0, \\"{program}\\"); from flagprov.host.main import main; main()'
    serving.on("lab2", f"echo '{held}' | python3 -I -S -c \"{run}\"")
    result = serving.flagprov(
        "rollout", serving.inventory, RELEASE, *ROLLOUT, "--set", "serve.max_num_seqs=2"
    )
    assert result.code == 1, result
    assert "ann@desk" in result.err
    shown = serving.flagprov("lock", "show", serving.inventory, "--output", "json").json
    assert [lease["host"] for lease in shown["leases"]] == ["lab2"]
    assert serving.flagprov("lock", "break", serving.inventory, "--yes").code == 0
    assert serving.flagprov("lock", "show", serving.inventory, "--output", "json").json["leases"] == []
