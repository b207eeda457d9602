"""The configuration directory: files, their stability, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
import yaml
from launch_inputs import chip, facts, inputs

from flagprov.errors import ReleaseError
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
        "flagprov/host/launcher_launch.py",
        "flagprov/host/launcher_log.py",
        "flagprov/host/launcher_processes.py",
        "launch.json",
        "launcher.py",
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
        (inputs(hosts=("a", "b")), "2 nodes"),
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
