"""Operators are switched by one setting, and enforce_eager follows it."""

from __future__ import annotations

from typing import Any

import pytest

from flagprov.catalog.loader import load_release, variant_for
from flagprov.models.release import Variant
from flagprov.settings import apply_settings, merge_settings


def applied(release: str, chip: str, **sets: Any) -> Variant:
    found = load_release(release)
    return apply_settings(found, variant_for(found, chip), merge_settings({}, sets))


@pytest.mark.parametrize(
    ("release", "sets", "operators", "eager"),
    [
        ("qwq-32b", {}, "flaggems", True),
        ("qwq-32b", {"operators": "native"}, "native", None),
        ("qwq-32b", {"operators": "native", "serve": {"enforce_eager": True}}, "native", True),
        ("qwq-32b", {"serve": {"enforce_eager": False}}, "flaggems", False),
        ("robobrain2-7b-fp8", {}, "native", False),
        ("robobrain2-7b-fp8", {"operators": "flaggems"}, "flaggems", True),
    ],
)
def test_enforce_eager_follows(
    release: str, sets: dict[str, Any], operators: str, eager: bool | None
) -> None:
    variant = applied(release, "nvidia-h100", **sets)
    assert (variant.operators, variant.serve.get("enforce_eager")) == (operators, eager)
    assert variant.env.get("USE_FLAGGEMS", "0") == ("1" if operators == "flaggems" else "0")
