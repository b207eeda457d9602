"""Makes a replica's own key pair and host key, and writes what its nodes know each other by."""

from __future__ import annotations

from collections.abc import Sequence

from flagprov.models.desired import Node, container_name
from flagprov.models.runner import RunnerKeys


def make_runner_keys() -> RunnerKeys:
    """New at every call."""
    return RunnerKeys(*_pair(), *_pair())


def _pair() -> tuple[str, str]:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    private = Ed25519PrivateKey.generate()
    text = private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    public = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return text, public


def entry_files(keys: RunnerKeys, nodes: Sequence[Node]) -> dict[str, str]:
    """The same for the head of nodes that are entered by their hosts' own sshd; the others need none."""
    return {"key": keys.key, "known_hosts": "".join(known_host(node, node.host_key) for node in nodes[1:])}


def known_host(node: Node, key: str) -> str:
    """At whatever port: no history has these files, and what is put back may be at another one."""
    return f"{node.address},[{node.address}]:* {key}\n"


def entry_line(keys: RunnerKeys, replica: str, nodes: Sequence[Node], entry: str) -> str:
    """What root's authorized_keys of a host gets: only the head enters, and only that container.

    The host puts its own interpreter for PYTHON."""
    command = f"PYTHON -I {entry} {container_name(replica)}"
    allowed = f'restrict,from="{nodes[0].address}",command="{command}"'
    return f"{allowed} {keys.public_key} {mark(replica)}"


def mark(replica: str) -> str:
    """By which a replica's line is known again."""
    return f"flagprov {replica}"


def runner_files(keys: RunnerKeys, replica: str, nodes: Sequence[Node]) -> dict[str, str]:
    """Name -> text of the files in a node's folder of keys; every one of them is for its owner alone."""
    allowed = ",".join(node.address for node in nodes)
    return {
        "key": keys.key,
        "host_key": keys.host_key,
        # The daemon's own configuration forces the command; this says from where, and forbids the rest.
        "authorized_keys": f'restrict,from="{allowed}" {keys.public_key} {mark(replica)}\n',
        "known_hosts": "".join(known_host(node, keys.public_host_key) for node in nodes),
    }
