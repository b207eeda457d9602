"""A release as a plain dictionary, as a person would write it."""

from __future__ import annotations

from typing import Any

from flagprov.models.release import Release


def as_dict(release: Release) -> dict[str, Any]:
    """All of `releases show`; as YAML it is a release file again. Only what is set is there."""
    return {
        "schema_version": release.schema_version,
        **release.model_dump(mode="json", exclude_defaults=True),
    }
