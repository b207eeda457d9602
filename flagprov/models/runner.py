"""The keys by which the nodes of one replica enter each other."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RunnerKeys:
    """OpenSSH texts; they never leave the replica and the controller that made them."""

    key: str = field(repr=False)
    public_key: str
    host_key: str = field(repr=False)
    public_host_key: str
