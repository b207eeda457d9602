"""All pairs of a replica's hosts reach each other before the first rank starts; the bad one is named."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from flagprov.cluster import meeting_port, rendezvous_port
from flagprov.errors import HostError
from flagprov.models.desired import Replica
from flagprov.models.fleet import Host
from flagprov.models.observed import Survey
from flagprov.transport import Connections, Session

REMEDY = (
    "open the path between them: firewall, MTU, or flagprov_cluster_address and flagprov_cluster_interface"
)


def ports_of(replica: Replica, more: Collection[int] = ()) -> list[int]:
    """Where every rank is tried: the ports that the head has, and what the launch needs beside them."""
    return sorted({rendezvous_port(replica.port), meeting_port(replica.port), *more})


def new_groups(
    replicas: Sequence[Replica], surveys: Mapping[str, Survey], going: Collection[str]
) -> list[Replica]:
    """Replicas over several hosts that start now; of one that runs somewhere, the ports are in use."""
    running = {each.replica for survey in surveys.values() for each in survey.running}
    return [
        replica
        for replica in replicas
        if replica.nodes and replica.name not in running and set(replica.hosts) <= set(going)
    ]


def preflight(
    connections: Connections, hosts: Sequence[Host], groups: Sequence[Replica]
) -> dict[str, HostError]:
    """Host -> what is wrong with it; empty where every pair meets."""
    requests = {node.host: _request(replica, node.host) for replica in groups for node in replica.nodes}
    asked = [host for host in hosts if host.name in requests]

    def ask(session: Session) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = session.ask(requests[session.host.name])["failures"]
        return found

    answers = connections.each(asked, ask) if asked else {}
    broken = {name: answer for name, answer in answers.items() if isinstance(answer, HostError)}
    said = {name: answer for name, answer in answers.items() if not isinstance(answer, HostError)}
    return broken | verdicts(said)


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


def _request(replica: Replica, host: str) -> dict[str, Any]:
    ports = ports_of(replica)
    own = next(node for node in replica.nodes if node.host == host)
    peers = [
        {"host": node.host, "address": node.address, "ports": ports}
        for node in replica.nodes
        if node.host != host
    ]
    return {"op": "preflight", "address": own.address, "ports": ports, "peers": peers}
