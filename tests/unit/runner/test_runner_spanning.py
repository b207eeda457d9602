"""Several hosts by Ray: what each node is told, FlagScale's hostfile, and what the image decides."""

from __future__ import annotations

import json
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
from flagprov.runner_keys import make_runner_keys, runner_files

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
    files = runner_files(RunnerKeys("K", "ssh-ed25519 A", "H", "ssh-ed25519 B"), "r-0", NODES, 10019)
    assert files["authorized_keys"] == ('restrict,from="192.0.2.1,192.0.2.2" ssh-ed25519 A flagprov r-0\n')
    assert files["known_hosts"] == "[192.0.2.1]:10019 ssh-ed25519 B\n[192.0.2.2]:10019 ssh-ed25519 B\n"
