"""Replicas over several hosts: how the model is cut over them, and where the nodes reach each other; pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from flagprov.errors import SettingsError
from flagprov.least import SHM
from flagprov.models.chip import Chip
from flagprov.models.desired import Node
from flagprov.models.fleet import Host
from flagprov.models.observed import Survey
from flagprov.models.release import Container, Release, Variant

ADDRESS = "flagprov_cluster_address"
INTERFACE = "flagprov_cluster_interface"
RDMA = "flagprov_cluster_rdma"
RENDEZVOUS = 1000  # from the replica's port to that at which its ranks meet; the launchers' is the next one
HIGHEST = 65535 - RENDEZVOUS - 1
# Ray's ports on every node, from the rendezvous port on; its workers take one each out of the last range.
RAY_PORTS = {
    "port": 2, "node-manager-port": 3, "object-manager-port": 4, "runtime-env-agent-port": 5,
    "dashboard-agent-listen-port": 6, "dashboard-agent-grpc-port": 7, "metrics-export-port": 8,
    "ray-client-server-port": 10, "dashboard-port": 11,
}  # fmt: skip
RAY_HEAD_ONLY = ("port", "ray-client-server-port", "dashboard-port")
BY_RAY = ("ray", "flagscale")  # launch kinds
SSH = 9
RAY_WORKERS = (100, 399)
HIGHEST_RAY = 65535 - RENDEZVOUS - RAY_WORKERS[1]
TENSOR, PIPELINE, DATA = "tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size"


def rendezvous_port(port: int) -> int:
    """Where the engine's ranks meet, on the head."""
    return port + RENDEZVOUS


def meeting_port(port: int) -> int:
    """Where the launchers meet before the engine starts, on the head."""
    return rendezvous_port(port) + 1


def ray_ports(port: int) -> dict[str, int]:
    """Fixed ports of Ray by the option of `ray start` that sets each."""
    base = rendezvous_port(port)
    low, high = RAY_WORKERS
    return {name: base + offset for name, offset in RAY_PORTS.items()} | {
        "min-worker-port": base + low, "max-worker-port": base + high
    }  # fmt: skip


def ssh_port(port: int, variant: Variant) -> int:
    """Where the nodes of a replica are entered: the release's own port, else one beside Ray's."""
    return variant.launch.ssh_port or rendezvous_port(port) + SSH


def node_ports(port: int, kind: str, ssh: int | None, *, head: bool) -> frozenset[int]:
    """All that a node of a replica over several hosts may listen on; the API is the head's alone."""
    base = rendezvous_port(port)
    held = {base, meeting_port(port)} | ({port} if head else set())
    if kind in BY_RAY:
        low, high = RAY_WORKERS
        held |= {*ray_ports(port).values(), *range(base + low, base + high), ssh or base + SSH}
    return frozenset(held)


def spread_over_nodes(
    release: Release, variant: Variant, chip: Chip, settings_keys: Collection[str] = ()
) -> Variant:
    """The variant as its `nodes` hosts serve it; raises SettingsError where that cannot be."""
    if variant.nodes == 1:
        return variant
    if variant.container.network != "host":
        raise SettingsError(
            f"{release.name}: container.network {variant.container.network} cannot span {variant.nodes} "
            "hosts: the ranks meet at ports of their hosts",
            remedy="leave `nodes` at 1, or use a release with container.network host",
        )
    kind = variant.launch.kind
    processors = chip.resource_type == "cpu"
    if kind == "flagscale" and processors and variant.launch.ssh_port is None:
        kind = "nodes"  # FlagScale spans hosts by Ray, which vLLM refuses on processors
    port, highest = variant.serve.get("port"), HIGHEST_RAY if kind in BY_RAY else HIGHEST
    if isinstance(port, int) and port > highest:
        raise SettingsError(
            f"{release.name}: port {port} leaves no room for the rendezvous at port + {RENDEZVOUS}",
            remedy=f"--set port=N, N at most {highest}",
        )
    if kind == "command":  # its script cuts the model
        return variant.model_copy(update={"container": _own_shm(variant)})
    if kind != "nodes" and processors:
        return variant  # Ray spans the hosts, and the engine runs on the head
    tensor, pipeline = layout(release, variant, chip, settings_keys)
    serve = {**variant.serve, TENSOR: tensor, PIPELINE: pipeline}
    launch = variant.launch.model_copy(update={"kind": kind})
    return variant.model_copy(update={"serve": serve, "launch": launch, "container": _own_shm(variant)})


def _own_shm(variant: Variant) -> Container:
    """Engines that are ended whenever another rank is lost would fill the host's /dev/shm for ever."""
    container = variant.container
    if container.ipc != "host":
        return container
    return container.model_copy(update={"ipc": "private", "shm_size": container.shm_size or SHM})


def layout(release: Release, variant: Variant, chip: Chip, settings_keys: Collection[str]) -> tuple[int, int]:
    """Sizes of tensor and pipeline parallelism: as they are asked for, else TP in a host and PP across."""
    total = variant.nodes * variant.devices
    asked = {way: _size(variant.serve.get(way)) for way in (TENSOR, PIPELINE, DATA)}
    published = release.variants.get(chip.name)
    if published is None or published.nodes == 1:
        # What a card says of one host is no wish for several.
        asked.update({way: None for way in (TENSOR, PIPELINE) if way not in settings_keys})
    if (asked[DATA] or 1) > 1:
        raise SettingsError(
            f"{release.name}: serve.{DATA} over several hosts is not supported",
            remedy=f"use replicas instead: --set replicas=N --set serve.{DATA}=null",
        )
    tensor, pipeline = asked[TENSOR], asked[PIPELINE]
    if tensor is None and pipeline is None:
        tensor = total if chip.tensor_parallel_across_nodes else variant.devices
    if tensor is None:
        tensor = max(1, total // pipeline) if pipeline else total
    if pipeline is None:
        pipeline = max(1, total // tensor)
    valid = layouts(total, release.model.attention_heads, across=chip.tensor_parallel_across_nodes)
    if (tensor, pipeline) not in valid:
        raise SettingsError(
            f"{release.name}: {TENSOR} {tensor} x {PIPELINE} {pipeline} does not fit "
            f"{variant.nodes} hosts x {variant.devices} devices on {chip.name}",
            remedy=_nearest(valid, tensor),
        )
    return tensor, pipeline


def layouts(total: int, heads: int | None, *, across: bool) -> tuple[tuple[int, int], ...]:
    """All (tensor, pipeline) that use every device; a chip without pipeline stages has one at most."""
    sizes = [size for size in range(1, total + 1) if total % size == 0 and not (heads and heads % size)]
    return tuple((size, total // size) for size in sizes if size == total or not across)


def _nearest(valid: Sequence[tuple[int, int]], tensor: int) -> str:
    near = sorted(valid, key=lambda pair: (abs(pair[0] - tensor), pair))[:3]
    if not near:
        return "no layout fits: change nodes or devices, so that nodes x devices divides the attention heads"
    ways = (f"--set serve.{TENSOR}={one} --set serve.{PIPELINE}={two}" for one, two in near)
    return f"possible: {', or '.join(ways)}"


def _size(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


class Unconnected(Exception):
    """It cannot be told where the nodes reach each other; names the host, and says why."""

    def __init__(self, host: str, message: str) -> None:
        super().__init__(message)
        self.host = host
        self.remedy = f"set {ADDRESS} and {INTERFACE} of {host} in the inventory"


def nodes_of(hosts: Sequence[Host], surveys: Mapping[str, Survey]) -> tuple[Node, ...]:
    """Address and interface of each: the inventory's, else those that carry the route to the others."""
    nodes = tuple(_node(host, hosts, surveys) for host in hosts)
    for node in nodes:
        if (":" in node.address) != (":" in nodes[0].address):
            raise Unconnected(
                node.host, f"its address {node.address} and {nodes[0].address} of {nodes[0].host} cannot meet"
            )
    return nodes


def _node(host: Host, hosts: Sequence[Host], surveys: Mapping[str, Survey]) -> Node:
    address, interface = _said(host, ADDRESS), _said(host, INTERFACE)
    own = _addresses(surveys[host.name])
    if not interface:
        if address:
            interface = next((name for name, value in own.items() if value == address), "")
            if not interface:
                raise Unconnected(host.name, f"no interface of it has the address {address}")
        else:
            interface = _towards_others(host, hosts, surveys)
    if not address:
        address = own.get(interface, "")
        if not address:
            raise Unconnected(host.name, f"its interface {interface} has no address")
    return Node(host.name, address, interface, _host_key(surveys[host.name]))


def _host_key(survey: Survey) -> str:
    """What the host says of its own sshd, where it is a key indeed."""
    said = str(survey.facts.get("host_key") or "")
    return said if re.fullmatch(r"ssh-ed25519 [A-Za-z0-9+/]+=*", said) else ""


def _towards_others(host: Host, hosts: Sequence[Host], surveys: Mapping[str, Survey]) -> str:
    others = [other for other in hosts if other.name != host.name]
    ways = {other.name: _way(surveys[host.name], _target(other, surveys[other.name])) for other in others}
    for name, interface in ways.items():
        if not interface:
            raise Unconnected(host.name, f"it has no route to {name}")
    if len(set(ways.values())) > 1:
        said = ", ".join(f"{name} through {interface}" for name, interface in ways.items())
        raise Unconnected(host.name, f"it reaches the others through several interfaces: {said}")
    return next(iter(ways.values()))


def _target(host: Host, survey: Survey) -> str:
    """The address of a host that others would use; empty where that is not known."""
    address, own = _said(host, ADDRESS), _addresses(survey)
    if address:
        return address
    if _said(host, INTERFACE):
        return own.get(_said(host, INTERFACE), "")
    if host.connection.address in own.values():
        return host.connection.address
    # Reached by a name or through a jump host: the interface that leads out.
    return own.get(_way(survey, "198.51.100.1") or _way(survey, "2001:db8::1"), "")


def _way(survey: Survey, target: str) -> str:
    """The interface of the longest route that covers the target; empty where there is none."""
    try:
        wanted = ipaddress.ip_address(target)
    except ValueError:
        return ""
    covering = []
    for route in (survey.facts.get("networks") or {}).get("routes", ()):
        network = ipaddress.ip_network(route["network"], strict=False)
        if wanted in network:
            covering.append((network.prefixlen, -int(route["metric"]), str(route["interface"])))
    return max(covering)[2] if covering else ""


def _addresses(survey: Survey) -> Mapping[str, str]:
    """Of each interface the first one: IPv4, and IPv6 where there is no other."""
    networks = survey.facts.get("networks") or {}
    return {**networks.get("addresses6", {}), **networks.get("addresses", {})}


def _said(host: Host, variable: str) -> str:
    return str(host.variables.get(variable) or "")
