"""Every case in tests/cases/diff: what a resource would change, from its spec and what was observed."""

import json
from pathlib import Path

import pytest

from flagprov.host.resources import load

CASES = Path(__file__).parents[2] / "cases" / "diff"


@pytest.mark.parametrize(
    "path", sorted(CASES.glob("*/*.json")), ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_diff(path: Path) -> None:
    case = json.loads(path.read_text())
    module = load(path.parent.name)
    found = module.diff(case["spec"], case["observed"], set(case.get("changed", [])))
    assert [list(change) for change in found] == case["changes"]


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown kind"):
        load("os.system")
