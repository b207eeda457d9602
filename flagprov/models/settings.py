"""Settings: a fleet's own changes to a release (`flagprov_settings`) and one run's `--set`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from flagprov.models.release import EnvName, Operators, ServeName, ServeValue, Strict


class Settings(Strict):
    """All optional; what is not set is the release's."""

    nodes: int | None = Field(None, ge=1)
    replicas: int | None = Field(None, ge=1, description="over the whole fleet; default: one per host")
    devices: int | None = Field(None, ge=1, description="accelerators per node")
    port: int | None = Field(None, ge=1, le=65535)
    image: str | None = Field(None, description="digest or reference to serve instead of the release's")
    operators: Operators | None = None
    serve: dict[ServeName, ServeValue] = Field({}, description="null takes the release's argument away")
    env: dict[EnvName, str | None] = Field({}, description="null takes the release's variable away")
    shm_size: Annotated[str, Field(pattern=r"^[0-9]+[bkmgBKMG]?$")] | None = None
    container_profile: Literal["card", "least"] | None = Field(
        None, description="least: what the chip needs in place of the card's privileges"
    )
    deadline_s: int | None = Field(None, ge=1)
