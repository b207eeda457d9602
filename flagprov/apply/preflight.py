"""All pairs of a replica's hosts reach each other before the first rank starts; the bad one is named."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from flagprov.cluster import BY_RAY, RAY_HEAD_ONLY, meeting_port, ray_ports, rendezvous_port, ssh_port
from flagprov.errors import HostError
from flagprov.models.desired import Replica
from flagprov.models.fleet import Host
from flagprov.models.observed import Survey
from flagprov.models.release import Release, Variant
from flagprov.report.text import names
from flagprov.runner import spanning
from flagprov.serving import Serving, host_path, launch_inputs, site_reference
from flagprov.transport import Connections, Session

HOLDING = ("running", "restarting", "paused")  # states of a container that may hold its ports
REMEDY = (
    "open the path between them: firewall, MTU, or flagprov_cluster_address and flagprov_cluster_interface"
)
OTHER_IMAGE = "leave one digest in the release's lock, remove the other image (docker rmi), and deploy again"
Entry = Literal["container", "host"]  # whose sshd; that of a host listens already


def entries(servings: Iterable[Serving]) -> dict[str, Entry]:
    """Replica -> how its nodes are entered; without those whose nodes nobody enters."""
    said = {each.replica.name: spanning.ssh_document(launch_inputs(each)) for each in servings}
    return {name: "host" if way["by_host"] else "container" for name, way in said.items() if way}


def ports_of(replica: Replica, rank: int, variant: Variant, entry: Entry | None = None) -> list[int]:
    """Where a rank is tried: the ports of every head, and what its launch needs beside them."""
    ports = {rendezvous_port(replica.port), meeting_port(replica.port)}
    if variant.launch.kind in BY_RAY:
        left_out = RAY_HEAD_ONLY if rank else ()
        named = ray_ports(replica.port).items()
        ports |= {port for name, port in named if "worker" not in name and name not in left_out}
        if rank and entry == "container":
            ports.add(ssh_port(replica.port, variant))
    return sorted(ports)


def new_groups(
    replicas: Sequence[Replica], surveys: Mapping[str, Survey], going: Collection[str]
) -> list[Replica]:
    """Replicas over several hosts that start now; of one that runs somewhere, the ports are in use."""
    running = {
        each.replica for survey in surveys.values() for each in survey.running if each.state in HOLDING
    }
    return [
        replica
        for replica in replicas
        if replica.nodes and replica.name not in running and set(replica.hosts) <= set(going)
    ]


def preflight(
    connections: Connections,
    hosts: Sequence[Host],
    groups: Sequence[Replica],
    variants: Mapping[str, Variant],
    release: Release,
    entered: Mapping[str, Entry],
) -> dict[str, HostError]:
    """Host -> what is wrong with it; empty where every pair meets, and all have the same."""
    requests = {
        node.host: request_of(replica, rank, variants[node.host], entered.get(replica.name))
        for replica in groups
        for rank, node in enumerate(replica.nodes)
    }
    for host in hosts:
        if host.name in requests:
            image = variants[host.name].image
            requests[host.name] |= {
                "weights": host_path(release.weights.path, release, host),
                "image": {
                    "reference": site_reference(image.reference, host.registries),
                    "digests": list(image.digests),
                },
            }
    asked = [host for host in hosts if host.name in requests]

    def ask(session: Session) -> Mapping[str, Any]:
        return session.ask(requests[session.host.name])

    answers = connections.each(asked, ask) if asked else {}
    broken = {name: answer for name, answer in answers.items() if isinstance(answer, HostError)}
    said = {name: answer for name, answer in answers.items() if not isinstance(answer, HostError)}
    unlike: dict[str, HostError] = {}
    for replica in groups:
        unlike |= differences({name: said[name] for name in replica.hosts if name in said})
    return broken | unlike | verdicts({name: answer["failures"] for name, answer in said.items()})


def differences(said: Mapping[str, Mapping[str, Any]]) -> dict[str, HostError]:
    """Hosts of one replica that have something else than most of them, or than the first."""
    found: dict[str, HostError] = {}
    mtus = {name: answer.get("mtu") for name, answer in said.items() if answer.get("mtu")}
    for name, usual, same in _unlike(mtus):
        message = f"its cluster interface has MTU {mtus[name]}, that of {names(same)} {usual}"
        found[name] = HostError(name, "preflight", message, remedy="set the same MTU on all of them")
    weights = {name: answer["weights"] for name, answer in said.items() if answer.get("weights")}
    for name, usual, same in _unlike(weights):
        file = min(path for path, _ in usual.items() ^ weights[name].items())
        here, there = (files.get(file, "none") for files in (weights[name], usual))
        message = f"its weights are not those of {names(same)}: {file} has {here} bytes here, {there} there"
        found[name] = HostError(name, "preflight", message, remedy="bring the same weights to all of them")
    images = {name: answer["image"] for name, answer in said.items() if answer.get("image")}
    for name, _, same in _unlike(images):
        message = f"its image is not that of {names(same)}, though both are accepted"
        found[name] = HostError(name, "preflight", message, remedy=OTHER_IMAGE)
    return found


def _unlike(values: Mapping[str, Any]) -> Iterator[tuple[str, Any, list[str]]]:
    """Each that differs, with the usual value and who has it."""
    told = list(values.values())
    usual = max(told, key=told.count, default=None)
    same = [name for name, value in values.items() if value == usual]
    yield from ((name, usual, same) for name, value in values.items() if value != usual)


def verdicts(said: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, HostError]:
    """One message per host: what is wrong here, else whom it does not reach."""
    found: dict[str, HostError] = {}
    for name, failures in said.items():
        here = [f"port {each['port']}: {each['why']}" for each in failures if not each["host"]]
        others: dict[str, list[str]] = {}
        for each in failures:
            if each["host"]:
                others.setdefault(f"{each['host']} ({each['why']})", []).append(str(each["port"]))
        away = [f"it does not reach {whom} at port {', '.join(ports)}" for whom, ports in others.items()]
        if here or away:
            found[name] = HostError(name, "preflight", "; ".join(here or away), remedy=REMEDY)
    return found


def request_of(replica: Replica, rank: int, variant: Variant, entry: Entry | None = None) -> dict[str, Any]:
    """What one host is asked: to listen as its rank will, and to reach every other."""
    peers: list[dict[str, Any]] = [
        {"host": node.host, "address": node.address, "ports": ports_of(replica, other, variant, entry)}
        for other, node in enumerate(replica.nodes)
        if other != rank
    ]
    if entry == "host" and not rank:
        peers = [{**peer, "sshd": ssh_port(replica.port, variant)} for peer in peers]
    node, ports = replica.nodes[rank], ports_of(replica, rank, variant, entry)
    return {
        "op": "preflight",
        "address": node.address,
        "interface": node.interface,
        "ports": ports,
        "peers": peers,
    }
