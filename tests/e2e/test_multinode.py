"""One real vLLM over two lab hosts: it answers, a lost rank brings the whole down and back, nothing stays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import Lab

pytestmark = [pytest.mark.lab, pytest.mark.vllm]
RELEASE, REPLICA = "qwen3-tiny", "qwen3-tiny-0"
TWO = ("--set", "nodes=2", "--set", "deadline_s=480")


@pytest.fixture(scope="module")
def deployed(lab: Lab) -> Iterator[Any]:
    lab.teardown()
    yield lab.deploy(RELEASE, *TWO)
    lab.teardown()


def status(lab: Lab) -> Any:
    (replica,) = lab.flagprov("status", lab.inventory, "--output", "json").json["replicas"]
    return replica


def test_one_replica_over_both_hosts_answers(lab: Lab, deployed: Any) -> None:
    (replica,) = deployed["replicas"]
    assert (replica["name"], replica["hosts"], replica["state"]) == (REPLICA, list(lab.hosts), "ready")
    assert [rank["state"] for rank in replica["ranks"]] == ["ready", "ready"]
    (proof,) = deployed["completions"]
    assert (proof["host"], proof["model"]) == ("lab1", RELEASE)


def test_the_ranks_are_two_halves_of_one_engine(lab: Lab, deployed: Any) -> None:
    head, worker = (lab.on(host, f"docker top flagprov-{REPLICA} -eo pid,args") for host in lab.hosts)
    for processes in (head, worker):
        assert "--tensor-parallel-size 2" in processes
        assert "--nnodes 2" in processes
    assert "--headless" in worker
    assert "--headless" not in head
    assert lab.on("lab2", "ss -tlnH sport = :9010") == ""


def test_a_second_deploy_changes_nothing(lab: Lab, deployed: Any) -> None:
    again = lab.deploy(RELEASE, *TWO)
    assert {host["state"] for host in again["hosts"]} == {"unchanged"}


def test_a_killed_rank_brings_the_replica_down_and_back_as_a_whole(lab: Lab, deployed: Any) -> None:
    started = f"grep -o '.started_at.: [0-9.]*' /var/lib/flagprov/replicas/{REPLICA}/run/state.json"
    kept = f"docker inspect -f '{{{{.State.StartedAt}}}}' flagprov-{REPLICA}"
    container = lab.on("lab1", kept)
    before = {host: lab.on(host, started) for host in lab.hosts}
    lab.on("lab2", f"docker kill -s KILL flagprov-{REPLICA}")
    lab.until(lambda: status(lab)["state"] != "ready", 30, "it is seen as not ready")
    lab.until(lambda: status(lab)["state"] == "ready", 480, "it serves again")
    assert all(lab.on(host, started) != before[host] for host in lab.hosts)
    # Only the rank that died counts towards its unit's limit of failed starts.
    assert lab.on("lab1", kept) == container
    assert [rank["state"] for rank in status(lab)["ranks"]] == ["ready", "ready"]


def test_teardown_leaves_nothing(lab: Lab, deployed: Any) -> None:
    lab.teardown()
    for host in lab.hosts:
        assert lab.on(host, "docker ps -aq --filter label=io.flagprov.replica") == ""
        assert lab.on(host, "ls -d /var/lib/flagprov 2>/dev/null", check=False) == ""
        assert lab.on(host, "systemctl list-units --all --plain --no-legend 'flagprov*'") == ""
        assert lab.on(host, "ss -tlnH '( sport = :9010 or sport = :10010 or sport = :10011 )'") == ""
        assert lab.on(host, "pgrep -f '[v]llm serve'", check=False) == ""
