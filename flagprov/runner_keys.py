"""Makes a replica's own key pair and host key, and writes what its nodes know each other by."""

from __future__ import annotations

from collections.abc import Sequence

from flagprov.models.desired import Node, container_name
from flagprov.models.runner import RunnerKeys

PUBLIC = "key.pub"


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


def known_host(node: Node, keys: RunnerKeys) -> str:
    """Its own sshd's key and that of its container's, at whatever port: no history has these files, and
    what is put back may be entered the other way, or at another port."""
    found = (keys.public_host_key, node.host_key)
    return "".join(f"{node.address},[{node.address}]:* {key}\n" for key in found if key)


def entry_options(replica: str, nodes: Sequence[Node], entry: str) -> str:
    """What stands before the key in root's authorized_keys: only the head enters, and only that container.

    The host puts its own interpreter for PYTHON."""
    command = f"PYTHON -I {entry} {container_name(replica)}"
    return f'restrict,from="{nodes[0].address}",command="{command}"'


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
        "known_hosts": "".join(known_host(node, keys) for node in nodes),
        PUBLIC: keys.public_key + "\n",
    }
