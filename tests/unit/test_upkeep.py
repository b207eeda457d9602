"""What a teardown takes away, and what it leaves and says so."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from test_placement_groups import CHIP, wish

from flagprov.models.observed import Running, Survey
from flagprov.upkeep import removal, staying

ONE = Running("m-0", "m", CHIP.name, ("h0",), (0,), 9010, "running")
OTHER = Running("n-0", "n", CHIP.name, ("h0",), (1,), 9011, "running")


def survey(**weights: str) -> Survey:
    """m-0 and n-0 run, with these weights."""
    records = {f"{release}-0": {"weights": path} for release, path in weights.items()}
    return replace(wish(0, running=(ONE, OTHER)).survey, records=records)


@pytest.mark.parametrize(
    ("seen", "release", "gone"),
    [
        (survey(m="/srv/m", n="/srv/n"), "m", ["/srv/m"]),
        (survey(m="/srv/m", n="/srv/m"), "m", []),  # the other one needs them
        (survey(m="/srv/m", n="/srv/m"), None, ["/srv/m"]),
    ],
)
def test_weights_go_by_their_manifest_where_nobody_else_has_them(
    seen: Survey, release: str | None, gone: list[str]
) -> None:
    found = [each for each in removal(seen, release, True) if each.name.startswith("/srv")]
    assert [(each.kind, each.name) for each in found] == [("weights", path) for path in gone]
    assert all(each.spec["absent"] and each.spec["reason"] for each in found)
    assert not [each for each in removal(seen, release, False) if each.kind == "weights"]


def test_what_stays_is_said() -> None:
    asked: list[dict[str, Any]] = []

    def ask(payload: dict[str, Any]) -> dict[str, Any]:
        asked.append(payload)
        return {"kept": ["/srv/m is on a share"]}

    session: Any = SimpleNamespace(ask=ask, host=SimpleNamespace(name="h0"))
    resources = removal(survey(m="/srv/m", n="/srv/n"), "m", True)
    assert staying(session, resources) == ["h0: /srv/m is on a share"]
    assert asked == [{"op": "kept", "weights": ["/srv/m"], "going": ["flagprov-m-0"]}]
    assert staying(session, removal(survey(m="/srv/m"), "m", False)) == []
    assert len(asked) == 1
