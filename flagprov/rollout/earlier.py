"""Where a rollback leads: the fleet as it was before the last run that changed something; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Entry = Mapping[str, Any]
Place = tuple[str, str]  # host, replica


def previous(histories: Mapping[Place, Sequence[Entry]]) -> dict[Place, int | None]:
    """The number that each place goes back to, by the histories of all; None where it has none.

    One run is taken back everywhere, so that versions are not mixed: the newest that left something in
    place. What was put back belongs to the run that made it first.
    """
    served = _served(histories)
    runs = sorted({str(entry["run"]) for entries in histories.values() for entry in entries}, reverse=True)
    newest = max((str(entries[-1]["run"]) for entries in histories.values() if entries), default="")
    goals: dict[Place, int | None] = {}
    for run in runs:
        if run <= newest:
            goals = {place: _before(entries, run, served[place[1]]) for place, entries in histories.items()}
            if any(_differs(entries, goals[place]) for place, entries in histories.items()):
                break
    return goals


def _served(histories: Mapping[Place, Sequence[Entry]]) -> dict[str, set[str]]:
    """Replica -> the runs that served on all of its hosts."""
    found: dict[str, set[str]] = {}
    for (_, replica), entries in histories.items():
        done = {str(entry["run"]) for entry in entries if entry["result"] == "done"}
        found[replica] = found.get(replica, done) & done
    return found


def _before(entries: Sequence[Entry], run: str, served: set[str]) -> int | None:
    for entry in reversed(entries):
        if entry["result"] == "done" and entry["run"] in served and str(entry["run"]) < run:
            return int(entry["number"])
    return None


def _differs(entries: Sequence[Entry], goal: int | None) -> bool:
    """Whether going there changes anything."""
    if goal is None or not entries:
        return False
    there = next(entry for entry in entries if entry["number"] == goal)
    return bool(entries[-1]["result"] != "done" or there["what"] != entries[-1]["what"])
