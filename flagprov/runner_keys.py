"""Makes a replica's own key pair and host key, and writes what its nodes know each other by."""

from __future__ import annotations

from collections.abc import Sequence

from flagprov.models.desired import Node
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


def runner_files(keys: RunnerKeys, replica: str, nodes: Sequence[Node], port: int) -> dict[str, str]:
    """Name -> text of the files in a node's `run/ssh`; every one of them is for its owner alone."""
    allowed = ",".join(node.address for node in nodes)
    return {
        "key": keys.key,
        "host_key": keys.host_key,
        # The daemon's own configuration forces the command; this says from where, and forbids the rest.
        "authorized_keys": f'restrict,from="{allowed}" {keys.public_key} flagprov {replica}\n',
        "known_hosts": "".join(f"[{node.address}]:{port} {keys.public_host_key}\n" for node in nodes),
    }
