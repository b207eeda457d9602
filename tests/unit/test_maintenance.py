"""Hosts that somebody took out of changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flagprov import maintenance
from flagprov.errors import UsageError
from flagprov.host import survey
from flagprov.maintenance import cordoned
from flagprov.models.observed import Survey
from flagprov.preparation import Request


def seen(mark: dict[str, Any] | None) -> Survey:
    return Survey("h1", "x86_64", "Debian", "6", 2, 1, "20", None, {}, (), {}, {"cordoned": mark})


def test_who_why_and_the_way_out() -> None:
    problem = cordoned(seen({"by": "ann@ops", "since": "2026-01-02 03:04 UTC", "reason": "new fan"}))
    assert problem is not None
    assert problem.message == "cordoned by ann@ops on 2026-01-02 03:04 UTC: new fan"
    assert problem.remedy == "flagprov uncordon INVENTORY h1"
    assert cordoned(seen(None)) is None


def test_a_host_says_who_cordoned_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "STATE", str(tmp_path))
    assert survey._cordoned() is None
    (tmp_path / "cordoned.json").write_text(json.dumps({"by": "ann@ops", "reason": "new fan"}))
    mark = survey._cordoned()
    assert mark is not None
    assert (mark["by"], mark["reason"]) == ("ann@ops", "new fan")
    assert mark["since"].endswith(" UTC")


def test_a_whole_fleet_is_not_cordoned_by_an_empty_word() -> None:
    with pytest.raises(UsageError, match="no host is named"):
        maintenance.uncordon(Request(Path("x.ini"), limit=""), approve=lambda plan: True, on_event=print)
