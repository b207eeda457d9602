"""Chips: one YAML file each, and their loader."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flagprov.models.chip import Chip

_DIRECTORY = Path(__file__).parent


def chip_names() -> tuple[str, ...]:
    """Names of all chips; no file is opened."""
    return tuple(sorted(file.stem for file in _DIRECTORY.glob("*.yaml")))


def load_chips() -> dict[str, Chip]:
    """Every chip, by name."""
    return dict(_chips())


@cache
def _chips() -> dict[str, Chip]:
    from flagprov.documents.check import read_model
    from flagprov.documents.document import read
    from flagprov.models.chip import Chip

    return {name: read_model(read(_DIRECTORY / f"{name}.yaml"), Chip) for name in chip_names()}
