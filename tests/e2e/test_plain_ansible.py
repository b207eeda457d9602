"""Plain Ansible and flagprov end in the same place, and neither finds anything to do after the other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import ROOT, Lab, Result

pytestmark = pytest.mark.lab
RELEASE = "qwen3-tiny-standin"
FILES = (
    "/var/lib/flagprov/replicas/*/record.json /var/lib/flagprov/replicas/*/wait /var/lib/flagprov/provisioned"
)


def playbook(lab: Lab, name: str, *more: str) -> Result:
    """`ansible-playbook` as a user of a checkout calls it."""
    argv = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(lab.inventory)]
    argv += [f"playbooks/{name}.yml", *more]
    environment = os.environ | {
        "ANSIBLE_NOCOLOR": "true",
        "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
    }
    done = subprocess.run(
        argv, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600
    )
    return Result(done.returncode, done.stdout, done.stderr)


def changes(result: Result) -> dict[str, int]:
    """Host -> how many tasks changed something, from the recap."""
    assert result.code == 0, result
    recap = result.out.rpartition("PLAY RECAP")[2].splitlines()[1:]
    lines = [line.split() for line in recap if "changed=" in line]
    return {
        words[0]: int(word.removeprefix("changed="))
        for words in lines
        for word in words
        if word.startswith("changed=")
    }


def left_behind(lab: Lab, host: str) -> dict[str, Any]:
    """All that a deployment leaves on a host and that does not differ from run to run."""
    container = json.loads(lab.on(host, "docker inspect $(docker ps -q --filter label=io.flagprov.replica)"))[
        0
    ]
    history = json.loads(
        lab.on(host, "cat $(ls /var/lib/flagprov/replicas/*/deployments/*.json | sort -V | tail -1)")
    )
    return {
        "image": container["Image"],
        "labels": container["Config"]["Labels"],
        "environment": sorted(container["Config"]["Env"]),
        "options": {k: v for k, v in container["HostConfig"].items() if k != "LogConfig"},
        "command": container["Config"]["Cmd"],
        "name": container["Name"],
        "files": lab.on(host, f"sha256sum {FILES}"),
        "configs": lab.on(host, "ls /var/lib/flagprov/configs"),
        "programs": lab.on(host, "ls /var/lib/flagprov/programs"),
        "unit": lab.on(host, "systemctl show -p ActiveState,UnitFileState 'flagprov@*.service'"),
        "history": {key: history[key] for key in ("release", "set", "result", "resources")},
    }


@pytest.fixture(scope="module")
def deployed(lab: Lab) -> Iterator[dict[str, dict[str, Any]]]:
    """Deployed by plain Ansible; what it left on each host."""
    lab.teardown()
    done = playbook(lab, "deploy", "-e", f"release={RELEASE}")
    assert min(changes(done).values()) > 0, done
    yield {host: left_behind(lab, host) for host in lab.hosts}
    lab.teardown()


def test_flagprov_finds_nothing_to_do_after_plain_ansible(lab: Lab, deployed: Any) -> None:
    assert lab.flagprov("plan", lab.inventory, RELEASE).code == 0
    again = lab.deploy(RELEASE)
    assert {host["state"] for host in again["hosts"]} == {"unchanged"}
    assert set(lab.states(RELEASE).values()) == {"ready"}


def test_a_check_of_what_is_deployed_shows_no_change(lab: Lab, deployed: Any) -> None:
    checked = playbook(lab, "deploy", "-e", f"release={RELEASE}", "--check", "--diff")
    assert changes(checked) == dict.fromkeys(lab.hosts, 0)


def test_verify_says_that_it_answers(lab: Lab, deployed: Any) -> None:
    verified = playbook(lab, "verify", "-e", f"release={RELEASE}")
    assert changes(verified) == dict.fromkeys(lab.hosts, 0)
    assert f"{RELEASE}-0 on port 9010: " in verified.out


def test_a_difference_is_shown_then_mended(lab: Lab, deployed: Any) -> None:
    lab.on("lab2", f"systemctl stop flagprov@{RELEASE}-1")
    refused = playbook(lab, "verify", "-e", f"release={RELEASE}")
    assert refused.code != 0
    assert "it is inactive" in refused.out
    checked = playbook(lab, "deploy", "-e", f"release={RELEASE}", "--check", "--diff")
    assert "start flagprov@qwen3-tiny-standin-1.service: it is inactive" in checked.out
    assert changes(checked) == {"lab1": 0, "lab2": 1}
    assert changes(playbook(lab, "deploy", "-e", f"release={RELEASE}")) == {"lab1": 0, "lab2": 1}
    assert lab.flagprov("plan", lab.inventory, RELEASE).code == 0


def test_it_ends_where_flagprov_ends_and_finds_nothing_to_do_after_it(lab: Lab, deployed: Any) -> None:
    lab.teardown()
    lab.deploy(RELEASE)
    assert {host: left_behind(lab, host) for host in lab.hosts} == deployed
    after = playbook(lab, "deploy", "-e", f"release={RELEASE}")
    assert changes(after) == dict.fromkeys(lab.hosts, 0)


def test_teardown_leaves_nothing(lab: Lab, deployed: Any) -> None:
    lab.deploy(RELEASE)
    gone = playbook(lab, "teardown")
    assert min(changes(gone).values()) > 0
    for host in lab.hosts:
        assert lab.on(host, "docker ps -aq --filter label=io.flagprov.replica") == ""
        assert (
            lab.on(host, "ls -d /var/lib/flagprov /etc/systemd/system/flagprov@.service", check=False) == ""
        )
    assert changes(playbook(lab, "teardown")) == dict.fromkeys(lab.hosts, 0)
    assert lab.flagprov("status", lab.inventory, "--output", "json").json["replicas"] == []


def test_what_cannot_be_is_said_with_the_way_out(lab: Lab) -> None:
    unknown = playbook(lab, "verify", "-e", "release=qwen3-tinny")
    assert unknown.code != 0
    assert "qwen3-tinny" in unknown.out + unknown.err
    assert "remedy: " in unknown.out + unknown.err
    unnamed = playbook(lab, "verify")
    assert "no release is named" in unnamed.out + unnamed.err
