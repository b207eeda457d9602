"""Lines of keys, and scalars that YAML 1.1 would turn into something else."""

from __future__ import annotations

from typing import Any

import pytest

from flagprov.documents.check import _PATTERNS
from flagprov.documents.document import dotted, parse
from flagprov.errors import ReleaseError
from flagprov.models.chip import Chip
from flagprov.models.release import Lock, Release
from flagprov.models.settings import Settings

TEXT = """\
a: 1
b:
  - x: 1
  - y: 2
    z: 3
base: &base {k: 1, m: 2}
own:
  <<: *base
  k: 3
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ((), 1),
        (("a",), 1),
        (("b", 1), 4),
        (("b", 1, "z"), 5),
        (("own", "k"), 9),
        (("own", "m"), 6),
        (("b", 9), 2),
    ],
)
def test_lines(path: tuple[str | int, ...], line: int) -> None:
    assert parse(TEXT, "f").line(path) == line


def test_merge_keys() -> None:
    assert parse(TEXT, "f").value["own"] == {"k": 3, "m": 2}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12:30", "12:30"),
        ("1048576:1048576", "1048576:1048576"),
        ("010", "010"),
        ("1_000", "1_000"),
        ("2026-01-31", "2026-01-31"),
        ("1234e56", "1234e56"),
        ("1e-3", 0.001),
        ("0.9", 0.9),
        ("1.5e3", 1500.0),
        ("-7", -7),
        ("0x10", 16),
        ("0.8.0", "0.8.0"),
        ("yes", True),
        ("null", None),
        ("=", "="),
        (".inf", ".inf"),
    ],
)
def test_scalars(text: str, value: Any) -> None:
    read = parse(f"k: {text}", "f").value["k"]
    assert read == value
    assert type(read) is type(value)


def test_dotted() -> None:
    assert dotted(("variants", "ascend-a2", "container", "mounts", 0, "source")) == (
        "variants.ascend-a2.container.mounts[0].source"
    )


def test_an_alias_may_be_used_often() -> None:
    assert parse("a: &a [1, 2]\nb: [*a, *a]", "f").value["b"] == [[1, 2], [1, 2]]


def test_merge_of_a_scalar() -> None:
    with pytest.raises(ReleaseError, match="f:1:"):
        parse("a: {<<: 1}", "f")


def test_every_pattern_of_the_models_is_said_in_words() -> None:
    for model in (Release, Chip, Lock, Settings):
        assert set(_patterns(model.model_json_schema())) <= set(_PATTERNS)


def _patterns(schema: Any) -> list[str]:
    if isinstance(schema, list):
        return [pattern for item in schema for pattern in _patterns(item)]
    if not isinstance(schema, dict):
        return []
    found = [schema["pattern"]] if isinstance(schema.get("pattern"), str) else []
    found += list(schema.get("patternProperties", {}))
    return found + [pattern for value in schema.values() for pattern in _patterns(value)]
