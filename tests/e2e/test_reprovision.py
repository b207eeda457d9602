"""Roles that disturb: refused under what serves, or drained and done one host after the other."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import INVENTORY, Lab

RELEASE = "qwen3-tiny-standin"
KEY = "max-concurrent-downloads"


@pytest.fixture
def changed(lab: Lab) -> Iterator[Path]:
    """The lab's inventory, asking for another daemon.json."""
    inventory = INVENTORY.with_name("lab-changed.ini")
    text = INVENTORY.read_text()
    line = f"container_engine_daemon={json.dumps({KEY: 5})}"
    inventory.write_text(text.replace(":vars]\n", f":vars]\n{line}\n", 1))
    lab.teardown()
    lab.deploy(RELEASE)
    yield inventory
    inventory.unlink()
    lab.teardown()
    for host in lab.hosts:  # the roles leave keys alone that they do not know
        lab.on(host, f"python3 -c {shlex.quote(FORGET)}")


FORGET = f"""
import json
path = "/etc/docker/daemon.json"
config = json.load(open(path))
config.pop("{KEY}", None)
open(path, "w").write(json.dumps(config, indent=2) + "\\n")
"""


def started(lab: Lab, host: str) -> str:
    return lab.on(host, "systemctl show --property ExecMainStartTimestampMonotonic docker").strip()


def test_drained_and_provisioned_one_after_the_other(lab: Lab, changed: Path) -> None:
    before = {host: started(lab, host) for host in lab.hosts}
    deploy = ("deploy", changed, RELEASE, "--yes", "--output", "json")

    refused = lab.flagprov(*deploy)
    assert refused.code == 1, refused
    for host in refused.json["hosts"]:
        assert (host["state"], host["changes"]) == ("failed", 0)
        assert "must be restarted" in host["message"]
        assert "--allow-disruption" in host["remedy"]
    assert {host: started(lab, host) for host in lab.hosts} == before
    assert [replica["state"] for replica in refused.json["replicas"]] == ["ready", "ready"]
    assert lab.states(RELEASE) == dict.fromkeys(lab.hosts, "ready")

    done = lab.flagprov(*deploy, "--allow-disruption")
    assert done.code == 0, done
    assert [host["state"] for host in done.json["hosts"]] == ["changed", "changed"]
    assert lab.states(RELEASE) == dict.fromkeys(lab.hosts, "ready")
    for host in lab.hosts:
        assert KEY in lab.on(host, "cat /etc/docker/daemon.json")
        assert started(lab, host) != before[host]
    events = [
        json.loads(line)
        for line in (Path(done.json["run_directory"]) / "events.jsonl").read_text().splitlines()
    ]
    ready = next(
        n for n, e in enumerate(events)
        if e["host"] == "lab1" and e["stage"] == "verify" and e["kind"] == "done"
    )  # fmt: skip
    away = next(n for n, e in enumerate(events) if e["host"] == "lab2" and "is drained" in e["text"])
    assert ready < away, "lab2 was drained before lab1 served again"
    assert lab.flagprov("plan", changed, RELEASE).code == 0
