"""Plain Ansible and flagprov end in the same place, and neither finds anything to do after the other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import ROOT, Lab
from .playbooks import changes, playbook

RELEASE = "qwen3-tiny-standin"
FILES = (
    "/var/lib/flagprov/replicas/*/record.json /var/lib/flagprov/replicas/*/wait /var/lib/flagprov/provisioned"
)


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
        "configs": lab.on(host, "ls /var/lib/flagprov/replicas/*/configs"),
        "programs": lab.on(host, "ls /var/lib/flagprov/programs"),
        "unit": lab.on(host, "systemctl show -p ActiveState,UnitFileState 'flagprov@*.service'"),
        "history": {key: history[key] for key in ("release", "set", "result", "resources")},
    }


@pytest.fixture(scope="module")
def deployed(lab: Lab) -> Iterator[dict[str, dict[str, Any]]]:
    """Deployed by plain Ansible; what it left on each host."""
    lab.teardown()
    done = playbook(lab.inventory, "deploy", "-e", f"release={RELEASE}")
    assert min(changes(done).values()) > 0, done
    yield {host: left_behind(lab, host) for host in lab.hosts}
    lab.teardown()


def test_flagprov_finds_nothing_to_do_after_plain_ansible(lab: Lab, deployed: Any) -> None:
    assert lab.flagprov("plan", lab.inventory, RELEASE).code == 0
    again = lab.deploy(RELEASE)
    assert {host["state"] for host in again["hosts"]} == {"unchanged"}
    assert set(lab.states(RELEASE).values()) == {"ready"}


def test_a_check_of_what_is_deployed_shows_no_change(lab: Lab, deployed: Any) -> None:
    checked = playbook(lab.inventory, "deploy", "-e", f"release={RELEASE}", "--check", "--diff")
    assert changes(checked) == dict.fromkeys(lab.hosts, 0)


def test_verify_says_that_it_answers(lab: Lab, deployed: Any) -> None:
    verified = playbook(lab.inventory, "verify", "-e", f"release={RELEASE}")
    assert changes(verified) == dict.fromkeys(lab.hosts, 0)
    assert f"{RELEASE}-0 on port 9010: " in verified.out


def test_a_difference_is_shown_then_mended(lab: Lab, deployed: Any) -> None:
    lab.on("lab2", f"systemctl stop flagprov@{RELEASE}-1")
    refused = playbook(lab.inventory, "verify", "-e", f"release={RELEASE}")
    assert refused.code != 0
    assert "it is inactive" in refused.out
    checked = playbook(lab.inventory, "deploy", "-e", f"release={RELEASE}", "--check", "--diff")
    assert "start flagprov@qwen3-tiny-standin-1.service: it is inactive" in checked.out
    assert changes(checked) == {"lab1": 0, "lab2": 1}
    assert changes(playbook(lab.inventory, "deploy", "-e", f"release={RELEASE}")) == {"lab1": 0, "lab2": 1}
    assert lab.flagprov("plan", lab.inventory, RELEASE).code == 0


def test_it_ends_where_flagprov_ends_and_finds_nothing_to_do_after_it(lab: Lab, deployed: Any) -> None:
    lab.teardown()
    lab.deploy(RELEASE)
    assert {host: left_behind(lab, host) for host in lab.hosts} == deployed
    after = playbook(lab.inventory, "deploy", "-e", f"release={RELEASE}")
    assert changes(after) == dict.fromkeys(lab.hosts, 0)


WEB = """set -e
mkdir /srv/web && cp -a /srv/models/Qwen3-Tiny/. /srv/web && cd /srv/web
rm -f .flagprov-manifest.json && sha256sum * > SHA256SUMS
systemd-run --quiet --unit web --working-directory /srv/web python3 -m http.server --bind 127.0.0.1 8088
"""


def test_hosts_fetch_the_weights_that_they_lack(lab: Lab, deployed: Any, tmp_path: Path) -> None:
    shipped = ROOT / "flagprov" / "catalog" / "releases" / f"{RELEASE}.yaml"
    text = shipped.read_text().replace("file:///models/Qwen3-Tiny", "http://127.0.0.1:8088")
    release = tmp_path / "fetched.yaml"
    release.write_text(text.replace("/models/Qwen3-Tiny", "/models/Fetched"))
    try:
        for host in lab.hosts:
            lab.on(host, WEB)
        checked = playbook(lab.inventory, "deploy", "-e", f"release={release}", "--check", "--diff")
        assert set(changes(checked)) == set(lab.hosts)
        assert checked.out.count("fetch /srv/models/Fetched: weights are missing") >= len(lab.hosts)
        assert min(changes(playbook(lab.inventory, "deploy", "-e", f"release={release}")).values()) > 0
        assert lab.flagprov("plan", lab.inventory, release).code == 0
        for host in lab.hosts:
            lab.on(host, "cd /srv/models/Fetched && sha256sum --check --quiet /srv/web/SHA256SUMS")
    finally:
        lab.teardown(RELEASE)
        for host in lab.hosts:
            lab.on(host, "systemctl stop web; rm -rf /srv/web /srv/models/Fetched*")


def test_teardown_leaves_nothing(lab: Lab, deployed: Any) -> None:
    lab.deploy(RELEASE)
    gone = playbook(lab.inventory, "teardown")
    assert min(changes(gone).values()) > 0
    for host in lab.hosts:
        assert lab.on(host, "docker ps -aq --filter label=io.flagprov.replica") == ""
        assert (
            lab.on(host, "ls -d /var/lib/flagprov /etc/systemd/system/flagprov@.service", check=False) == ""
        )
    assert changes(playbook(lab.inventory, "teardown")) == dict.fromkeys(lab.hosts, 0)
    assert lab.flagprov("status", lab.inventory, "--output", "json").json["replicas"] == []


def test_what_cannot_be_is_said_with_the_way_out(lab: Lab) -> None:
    unknown = playbook(lab.inventory, "verify", "-e", "release=qwen3-tinny")
    assert unknown.code != 0
    assert "qwen3-tinny" in unknown.out + unknown.err
    assert "remedy: " in unknown.out + unknown.err
    unnamed = playbook(lab.inventory, "verify")
    assert "no release is named" in unnamed.out + unnamed.err
