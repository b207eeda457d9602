"""A Ray over two lab hosts, formed by the real FlagScale's own script through the runner's SSH port."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import Lab

pytestmark = pytest.mark.vllm
RELEASE, REPLICA = "qwen3-tiny-ray", "qwen3-tiny-ray-0"
FOLDER = f"/var/lib/flagprov/replicas/{REPLICA}"
RUN, KEYS = f"{FOLDER}/run", f"{FOLDER}/ssh"
INSIDE = f"docker exec flagprov-{REPLICA} "


@pytest.fixture(scope="module")
def deployed(lab: Lab) -> Iterator[Any]:
    lab.teardown()
    yield lab.deploy(RELEASE)
    lab.teardown()


def test_the_engine_answers_and_every_rank_is_ready(lab: Lab, deployed: Any) -> None:
    (replica,) = deployed["replicas"]
    assert (replica["name"], replica["hosts"], replica["state"]) == (REPLICA, list(lab.hosts), "ready")
    assert [rank["state"] for rank in replica["ranks"]] == ["ready", "ready"]
    assert [proof["host"] for proof in deployed["completions"]] == ["lab1"]


def test_ray_has_both_nodes_at_the_replicas_own_ports(lab: Lab, deployed: Any) -> None:
    nodes = json.loads(lab.on("lab1", f"cat {RUN}/../record.json"))["nodes"]
    status = lab.on("lab1", f"{INSIDE}ray status --address {nodes[0]['address']}:10022")
    assert status.count(" node_") == 2
    script = lab.on("lab1", f"cat {RUN}/exp/serve_logs/scripts/host_0_localhost_run.sh")
    assert f'ssh -n -p 2222 {nodes[1]["address"]} "${{ray_path}} start --address=' in script
    for host in lab.hosts:
        assert "raylet" in lab.on(host, "ss -tlnpH sport = :10023")


def test_keys_are_for_their_owner_and_their_replica(lab: Lab, deployed: Any) -> None:
    for host in lab.hosts:
        modes = lab.on(host, f"stat -c '%a %n' {KEYS}/*").splitlines()
        assert len(modes) == 5
        assert all(line.startswith("600 ") for line in modes)
        assert lab.on(host, f"stat -c %a {KEYS}").strip() == "700"
        # Root in the container puts nothing there, for the host to follow.
        assert "Read-only" in lab.on(host, f"{INSIDE}touch /run/flagprov-ssh/x 2>&1", check=False)
    key = lab.inventory.parent / ".flagprov" / "runner" / f"{REPLICA}.json"
    assert key.stat().st_mode & 0o777 == 0o600
    address = json.loads(lab.on("lab1", f"cat {RUN}/../record.json"))["nodes"][1]["address"]
    assert lab.on("lab1", f"{INSIDE}/run/flagprov/exp/first/ssh -p 2222 {address} hostname").strip() == "lab2"
    # From the host itself nobody gets in: there is no password, and the key is the container's own.
    ask = f"ssh -o BatchMode=yes -o StrictHostKeyChecking=no -p 2222 {address} true 2>&1"
    assert "Permission denied (publickey)" in lab.on("lab1", ask, check=False)


def test_a_second_deploy_changes_nothing(lab: Lab, deployed: Any) -> None:
    assert {host["state"] for host in lab.deploy(RELEASE)["hosts"]} == {"unchanged"}


def test_a_hostfile_in_the_wrong_order_is_put_right(lab: Lab, deployed: Any) -> None:
    hostfile = f"{FOLDER}/configs/current/conf/hostfile"
    right = lab.on("lab1", f"cat {hostfile}")
    lab.on("lab1", f"tac {hostfile} > /tmp/turned && cat /tmp/turned > {hostfile}")
    assert lab.flagprov("diff", lab.inventory).code == 3
    lab.deploy(RELEASE)
    assert lab.on("lab1", f"cat {hostfile}") == right


def test_teardown_leaves_no_key_no_port_and_no_process(lab: Lab, deployed: Any) -> None:
    lab.teardown()
    for host in lab.hosts:
        assert lab.on(host, f"ls -d {FOLDER} 2>/dev/null", check=False) == ""
        assert lab.on(host, "ss -tlnH '( sport = :2222 or sport >= :10020 and sport <= :10420 )'") == ""
        assert lab.on(host, "pgrep -f '[r]aylet|[g]cs_server'", check=False) == ""
    assert not (lab.inventory.parent / ".flagprov" / "runner" / f"{REPLICA}.json").exists()


def test_a_stale_ray_on_a_node_is_named_and_left_alone(lab: Lab, deployed: Any) -> None:
    """Nothing starts on any node while somebody else's Ray has a port of the replica's on the second."""
    lab.teardown()
    lab.on("lab2", "systemd-run -q --unit stale bash -c 'exec -a raylet python3 -m http.server 10023'")
    try:
        refused = lab.flagprov("deploy", lab.inventory, RELEASE, "--yes")
        assert refused.code == 1, refused
        assert "10023" in refused.out + refused.err, refused
        for host in lab.hosts:
            assert lab.on(host, "docker ps -q --filter label=io.flagprov.replica") == ""
        assert lab.on("lab2", "systemctl is-active stale").strip() == "active"
    finally:
        lab.on("lab2", "systemctl stop stale")
