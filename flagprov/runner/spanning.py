"""A replica over several hosts by Ray: what each node starts, and how FlagScale gets at the nodes; pure."""

from __future__ import annotations

from typing import Any

from flagprov.cluster import BY_RAY, RAY_HEAD_ONLY, ray_ports, rendezvous_port, ssh_port
from flagprov.errors import ReleaseError
from flagprov.models.release import LaunchKind
from flagprov.runner.inputs import LaunchInputs
from flagprov.runner.user import ROOT, check_user, container_user

HOSTFILE = "conf/hostfile"
KEYS = "/run/flagprov-ssh"  # in the container, which may only read there


def spans(launch: LaunchInputs) -> bool:
    return len(launch.replica.hosts) > 1


def effective_kind(launch: LaunchInputs) -> LaunchKind:
    """The release's kind; over several hosts FlagScale needs an sshd of root's, Ray alone does not."""
    kind = launch.variant.launch.kind
    if kind != "flagscale" or not spans(launch):
        return kind
    no_sshd = launch.facts is not None and not launch.facts.sshd and not by_host(launch)
    others = container_user(launch.variant, launch.facts) != ROOT  # who cannot read the keys
    return "ray" if no_sshd or others else kind


def by_host(launch: LaunchInputs) -> bool:
    """Whether FlagScale enters the nodes by their hosts' own sshd and `docker exec`.

    Only where the image has no sshd and the release names the port of theirs: Ray alone needs no key on any
    host. FlagScale quotes that way wrongly for all kinds of devices but these two.
    """
    facts = launch.facts
    if not spans(launch) or facts is None or facts.sshd or not facts.ssh:
        return False
    if launch.variant.launch.kind != "flagscale" or launch.variant.launch.ssh_port is None:
        return False
    keys = all(node.host_key for node in launch.replica.nodes)
    return keys and launch.chip.resource_type in ("gpu", "cpu")


def check_image(launch: LaunchInputs) -> None:
    check_user(launch)
    kind = effective_kind(launch)
    if kind == "ray" and not spans(launch):
        raise ReleaseError(
            f"release {launch.release}: launch kind ray needs several nodes",
            remedy="set nodes to 2 or more, or use launch.kind flagscale or nodes",
        )
    if spans(launch) and kind in BY_RAY and launch.facts is not None and not launch.facts.ray:
        raise ReleaseError(
            f"image {launch.variant.image.reference} has no Ray, by which launch kind {kind} spans hosts",
            remedy="use launch.kind nodes, or an image with Ray",
        )


def rank_environment(launch: LaunchInputs) -> dict[str, str]:
    """What a card's own script knows its place by; the other kinds have options for it."""
    if not spans(launch) or effective_kind(launch) != "command":
        return {}
    nodes, rank = launch.replica.nodes, str(launch.rank)
    return {
        "RANK": rank,
        "NODE_RANK": rank,
        "NNODES": str(len(nodes)),
        "MASTER_ADDR": nodes[0].address,
        "MASTER_PORT": str(rendezvous_port(launch.replica.port)),
        "VLLM_HOST_IP": nodes[launch.rank].address,
    }


def ray_document(launch: LaunchInputs) -> dict[str, Any] | None:
    """What a node's launcher needs to join the replica's Ray; None where there is none."""
    if not spans(launch) or effective_kind(launch) not in BY_RAY:
        return None
    nodes = launch.replica.nodes
    return {
        "address": nodes[launch.rank].address,
        "head": nodes[0].address,
        "nodes": len(nodes),
        "ports": ray_ports(launch.replica.port),
        "resources": resources(launch),
        "own": own_variables(launch),
    }


def own_variables(launch: LaunchInputs) -> list[str]:
    """What each node has its own value of: vLLM would give all workers that of the head."""
    return sorted(
        {*launch.chip.collective_env, *(name for name in launch.env if name.startswith("NCCL_IB_"))}
    )


def resources(launch: LaunchInputs) -> list[str]:
    """Options of `ray start` that say what a node has; vllm-ascend asks Ray for `NPU`."""
    count, kind = slots(launch), launch.chip.resource_type
    if kind in ("gpu", "cpu"):
        return [f"--num-{kind}s={count}"]
    return [f'--resources={{"{kind}": {count}}}']


def ssh_document(launch: LaunchInputs) -> dict[str, Any] | None:
    """How the nodes are entered: only FlagScale does that."""
    if not spans(launch) or effective_kind(launch) != "flagscale":
        return None
    return {
        "port": ssh_port(launch.replica.port, launch.variant),
        "address": launch.replica.nodes[launch.rank].address,
        "by_host": by_host(launch),
        "keys": KEYS,
    }


def spanning_ports(launch: LaunchInputs) -> list[int]:
    """What a node listens on beside the engine; Ray's workers take theirs as they come."""
    ray, ssh = ray_document(launch), ssh_document(launch)
    left_out = RAY_HEAD_ONLY if launch.rank else ()
    named = ray["ports"].items() if ray is not None else ()
    ports = [port for name, port in named if "worker" not in name and name not in left_out]
    if ssh and launch.rank and launch.facts is not None and not ssh["by_host"]:
        ports.append(ssh["port"])  # whose sshd it will be depends on the image
    return ports


def hostfile(launch: LaunchInputs) -> str:
    """FlagScale's own form; the head has to be the first."""
    lines = [
        f"{node.address} slots={slots(launch)} type={launch.chip.resource_type}"
        for node in launch.replica.nodes
    ]
    return "\n".join(lines) + "\n"


def slots(launch: LaunchInputs) -> int:
    return max(1, len(launch.replica.devices))
