"""Image facts: what an image really is, found once per digest by a probe that runs inside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """None where the image does not have the part."""

    digest: str  # config digest, as `docker image inspect` says in Id
    arch: str
    python: str
    vllm: str | None = None
    options: tuple[str, ...] = ()  # long options that its `vllm serve` accepts, without dashes
    flagscale: str | None = None
    flagscale_deploy: str | None = (
        None  # where it reads deploy: experiment.deploy or experiment.runner.deploy
    )
    flaggems: str | None = None
    flaggems_enable: tuple[str, ...] = ()  # parameters of flag_gems.enable
    flaggems_error: str | None = None  # why it cannot be imported, where it cannot
    flaggems_by: str | None = None  # who of the image enables it: vllm (patched), vllm_fl, or nobody
    torch: str | None = None
    ray: str | None = None
    cuda: str | None = None
    cann: str | None = None
    ssh: bool = False  # its client
    sshd: bool = False
    user: int = 0  # whose processes it runs where nobody names another
    users: Mapping[str, int] = field(default_factory=dict)  # of its /etc/passwd
    env: Mapping[str, str] = field(default_factory=dict)  # the image's own environment
    schema_version: int = SCHEMA_VERSION
