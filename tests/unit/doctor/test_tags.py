"""Names of images against tests/cases/tags: a name is a .txt, FLAGPROV_UPDATE_CASES=1 makes its .json."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest

from flagprov.doctor.tags import parse
from flagprov.versions import begins_with, key, major, older

CASES = Path(__file__).parents[2] / "cases" / "tags"


@pytest.mark.parametrize("case", sorted(CASES.glob("*.txt")), ids=lambda path: path.stem)
def test_a_name(case: Path) -> None:
    found = asdict(parse(case.read_text().strip()))
    if os.environ.get("FLAGPROV_UPDATE_CASES"):
        case.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    assert found == json.loads(case.with_suffix(".json").read_text())


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ("25.0.rc1", "25.0.0"),
        ("25.0.rc1", "25.0.rc2"),
        ("25.0.rc1", "25.2.0"),
        ("24.1.rc3.b999", "24.1.0"),
        ("8.2rc1.alpha002", "8.2.0"),
        ("535.183.01", "535.183.06"),
        ("535.183.06", "550.54.15"),
        ("20.10.8", "20.10.24+dfsg1"),
        ("20.10.24+dfsg1", "24.0.0"),
        ("9.9", "10.0"),
    ],
)
def test_order(first: str, then: str) -> None:
    assert older(first, then)
    assert not older(then, first)


@pytest.mark.parametrize(
    ("one", "other"), [("25.0", "25.0.0"), ("20.10.24+dfsg1", "20.10.24"), ("24.0.7-ce", "24.0.7")]
)
def test_equal(one: str, other: str) -> None:
    assert not older(one, other)
    assert not older(other, one)
    assert key(one) == key(other)


def test_parts() -> None:
    assert major("12.4") == 12
    assert major("v1") is None
    assert begins_with("8.2rc1.alpha002", "8.2")
    assert begins_with("8.2.rc1", "8.2")
    assert not begins_with("8.25", "8.2")
