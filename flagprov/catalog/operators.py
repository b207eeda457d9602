"""The registry `operators.yaml`: what FlagGems must leave alone on a chip, in a version, for a model."""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from flagprov.documents.check import read_model
from flagprov.documents.document import read
from flagprov.models.operators import Exclusion, OperatorRegistry
from flagprov.versions import begins_with

_FILE = Path(__file__).parent / "operators.yaml"


@cache
def exclusions() -> tuple[Exclusion, ...]:
    """All of them."""
    return read_model(read(_FILE), OperatorRegistry).exclusions


def exclusions_for(chip: str, version: str | None, model: str) -> tuple[Exclusion, ...]:
    """Those that hold here; where the version is not known, any of them may, so all do."""
    return tuple(
        each
        for each in exclusions()
        if (not each.chips or chip in each.chips)
        and (not each.flaggems or version is None or any(begins_with(version, b) for b in each.flaggems))
        and (not each.models or any(fnmatchcase(model.lower(), p.lower()) for p in each.models))
    )
