"""The configuration directory: files, their stability, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
import yaml
from launch_inputs import chip, facts, inputs

from flagprov.errors import ReleaseError
from flagprov.models.desired import Node, Replica
from flagprov.runner.inputs import LaunchInputs
from flagprov.runner.render import content_hash, environment, render


def document(launch: Any) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(render(launch)["launch.json"])
    return read


def test_flagscale_directory() -> None:
    files = render(inputs())
    assert list(files) == [
        "conf/serve.yaml",
        "conf/serve/tiny.yaml",
        "flagprov/__init__.py",
        "flagprov/host/__init__.py",
        "flagprov/host/http.py",
        "flagprov/host/launcher_door.py",
        "flagprov/host/launcher_engine.py",
        "flagprov/host/launcher_launch.py",
        "flagprov/host/launcher_log.py",
        "flagprov/host/launcher_node.py",
        "flagprov/host/launcher_peers.py",
        "flagprov/host/launcher_processes.py",
        "flagprov/host/launcher_ray.py",
        "flagprov/host/launcher_ssh.py",
        "flagprov/host/launcher_start.py",
        "flagprov/host/launcher_state.py",
        "flagprov/host/launcher_stop.py",
        "flagprov/host/machine.py",
        "launch.json",
        "launcher.py",
        "start.sh",
    ]
    serve = yaml.safe_load(files["conf/serve.yaml"])
    assert serve["defaults"] == ["_self_", {"serve": "tiny"}]
    assert serve["experiment"]["exp_dir"].startswith("${oc.env:FLAGPROV_EXP_DIR")
    assert "envs" not in serve["experiment"]
    (item,) = yaml.safe_load(files["conf/serve/tiny.yaml"])
    assert (item["serve_id"], item["engine"]) == ("vllm_model", "vllm")
    assert item["engine_args"]["model"] == "/models/tiny"


@pytest.mark.parametrize(
    ("place", "path"),
    [
        ("experiment.runner.deploy", ("experiment", "runner")),
        ("experiment.deploy", ("experiment",)),
        (None, ("experiment",)),
    ],
)
def test_deploy_lies_where_the_image_reads_it(place: str | None, path: tuple[str, ...]) -> None:
    block = yaml.safe_load(render(inputs(facts=facts(flagscale_deploy=place)))["conf/serve.yaml"])
    for key in path:
        block = block[key]
    assert block["deploy"] == {"use_fs_serve": False, "port": 9010}


def test_no_path_holds_the_hash_and_bytes_are_stable() -> None:
    one, two = inputs(serve={"a": 1, "b": 2}), inputs(serve={"b": 2, "a": 1})
    assert render(one) == render(two)
    assert content_hash(render(one)) == content_hash(render(two))
    assert content_hash(render(one)) not in "".join(render(one).values())
    assert content_hash(render(one)) != content_hash(render(inputs(serve={"a": 1})))


def test_nodes_runs_vllm_itself() -> None:
    launch = inputs(launch={"kind": "nodes"}, serve={"enforce_eager": True})
    assert document(launch)["argv"] == [
        "vllm", "serve", "/models/tiny", "--host", "0.0.0.0", "--port", "9010", "--enforce-eager",
    ]  # fmt: skip
    assert "conf/serve.yaml" not in render(launch)


def test_command_runs_the_cards_argv() -> None:
    launch = inputs(launch={"kind": "command", "command": ["bash", "/workspace/start.sh"]})
    assert document(launch)["argv"] == ["bash", "/workspace/start.sh"]


def test_scripts_of_chip_and_card_are_sourced_once() -> None:
    launch = inputs(launch={"source": ["/b", "/a"], "before_start": ["ulimit -n"]}, chip=chip(source=("/a",)))
    assert document(launch)["source"] == ["/a", "/b"]
    assert document(launch)["before_start"] == ["ulimit -n"]


@pytest.mark.parametrize(
    ("gpus_flag", "container", "numbers"),
    [
        (False, {}, "2,3"),
        (True, {"gpus": "all", "privileged": True}, "2,3"),
        (True, {"gpus": "all"}, "0,1"),
    ],
)
def test_placement_names_the_devices(gpus_flag: bool, container: dict[str, Any], numbers: str) -> None:
    launch = inputs(
        devices=(2, 3),
        container=container,
        chip=chip(visible_devices="CUDA_VISIBLE_DEVICES", gpus_flag=gpus_flag),
        env={"CUDA_VISIBLE_DEVICES": "7", "A": "b c"},
    )
    assert environment(launch)["CUDA_VISIBLE_DEVICES"] == numbers
    assert environment(launch)["A"] == "b c"


def test_the_engine_is_asked_where_it_listens() -> None:
    assert document(inputs())["address"] == "127.0.0.1"
    assert document(inputs(serve={"host": "10.1.2.3"}))["address"] == "10.1.2.3"


@pytest.mark.parametrize(
    ("launch", "message"),
    [
        (inputs(hosts=("a", "b")), "where its 2 hosts meet"),
        (inputs(launch={"label": "../etc"}), "no file name"),
        (inputs(serve={"chat_template": "${x}"}), "serve.chat_template"),
        (inputs(facts=facts(flagscale=None, flagscale_deploy=None)), "has no FlagScale"),
        (inputs(facts=facts(flagscale_deploy="serve.deploy")), "too old"),
        (inputs(facts=facts(vllm=None)), "has no vLLM"),
    ],
)
def test_refused(launch: Any, message: str) -> None:
    with pytest.raises(ReleaseError, match=message):
        render(launch)


def test_a_value_that_flagscale_would_replace_is_fine_without_it() -> None:
    launch = inputs(serve={"chat_template": "${x}"}, launch={"kind": "nodes"})
    assert "${x}" in document(launch)["argv"]


def test_facts_change_what_is_rendered_but_not_that_it_is() -> None:
    plain = inputs()
    assert render(plain) != render(dataclasses.replace(plain, facts=facts()))


def over_two_hosts(rank: int, **changes: Any) -> LaunchInputs:
    nodes = (Node("lab1", "192.0.2.1", "eth0"), Node("lab2", "192.0.2.2", "eth1"))
    replica = Replica("qwen3-tiny-0", "qwen3-tiny", "cpu-x86", ("lab1", "lab2"), (0,), 9010, nodes)
    collective = {"GLOO_SOCKET_IFNAME": "{interface}", "VLLM_HOST_IP": "{address}"}
    values: dict[str, Any] = {"launch": {"kind": "nodes"}, "chip": chip(collective_env=collective)}
    return inputs(**values | {"replica": replica, "rank": rank, "facts": facts()} | changes)


def test_each_rank_has_its_own_number_and_environment_and_shares_the_rest() -> None:
    head, worker = (document(over_two_hosts(rank)) for rank in (0, 1))
    meeting = ["--master-addr", "192.0.2.1", "--master-port", "10010"]
    common = ["--distributed-executor-backend", "mp", "--nnodes", "2", "--node-rank"]
    assert " ".join([*common, "0", *meeting]) in " ".join(head["argv"])
    assert " ".join([*common, "1", *meeting, "--headless"]) in " ".join(worker["argv"])
    assert "--headless" not in head["argv"]
    assert head["env"]["VLLM_HOST_IP"] == "192.0.2.1"
    assert (worker["env"]["VLLM_HOST_IP"], worker["env"]["GLOO_SOCKET_IFNAME"]) == ("192.0.2.2", "eth1")
    assert head["peers"] == worker["peers"]
    assert head["peers"] | {"token": ""} == {
        "hosts": ["lab1", "lab2"], "address": "192.0.2.1", "port": 10011, "token": ""
    }  # fmt: skip
    assert (head["rank"], worker["rank"]) == (0, 1)


def test_ranks_of_different_configurations_have_different_tokens() -> None:
    one = document(over_two_hosts(0))["peers"]["token"]
    other = document(over_two_hosts(0, serve={"max_num_seqs": 3}))["peers"]["token"]
    assert one != other


def test_a_vllm_without_nnodes_cannot_span_hosts() -> None:
    without = tuple(option for option in facts().options if option != "nnodes")
    with pytest.raises(ReleaseError, match="has no --nnodes: it cannot span 2 hosts"):
        render(over_two_hosts(0, facts=facts(options=without)))


SCRIPT = {"kind": "command", "command": ["bash", "-c", "exec /repos/run_rank$NODE_RANK.sh"]}


def test_a_cards_own_script_knows_its_place_from_the_environment() -> None:
    env = {"MASTER_ADDR": "x.x.x.x", "VLLM_HOST_IP": "of the card's author"}
    head, worker = (document(over_two_hosts(rank, launch=SCRIPT, env=env)) for rank in (0, 1))
    assert head["argv"] == worker["argv"] == SCRIPT["command"]
    told = {"MASTER_ADDR": "192.0.2.1", "MASTER_PORT": "10010", "NNODES": "2"}
    assert (
        head["env"].items() >= (told | {"NODE_RANK": "0", "RANK": "0", "VLLM_HOST_IP": "192.0.2.1"}).items()
    )
    assert (
        worker["env"].items() >= (told | {"NODE_RANK": "1", "RANK": "1", "VLLM_HOST_IP": "192.0.2.2"}).items()
    )
    assert head["peers"] == worker["peers"]
    assert head["own_shm"] is worker["own_shm"] is True
    assert "ray" not in head
    assert "NODE_RANK" not in document(inputs(launch=SCRIPT))["env"]
    assert "NODE_RANK" not in document(over_two_hosts(0))["env"]


def test_another_script_is_another_configuration() -> None:
    other = SCRIPT | {"command": ["bash", "/repos/run.sh"]}
    tokens = {document(over_two_hosts(0, launch=launch))["peers"]["token"] for launch in (SCRIPT, other)}
    assert len(tokens) == 2


def test_steps_of_the_head_are_the_heads() -> None:
    launch = {"kind": "nodes", "before_start": ["ulimit -n"], "head_before_start": ["python3 unpatch.py"]}
    head, worker = (document(over_two_hosts(rank, launch=launch)) for rank in (0, 1))
    assert head["before_start"] == ["ulimit -n", "python3 unpatch.py"]
    assert worker["before_start"] == ["ulimit -n"]
    assert head["peers"] == worker["peers"]
    assert document(inputs(launch=launch))["before_start"] == head["before_start"]
