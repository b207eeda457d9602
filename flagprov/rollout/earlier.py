"""What the hosts' histories say together: where a rollback leads, and who set what; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flagprov.report.text import names

Entry = Mapping[str, Any]
Place = tuple[str, str]  # host, replica


def previous(histories: Mapping[Place, Sequence[Entry]]) -> dict[Place, int | None]:
    """The number that each place goes back to, by the histories of all; None where it has none.

    One run is taken back everywhere, so that versions are not mixed: the newest that left something in
    place. What was put back belongs to the run that made it first.
    """
    served = _served(histories)
    runs = sorted({str(entry["run"]) for entries in histories.values() for entry in entries}, reverse=True)
    newest = max(map(_newest, histories.values()), default="")
    goals: dict[Place, int | None] = dict.fromkeys(histories)
    for run in runs:
        if run <= newest:
            goals = {place: _before(entries, run, served[place[1]]) for place, entries in histories.items()}
            if any(_differs(entries, goals[place]) for place, entries in histories.items()):
                break
    return goals


def _newest(entries: Sequence[Entry]) -> str:
    """The run that is in place, or was to be; what was not put back in the end is no older one's work."""
    for entry in reversed(entries):
        if entry["result"] == "done" or not entry.get("restores"):
            return str(entry["run"])
    return ""


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


def who_set_what(histories: Mapping[Place, Sequence[Entry]]) -> tuple[str, ...]:
    """What is in place by its sources (release, settings, --set), and whose work it is; alike ones once."""
    found: dict[str, list[str]] = {}
    for (_, replica), entries in histories.items():
        done = [entry for entry in entries if entry["result"] == "done"]
        if done:
            mine = found.setdefault(_sources(done[-1]), [])
            mine += [] if replica in mine else [replica]
    return tuple(f"{names(replicas)}: {text}" for text, replicas in found.items())


def _sources(entry: Entry) -> str:
    said = [f"release {entry.get('release', 'unknown')}"]
    if entry.get("settings"):
        said.append(f"flagprov_settings ({', '.join(map(str, entry['settings']))})")
    said += [f"--set {text}" for text in entry.get("set") or ()]
    return f"{', '.join(said)}; by {entry.get('by')} at {entry.get('at')}: {entry.get('command')}"
