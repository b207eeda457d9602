"""The registry of operators that FlagGems must not replace: chip x FlagGems version x model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from flagprov.models.release import Name, Strict


class Exclusion(Strict):
    """Operators that are left to the vendor's own library, where all that is said here fits."""

    chips: tuple[Name, ...] = Field((), description="names of chips; none: every chip")
    flaggems: tuple[str, ...] = Field((), description="beginnings of versions; none: every version")
    models: tuple[str, ...] = Field((), description="patterns for the model's name; none: every model")
    leave_out: tuple[str, ...] = Field(min_length=1, description="functions of FlagGems, such as softmax")
    reason: str = Field(min_length=1)
    link: str = Field(min_length=1)


class OperatorRegistry(Strict):
    schema_version: Literal[1] = 1
    exclusions: tuple[Exclusion, ...]
