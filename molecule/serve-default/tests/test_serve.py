"""A host after playbooks/deploy.yml."""

from __future__ import annotations

import json
from typing import Any

REPLICA = "qwen3-tiny-standin-0"
ASK = """
import sys, urllib.request as http
kind = {"Content-Type": "application/json"}
request = http.Request("http://127.0.0.1:9010/v1/chat/completions", sys.argv[1].encode(), kind)
print(http.urlopen(request, timeout=30).read().decode())
"""


def test_it_answers(host: Any) -> None:
    question = json.dumps({"model": "qwen3-tiny", "messages": [{"role": "user", "content": "hello"}]})
    answer = host.run("python3 -c %s %s", ASK, question)
    assert answer.rc == 0, answer.stderr
    assert json.loads(answer.stdout)["choices"]


def test_the_unit_brings_it_back_after_a_reboot(host: Any) -> None:
    unit = host.service(f"flagprov@{REPLICA}")
    assert unit.is_running
    assert unit.is_enabled


def test_what_was_deployed_is_on_record(host: Any) -> None:
    folder = f"/var/lib/flagprov/replicas/{REPLICA}"
    record = json.loads(host.file(f"{folder}/record.json").content_string)
    assert record["replica"]["release"] == "qwen3-tiny-standin"
    assert host.file(record["config"]).is_directory
    deployment = json.loads(host.file(f"{folder}/deployments/1.json").content_string)
    assert deployment["result"] == "done"
    assert deployment["command"] == "deploy qwen3-tiny-standin"


def test_the_roles_before_have_done_their_part(host: Any) -> None:
    assert len(host.file("/var/lib/flagprov/images").listdir()) == 1
    assert len(host.file(f"/var/lib/flagprov/replicas/{REPLICA}/configs").listdir()) == 2  # and the link
    assert host.run("cd /srv/models/Qwen3-Tiny && sha256sum --check --quiet /srv/web/SHA256SUMS").rc == 0


def test_no_secret_of_the_run_is_in_the_hosts_log(host: Any) -> None:
    logged = host.run("journalctl --no-pager --identifier ansible-flagprov.flagprov.converge")
    assert "VLLM_CPU_KVCACHE_SPACE" not in logged.stdout
