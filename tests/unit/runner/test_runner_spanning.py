"""Several hosts by Ray: what each node is told, FlagScale's hostfile, and what the image decides."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from launch_inputs import chip, facts, inputs

from flagprov.errors import ReleaseError
from flagprov.models.desired import Node, Replica
from flagprov.models.runner import RunnerKeys
from flagprov.runner.inputs import LaunchInputs
from flagprov.runner.render import render
from flagprov.runner.spanning import spanning_ports
from flagprov.runner_keys import entry_options, make_runner_keys, runner_files

NODES = (Node("a", "192.0.2.1", "eth0"), Node("b", "192.0.2.2", "eth0"))
IMAGE = {"ray": "2.55.0", "sshd": True}


def spanning(rank: int, kind: str = "flagscale", image: Any = None, **more: Any) -> LaunchInputs:
    replica = Replica("r-0", "r", "nvidia-h100", ("a", "b"), tuple(range(8)), 9010, NODES)
    gpu = chip(name="nvidia-h100", resource_type="gpu")
    values = {"chip": gpu, "facts": facts(**(image or IMAGE)), "replica": replica, "rank": rank}
    return inputs(launch={"kind": kind, "label": "r"}, **values | more)


def document(launch: LaunchInputs) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(render(launch)["launch.json"])
    return read


def test_flagscale_gets_a_hostfile_and_its_port() -> None:
    files = render(spanning(0))
    assert files["conf/hostfile"] == "192.0.2.1 slots=8 type=gpu\n192.0.2.2 slots=8 type=gpu\n"
    runner = yaml.safe_load(files["conf/serve.yaml"])["experiment"]["runner"]
    assert runner["hostfile"] == "${oc.env:FLAGPROV_CONFIG}/conf/hostfile"
    assert (runner["nnodes"], runner["ssh_port"]) == (2, 10019)
    (serve,) = yaml.safe_load(files["conf/serve/r.yaml"])
    assert serve["engine_args"]["distributed_executor_backend"] == "ray"


def test_each_node_knows_itself_and_the_head() -> None:
    said = [document(spanning(rank))["ray"] for rank in (0, 1)]
    assert [each["address"] for each in said] == ["192.0.2.1", "192.0.2.2"]
    assert {each["head"] for each in said} == {"192.0.2.1"}
    assert said[0]["resources"] == ["--num-gpus=8"]
    assert said[0]["ports"] == said[1]["ports"]
    npu = chip(name="ascend-a2", resource_type="NPU")
    assert document(spanning(0, chip=npu))["ray"]["resources"] == ['--resources={"NPU": 8}']


def test_what_is_a_nodes_own_is_not_copied_from_the_head() -> None:
    gpu = chip(name="nvidia-h100", resource_type="gpu", collective_env={"NCCL_SOCKET_IFNAME": "{interface}"})
    said = document(spanning(0, chip=gpu, env={"NCCL_IB_HCA": "=mlx5_0:1", "USE_FLAGGEMS": "1"}))
    assert said["ray"]["own"] == ["NCCL_IB_HCA", "NCCL_SOCKET_IFNAME"]


def test_without_sshd_in_the_image_ray_is_started_by_the_launchers() -> None:
    said = document(spanning(0, image={**IMAGE, "sshd": False}))
    assert said["kind"] == "ray"
    assert "ssh" not in said
    assert said["argv"][:2] == ["vllm", "serve"]
    assert "--distributed-executor-backend" in said["argv"]
    assert "--nnodes" not in said["argv"]


KEYED = tuple(replace(node, host_key=f"ssh-ed25519 {node.host}") for node in NODES)
WITHOUT_SSHD = {**IMAGE, "sshd": False, "ssh": True}


def by_the_hosts(rank: int = 0, nodes: tuple[Node, ...] = KEYED, **more: Any) -> LaunchInputs:
    launch = spanning(rank, **{"image": WITHOUT_SSHD} | more)
    named = launch.variant.launch.model_copy(update={"ssh_port": 22})
    variant = launch.variant.model_copy(update={"launch": named})
    return replace(launch, variant=variant, replica=replace(launch.replica, nodes=nodes))


def test_without_sshd_in_the_image_the_hosts_own_is_used_where_the_release_names_its_port() -> None:
    files = render(by_the_hosts())
    runner = yaml.safe_load(files["conf/serve.yaml"])["experiment"]["runner"]
    assert (runner["ssh_port"], runner["docker"]) == (22, "flagprov-r-0")
    said = document(by_the_hosts(1))["ssh"]
    assert said == {"port": 22, "address": "192.0.2.2", "by_host": True, "keys": "/run/flagprov-ssh"}
    assert 22 not in spanning_ports(by_the_hosts(1))  # another listens there
    assert 22 not in spanning_ports(by_the_hosts(1, facts=None))  # as long as nobody knows better
    assert 22 in spanning_ports(by_the_hosts(1, image=IMAGE))


@pytest.mark.parametrize(
    "launch",
    [
        by_the_hosts(nodes=NODES),  # whose keys nobody knows
        by_the_hosts(image={**WITHOUT_SSHD, "ssh": False}),
        by_the_hosts(container={"user": "1000"}),
        by_the_hosts(chip=chip(name="ascend-a2", resource_type="NPU")),  # where FlagScale's quotes break
    ],
)
def test_else_ray_needs_no_key_on_any_host(launch: LaunchInputs) -> None:
    assert document(launch)["kind"] == "ray"


def test_an_image_with_sshd_is_entered_by_it() -> None:
    launch = by_the_hosts(image=IMAGE)
    assert document(launch)["ssh"]["by_host"] is False
    assert "docker" not in yaml.safe_load(render(launch)["conf/serve.yaml"])["experiment"]["runner"]


def test_a_container_of_another_user_cannot_read_the_keys() -> None:
    assert document(spanning(0, container={"user": "1000"}))["kind"] == "ray"
    assert document(spanning(0, container={"user": "root"}))["kind"] == "flagscale"


def test_vllm_refuses_ray_on_processors() -> None:
    cpu = chip(name="cpu-x86", resource_type="cpu")
    assert "--distributed-executor-backend" not in document(spanning(0, "ray", chip=cpu))["argv"]


def test_an_image_without_ray_is_refused() -> None:
    with pytest.raises(ReleaseError, match="has no Ray"):
        render(spanning(0, image={"sshd": True}))


def test_ray_on_one_host_is_refused() -> None:
    with pytest.raises(ReleaseError, match="launch kind ray needs several nodes"):
        render(inputs(launch={"kind": "ray"}, facts=facts(**IMAGE)))


def test_every_node_claims_what_it_listens_on() -> None:
    head, worker = (spanning_ports(spanning(rank)) for rank in (0, 1))
    assert (10012 in head, 10019 in head) == (True, False)
    assert (10012 in worker, 10019 in worker) == (False, True)
    assert spanning_ports(inputs()) == []


def test_keys_are_a_replicas_own() -> None:
    one, two = make_runner_keys(), make_runner_keys()
    assert one != two
    assert one.key not in repr(one)
    assert one.host_key not in repr(one)
    assert one.key.startswith("-----BEGIN OPENSSH PRIVATE KEY-----\n")


def test_a_key_opens_only_from_the_replicas_nodes() -> None:
    files = runner_files(RunnerKeys("K", "ssh-ed25519 A", "H", "ssh-ed25519 B"), "r-0", NODES)
    assert files["authorized_keys"] == ('restrict,from="192.0.2.1,192.0.2.2" ssh-ed25519 A flagprov r-0\n')
    assert files["known_hosts"] == (
        "192.0.2.1,[192.0.2.1]:* ssh-ed25519 B\n192.0.2.2,[192.0.2.2]:* ssh-ed25519 B\n"
    )


def test_on_a_host_the_key_is_for_the_head_and_one_container() -> None:
    assert entry_options("r-0", KEYED, "/state/enter") == (
        'restrict,from="192.0.2.1",command="PYTHON -I /state/enter flagprov-r-0"'
    )


def test_a_node_is_known_by_its_containers_sshd_and_by_its_own() -> None:
    """What is put back may be entered the other way, and no history has its known_hosts."""
    keys = RunnerKeys("K", "ssh-ed25519 A", "H", "ssh-ed25519 B")
    assert runner_files(keys, "r-0", KEYED[1:])["known_hosts"] == (
        "192.0.2.2,[192.0.2.2]:* ssh-ed25519 B\n192.0.2.2,[192.0.2.2]:* ssh-ed25519 b\n"
    )


@pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="without OpenSSH")
@pytest.mark.parametrize("address", ["192.0.2.1", "fd00::1"])
def test_a_node_is_known_at_whatever_port(address: str, tmp_path: Path) -> None:
    """What a rollout puts back may be at another port, and no history has its known_hosts."""
    keys, file = make_runner_keys(), tmp_path / "known_hosts"
    file.write_text(runner_files(keys, "r-0", (Node("a", address, "eth0"),))["known_hosts"])

    def known(place: str) -> bool:
        found = subprocess.run(["ssh-keygen", "-F", place, "-f", file], capture_output=True, check=False)
        return found.returncode == 0

    assert all(map(known, (address, f"[{address}]:22", f"[{address}]:10019")))
    assert not any(map(known, (address + "1", f"[{address}1]:10019")))
