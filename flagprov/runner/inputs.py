"""What rendering needs to know of one node of one replica."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from flagprov.models.chip import Chip
from flagprov.models.desired import Replica
from flagprov.models.image import ImageFacts
from flagprov.models.release import Variant


@dataclass(frozen=True, slots=True)
class LaunchInputs:
    """All values are final: release, chip and settings are merged already."""

    release: str
    replica: Replica
    variant: Variant  # after settings
    chip: Chip
    model_path: str  # inside the container, as the release has it
    env: Mapping[str, str] = field(default_factory=dict)  # chip + release + settings + operators
    model: str = ""  # as its publisher calls it
    facts: ImageFacts | None = None  # None: never probed, so nothing is checked and nothing is adapted
    rank: int = 0  # in replica.hosts
    logical: Mapping[int, int] = field(default_factory=dict)  # device node -> number for processes
    stop_grace_s: int = 60  # SIGTERM to the end of the engine; docker's own time to stop must be longer
    settings_keys: frozenset[str] = frozenset()  # serve keys that come from settings, for the right error
