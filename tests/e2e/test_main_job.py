"""The main job with the real vLLM, started by the real FlagScale, on two lab hosts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import Lab

pytestmark = pytest.mark.vllm
RELEASE = "qwen3-tiny"


@pytest.fixture(scope="module")
def deployed(lab: Lab) -> Iterator[Any]:
    lab.teardown()
    yield lab.deploy(RELEASE)
    lab.teardown()


def test_every_host_answers_with_a_completion(lab: Lab, deployed: Any) -> None:
    assert {host["host"]: host["state"] for host in deployed["hosts"]} == dict.fromkeys(lab.hosts, "changed")
    assert {replica["state"] for replica in deployed["replicas"]} == {"ready"}
    assert {proof["host"] for proof in deployed["completions"]} == set(lab.hosts)
    for proof in deployed["completions"]:
        assert proof["model"] == RELEASE
        assert proof["endpoint"].endswith(":9010")


def test_it_is_vllm_started_by_flagscale_in_a_container(lab: Lab, deployed: Any) -> None:
    container = "flagprov-qwen3-tiny-0"
    processes = lab.on("lab1", f"docker top {container} -eo pid,args")
    assert "flagscale/serve/run_inference_engine.py" in processes
    assert "vllm serve /models/Qwen3-Tiny" in processes
    log = lab.on("lab1", f"docker logs {container} 2>&1")
    assert "FlagScale" in log
    assert "Application startup complete" in log
    version = lab.on(
        "lab1",
        "python3 -c \"import urllib.request as u;print(u.urlopen('http://127.0.0.1:9010/version').read().decode())\"",
    )
    assert "0.32.0" in version


def test_a_second_deploy_changes_nothing(lab: Lab, deployed: Any) -> None:
    again = lab.deploy(RELEASE)
    assert {host["state"] for host in again["hosts"]} == {"unchanged"}
    assert lab.flagprov("plan", lab.inventory, RELEASE).code == 0


def test_status_says_what_serves(lab: Lab, deployed: Any) -> None:
    status = lab.flagprov("status", lab.inventory, "--output", "json")
    assert status.code == 0, status
    for replica in status.json["replicas"]:
        assert replica["state"] == "ready"
        assert replica["model"] == RELEASE
        assert replica["engine_version"].startswith("0.32.0")
        assert [rank["state"] for rank in replica["ranks"]] == ["ready"]


def test_a_file_changed_by_hand_is_found(lab: Lab, deployed: Any) -> None:
    path = lab.on("lab2", "ls -d /var/lib/flagprov/replicas/*/configs/current/conf/serve.yaml").strip()
    kept = lab.on("lab2", f"cat {path}")
    lab.on("lab2", f"echo '# mine' >> {path}")
    plan = lab.flagprov("plan", lab.inventory, RELEASE)
    assert plan.code == 3, plan
    assert "changed by hand" in plan.out
    lab.on("lab2", f"cat > {path} <<'END'\n{kept}END")
    assert lab.flagprov("plan", lab.inventory, RELEASE).code == 0


def test_a_killed_engine_comes_back_by_itself(lab: Lab, deployed: Any) -> None:
    lab.on("lab1", "pkill -9 -f 'VLLM::EngineCore|vllm serve'")
    lab.until(lambda: lab.states(RELEASE)["lab1"] != "ready", 30, "lab1 is seen as not ready")
    lab.until(lambda: lab.states(RELEASE)["lab1"] == "ready", 180, "lab1 serves again")


def test_logs_shows_what_the_engine_said(lab: Lab, deployed: Any) -> None:
    result = lab.flagprov("logs", "-n", "5000", lab.inventory, "lab2")
    assert result.code == 0, result
    assert "Application startup complete" in result.out
