"""What `flagprov releases` shows: plain dictionaries for tables, JSON and YAML."""

from __future__ import annotations

from typing import Any

from flagprov.models.release import Release


def summary(release: Release) -> dict[str, Any]:
    """One line of `releases list`."""
    return {
        "name": release.name,
        "title": release.title,
        "model": release.model.name,
        "card": release.card.name if release.card else None,
        "weights": release.weights.source,
        "chips": {
            chip: {
                "operators": variant.operators,
                "devices": variant.devices,
                "nodes": variant.nodes,
                "image": variant.image.reference,
                "port": variant.serve.get("port"),
                "served_model_name": variant.serve.get("served_model_name"),
            }
            for chip, variant in release.variants.items()
        },
        "warnings": len(release.warnings)
        + sum(len(variant.warnings) for variant in release.variants.values()),
        "resolutions": sum(len(variant.resolutions) for variant in release.variants.values()),
    }


def as_dict(release: Release) -> dict[str, Any]:
    """All of `releases show`; as YAML it is a release file again. Only what is set is there."""
    return {
        "schema_version": release.schema_version,
        **release.model_dump(mode="json", exclude_defaults=True),
    }
