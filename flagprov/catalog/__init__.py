"""The catalog: releases as YAML files, and their loader. Nothing heavy is imported before it is called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flagprov.catalog.loader import (
        list_releases,
        load_release,
        locked_files,
        locked_names,
        release_names,
        unknown_release,
        variant_for,
        with_lock,
    )

__all__ = [
    "list_releases",
    "load_release",
    "locked_files",
    "locked_names",
    "release_names",
    "unknown_release",
    "variant_for",
    "with_lock",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from flagprov.catalog import loader

    return getattr(loader, name)
