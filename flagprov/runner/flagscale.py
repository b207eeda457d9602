"""FlagScale's own two YAML files, in the layout that the image's FlagScale reads."""

from __future__ import annotations

from typing import Any

import yaml

from flagprov.errors import ReleaseError
from flagprov.models.desired import container_name
from flagprov.runner.arguments import engine_arguments
from flagprov.runner.inputs import LaunchInputs
from flagprov.runner.spanning import HOSTFILE, hostfile, spans, ssh_document

HEADER = "# Rendered by flagprov for {replica}; never edited, a change is a new directory.\n"
# A new directory at every start, chosen by the launcher: FlagScale appends to what it finds there.
EXP_DIR = "${oc.env:FLAGPROV_EXP_DIR,/tmp/flagprov-exp}"


def flagscale_files(launch: LaunchInputs, label: str) -> dict[str, str]:
    """`conf/serve.yaml` and `conf/serve/LABEL.yaml`."""
    _check_image(launch)
    header = HEADER.format(replica=launch.replica.name)
    files = {
        "conf/serve.yaml": header + _dump(_experiment(launch, label)),
        f"conf/serve/{label}.yaml": header + _dump(_serve(launch)),
    }
    return files | ({HOSTFILE: hostfile(launch)} if spans(launch) else {})


def _check_image(launch: LaunchInputs) -> None:
    facts = launch.facts
    if facts is None:
        return
    image, remedy = launch.variant.image.reference, "use launch.kind nodes, which runs vllm serve itself"
    if facts.flagscale is None and facts.flagscale_deploy is None:
        raise ReleaseError(
            f"image {image} has no FlagScale, but release {launch.release} is launched by it", remedy=remedy
        )
    if facts.flagscale_deploy == "serve.deploy":
        raise ReleaseError(
            f"FlagScale in image {image} is too old: its serve files are laid out otherwise", remedy=remedy
        )


def _experiment(launch: LaunchInputs, label: str) -> dict[str, Any]:
    # use_fs_serve is true where it is not said, and starts another server on another port.
    deploy = {"use_fs_serve": False, "port": launch.replica.port}
    runner: dict[str, Any] = {"type": "ssh", "hostfile": None, "nnodes": 1}
    ssh = ssh_document(launch)
    if ssh:
        # The launcher says where this directory lies; no file in it knows its own name.
        runner["hostfile"] = "${oc.env:FLAGPROV_CONFIG}/" + HOSTFILE
        runner |= {"nnodes": len(launch.replica.nodes), "ssh_port": ssh["port"]}
        if ssh["by_host"]:
            runner["docker"] = container_name(launch.replica.name)
    experiment: dict[str, Any] = {
        "exp_name": launch.replica.name,
        "exp_dir": EXP_DIR,
        "task": {"type": "serve"},
        "runner": runner,
    }
    if launch.facts is not None and launch.facts.flagscale_deploy == "experiment.runner.deploy":
        runner["deploy"] = deploy
    else:
        # The older place: releases from before mid 2025 read only this one, later ones move it.
        experiment["deploy"] = deploy
    return {
        "defaults": ["_self_", {"serve": label}],
        "experiment": experiment,
        "action": "run",
        "hydra": {"run": {"dir": "${experiment.exp_dir}/hydra"}},
    }


def _serve(launch: LaunchInputs) -> list[dict[str, Any]]:
    arguments = engine_arguments(launch)
    for key, value in arguments.items():
        # FlagScale resolves its YAML three times, so no escape survives.
        if isinstance(value, str) and "${" in value:
            raise ReleaseError(
                f"release {launch.release}: serve.{key} holds '${{', which FlagScale would replace",
                remedy="use launch.kind nodes for this value",
            )
    return [{"serve_id": "vllm_model", "engine": "vllm", "engine_args": arguments}]


def _dump(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, default_flow_style=False, allow_unicode=True, width=1000)
