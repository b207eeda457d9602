"""A chip: what a host serves with. One YAML file each in `flagprov/chips/`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from flagprov.models.release import AbsolutePath, EnvName, Mount, Name, Strict


class Detection(Strict):
    """How a probe's answer is recognised."""

    tool: Literal["nvidia-smi", "npu-smi", "cpuinfo"]
    name_patterns: tuple[str, ...]  # regular expressions, any of them, on the device's or CPU part's name
    phy_id_header: bool | None = None  # npu-smi: whether the table has a Phy-ID column
    devices_per_card: int = 1
    arch: tuple[str, ...] = ()  # as `uname -m` says
    pci_ids: tuple[str, ...] = ()  # vendor:device, which a host shows that has no driver yet
    machine_patterns: tuple[str, ...] = ()  # on maker and model of the firmware; empty: any machine


class Interconnect(Strict):
    """Links between devices; the first whose pattern fits a device's name holds."""

    name_pattern: str
    links: int  # per device, all of them up
    fabric: bool = False  # switched: the fabric has to be completed before anything can be computed


class Health(Strict):
    """What a host of the chip has when it is well."""

    bus: Literal["nvidia", "ascend"] | None = None  # kind of device that the PCI bus is asked for
    oldest_driver: str | None = None
    sdk: Literal["cuda", "cann"] | None = None  # what an image of the chip is built with
    sdk_drivers: dict[str, str] = Field({})  # SDK version or its beginning -> oldest driver that takes it
    cpu_features: tuple[str, ...] = ()
    interconnects: tuple[Interconnect, ...] = ()
    fatal_xids: tuple[int, ...] = ()  # the device has to be reset or replaced
    harmless_xids: tuple[int, ...] = ()  # a program's fault


class Processor(Strict):
    """How an engine on processors uses its devices, which are NUMA nodes."""

    reserved_cores: int = Field(1, ge=0)  # of each node, for the API server and the system
    memory_share: float = Field(0.8, gt=0, le=1)  # of each node, for weights and KV cache


class ImageNames(Strict):
    """How names of images tell that they are for this chip."""

    vendor: str | None = None  # in FlagRelease tags
    codes: tuple[str, ...] = ()  # of devices in FlagRelease tags
    patterns: tuple[str, ...] = ()  # regular expressions that only names of images for this chip match


class ChipMount(Mount):
    """Something of the host that containers of the chip get."""

    several_nodes: bool = False  # only replicas over several hosts need it


class Runtime(Strict):
    """The vendor's docker runtime, which brings devices and driver in place of mounts."""

    name: str  # in daemon.json
    devices: EnvName  # variable that it reads: numbers of the device nodes
    mounts: tuple[ChipMount, ...] = ()  # what it does not bring, in place of the chip's


class HostSdk(Strict):
    """The SDK of a host, for containers that shall use it in place of their image's; paths from its own."""

    path: str
    beside: tuple[str, ...] = ()  # further directories
    source: tuple[str, ...]  # scripts that are sourced


class Grant(Strict):
    """What a container gets in place of all privileges."""

    cap_add: tuple[str, ...] = ()
    devices: tuple[AbsolutePath, ...] = ()  # device nodes or directories of them, where the host has them


class Least(Grant):
    """For `container_profile: least`, beside the replica's own device nodes and the chip's mounts."""

    several_nodes: Grant = Grant()  # also, where a replica spans hosts


class Chip(Strict):
    schema_version: Literal[1] = 1
    name: Name
    title: str
    emulated_only: bool = False  # the lab's own chip
    detection: Detection
    device_counts: tuple[int, ...] = ()  # allowed numbers of devices per host; empty: any
    device_memory_gib: tuple[int, ...] = ()  # allowed sizes; empty: the host's own memory
    roles: tuple[str, ...] = ()  # what prepares the host, in order
    pins: dict[str, str] = Field({})  # role variable -> exact version that the roles bring
    visible_devices: EnvName | None = None  # takes numbers as processes count devices
    resource_type: Literal["gpu", "NPU", "cpu"]
    gpus_flag: bool = False  # docker run --gpus
    device_nodes: tuple[str, ...] = ()  # `{index}` is replaced by each device's number
    mounts: tuple[ChipMount, ...] = ()
    runtime: Runtime | None = None
    least: Least = Least()
    source: tuple[str, ...] = ()  # set_env scripts of the vendor inside the image
    host_sdk: HostSdk | None = None
    env: dict[EnvName, str] = Field({})
    collective_env: dict[EnvName, str] = Field({})  # `{interface}`, `{address}` are replaced per node
    rdma: bool = False  # ranks on several hosts talk by the hosts' own RDMA cards, through NCCL
    tensor_parallel_across_nodes: bool = False  # no pipeline stages there; else one stage per node
    forbidden_options: tuple[str, ...] = ()  # fields of Container that must not be set
    processor: Processor | None = None  # threads and KV cache are set by NUMA node
    native_only: bool = False  # FlagGems cannot run there at all
    health: Health = Health()
    images: ImageNames = ImageNames()
