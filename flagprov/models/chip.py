"""A chip: what a host serves with. One YAML file each in `flagprov/chips/`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from flagprov.models.release import EnvName, Mount, Name, Strict


class Detection(Strict):
    """How a probe's answer is recognised."""

    tool: Literal["nvidia-smi", "npu-smi", "cpuinfo"]
    name_patterns: tuple[str, ...]  # regular expressions, any of them, on the device's or CPU part's name
    phy_id_header: bool | None = None  # npu-smi: whether the table has a Phy-ID column
    devices_per_card: int = 1
    arch: tuple[str, ...] = ()  # as `uname -m` says


class Chip(Strict):
    schema_version: Literal[1] = 1
    name: Name
    title: str
    emulated_only: bool = False  # the lab's own chip
    detection: Detection
    device_counts: tuple[int, ...] = ()  # allowed numbers of devices per host; empty: any
    device_memory_gib: tuple[int, ...] = ()  # allowed sizes; empty: the host's own memory
    roles: tuple[str, ...] = ()  # what prepares the host, in order
    visible_devices: EnvName | None = None
    resource_type: Literal["gpu", "NPU", "cpu"]
    gpus_flag: bool = False  # docker run --gpus
    device_nodes: tuple[str, ...] = ()  # `{index}` is replaced by each device's number
    mounts: tuple[Mount, ...] = ()
    source: tuple[str, ...] = ()  # set_env scripts of the vendor inside the image
    env: dict[EnvName, str] = Field({})
    collective_env: dict[EnvName, str] = Field({})  # `{interface}`, `{address}` are replaced per node
    forbidden_options: tuple[str, ...] = ()  # fields of Container that must not be set
    native_only: bool = False  # FlagGems cannot run there at all
