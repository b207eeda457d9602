"""Plain inputs for rendering."""

from __future__ import annotations

from typing import Any

from flagprov.models.chip import Chip, Detection
from flagprov.models.desired import Replica
from flagprov.models.image import ImageFacts
from flagprov.models.release import Container, Image, Launch, Variant
from flagprov.runner.inputs import LaunchInputs

# fmt: off
COMMON = (
    "model", "host", "port", "served-model-name", "max-model-len", "max-num-seqs", "gpu-memory-utilization",
    "enforce-eager", "enable-prefix-caching", "no-enable-prefix-caching", "limit-mm-per-prompt",
    "compilation-config", "headless", "nnodes",
)
# fmt: on


def facts(vllm: str = "0.32.0", **changes: Any) -> ImageFacts:
    options = (*COMMON, "shutdown-timeout") if vllm == "0.32.0" else COMMON
    values: dict[str, Any] = {
        "digest": "sha256:" + "0" * 64,
        "arch": "x86_64",
        "python": "3.11.2",
        "vllm": vllm,
        "options": options,
        "flagscale": "0.8.0",
        "flagscale_deploy": "experiment.runner.deploy",
    }
    return ImageFacts(**values | changes)


def chip(**changes: Any) -> Chip:
    values: dict[str, Any] = {
        "name": "cpu-x86",
        "title": "CPU",
        "detection": Detection(tool="cpuinfo", name_patterns=()),
        "resource_type": "cpu",
    }
    return Chip(**values | changes)


def inputs(
    *,
    serve: dict[str, Any] | None = None,
    launch: dict[str, Any] | None = None,
    container: dict[str, Any] | None = None,
    devices: tuple[int, ...] = (0,),
    hosts: tuple[str, ...] = ("lab1",),
    **changes: Any,
) -> LaunchInputs:
    variant = Variant(
        image=Image(reference="registry/image:tag"),
        container=Container(**container or {}),
        launch=Launch(**{"label": "tiny"} | (launch or {})),
        serve=serve if serve is not None else {"served_model_name": "tiny"},
        operators="native",
    )
    values: dict[str, Any] = {
        "release": "qwen3-tiny",
        "replica": Replica("qwen3-tiny-0", "qwen3-tiny", "cpu-x86", hosts, devices, 9010),
        "variant": variant,
        "chip": chip(),
        "model_path": "/models/tiny",
    }
    return LaunchInputs(**values | changes)
