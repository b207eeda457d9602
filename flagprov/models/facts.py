"""Facts of a host, as its tools say them. None: it lacks that, or it is not known and `unknown` says why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from flagprov.models.observed import Device

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class System:
    name: str | None
    id: str | None
    version: str | None
    kernel: str
    arch: str
    machine: str | None  # maker and model, from the firmware
    memory_mib: int | None


@dataclass(frozen=True, slots=True)
class Processor:
    name: str | None
    cpus: int | None
    features: tuple[str, ...]
    sockets: int | None
    cores_per_socket: int | None
    threads_per_core: int | None
    numa_nodes: int | None


@dataclass(frozen=True, slots=True)
class Docker:
    version: str
    arch: str
    root: str
    free_mib: int
    total_mib: int
    storage: str
    runtimes: tuple[str, ...]
    default_runtime: str
    cgroup_driver: str
    live_restore: bool


@dataclass(frozen=True, slots=True)
class Mounted:
    point: str
    source: str
    type: str
    options: str


@dataclass(frozen=True, slots=True)
class PathFacts:
    """What a path lies under; `planned_*` is what /etc/fstab would mount there."""

    path: str
    point: str | None
    source: str | None
    type: str | None
    read_only: bool | None
    network: bool
    planned_point: str | None
    planned_source: str | None
    exists: bool
    answers: bool
    empty: bool | None
    free_mib: int | None
    total_mib: int | None


@dataclass(frozen=True, slots=True)
class Clock:
    tool: str
    synchronized: bool
    offset_s: float | None


@dataclass(frozen=True, slots=True)
class Interface:
    name: str
    state: str | None
    mtu: int | None
    speed_mbps: int | None
    addresses: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Port:
    port: int
    holder: str | None


@dataclass(frozen=True, slots=True)
class Module:
    version: str
    open: bool


@dataclass(frozen=True, slots=True)
class Gpu:
    index: int
    uuid: str
    bus: str
    minor: int | None
    name: str
    memory_mib: int | None
    used_mib: int | None
    persistence: str | None
    mig: str | None
    compute_mode: str | None
    ecc: str | None
    ecc_uncorrected: int | None
    rows_pending: bool | None
    rows_failed: bool | None
    rows_uncorrected: int | None
    fabric_state: str | None
    fabric_status: str | None
    recovery: str | None
    reset_required: bool | None
    temperature_c: int | None


@dataclass(frozen=True, slots=True)
class GpuReport:
    driver: str | None
    cuda: str | None  # the newest CUDA that the driver takes
    gpus: tuple[Gpu, ...]
    unread: tuple[str, ...] = ()  # what is not understood


@dataclass(frozen=True, slots=True)
class Links:
    index: int
    up: int
    down: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Xid:
    bus: str
    xid: int
    text: str
    count: int


@dataclass(frozen=True, slots=True)
class FabricManager:
    version: str | None
    active: str


@dataclass(frozen=True, slots=True)
class Nvidia:
    loaded: Module | None
    on_disk: str | None
    report: GpuReport | None
    links: tuple[Links, ...] | None
    xids: tuple[Xid, ...] | None
    fabric_manager: FabricManager | None
    errors: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NpuTable:
    version: str
    devices: tuple[Device, ...]


@dataclass(frozen=True, slots=True)
class LogicalNumber:
    card: int
    chip: int
    logic_id: int
    name: str


@dataclass(frozen=True, slots=True)
class NpuPort:
    """`ip`, `gateway` and `tls` are asked for where replicas span hosts; `ip` is empty where none was set."""

    index: int
    link: str | None
    health: str | None
    ip: Mapping[str, str] | None = None  # address, netmask
    gateway: str | None = None  # empty: none
    tls: bool | None = None


@dataclass(frozen=True, slots=True)
class Ascend:
    table: NpuTable | None
    driver: str | None
    firmware: str | None
    install: Mapping[str, str] | None
    mapping: tuple[LogicalNumber, ...] | None
    network: tuple[NpuPort, ...] | None
    cann: str | None = None  # of the host itself
    hccn: Mapping[str, str] | None = None  # /etc/hccn.conf
    errors: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Gid:
    """An address of an RDMA port, at its place in the port's table."""

    index: int
    address: str
    type: str | None
    interface: str | None


@dataclass(frozen=True, slots=True)
class RdmaPort:
    device: str
    port: int
    model: str | None
    state: str | None
    physical: str | None
    rate_gbps: float | None
    link_layer: str | None  # InfiniBand or Ethernet
    interfaces: tuple[str, ...]  # the kernel's network interfaces on it
    addresses: tuple[str, ...]
    bus: str | None
    numa_node: int | None
    gids: tuple[Gid, ...]

    @property
    def name(self) -> str:
        """As NCCL names it."""
        return f"{self.device}:{self.port}"


@dataclass(frozen=True, slots=True)
class Rdma:
    ports: tuple[RdmaPort, ...]
    outward: tuple[str, ...]  # interfaces that lead out of the host
    cards: int  # on the PCI bus, whatever the drivers say
    peer_modules: tuple[str, ...]  # loaded, by which a card reaches a GPU's memory


@dataclass(frozen=True, slots=True)
class ImageSaid:
    """What an image's own configuration says, before it is pulled."""

    where: str  # host, registry or missing
    arches: tuple[str, ...]
    env: Mapping[str, str]
    download_mib: int | None
    why: str = ""

    @property
    def need_mib(self) -> int:
        """Where docker keeps images: layers are compressed, and the archive lies beside what it becomes."""
        return (self.download_mib or 0) * 3 if self.where == "registry" else 0


@dataclass(frozen=True, slots=True)
class Trial:
    """Whether a device could be allocated and computed on."""

    tool: str
    index: int
    tried: bool
    error: str | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class HostFacts:
    devices: Mapping[str, tuple[Device, ...]]
    device_errors: Mapping[str, str]
    system: System | None
    processor: Processor | None
    docker: Docker | None
    mounts: tuple[Mounted, ...] | None
    paths: tuple[PathFacts, ...] | None
    clock: Clock | None
    interfaces: tuple[Interface, ...] | None
    ports: tuple[Port, ...] | None
    bus: Mapping[str, int] | None
    nvidia: Nvidia | None
    ascend: Ascend | None
    time: float
    unknown: Mapping[str, str] = field(default_factory=dict)
    image: ImageSaid | None = None
    use: tuple[Trial, ...] | None = None
    pci_ids: Mapping[str, int] | None = None  # vendor:device of accelerators -> how many
    rdma: Rdma | None = None
    emulated: bool = False  # devices are made up, as in a lab
    clock_offset_s: float | None = None  # to the controller's clock; positive: the host is ahead
    schema_version: int = SCHEMA_VERSION

    def path(self, wanted: str) -> PathFacts | None:
        return next((path for path in self.paths or () if path.path == wanted.rstrip("/")), None)
