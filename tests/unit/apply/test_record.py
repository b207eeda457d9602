"""What a run leaves behind on its controller."""

from __future__ import annotations

from pathlib import Path

from flagprov.apply.record import EVENTS, RunRecord
from flagprov.models.event import Event
from flagprov.models.plan import Plan
from flagprov.site import Site


def test_a_full_disk_keeps_no_event_from_the_user_and_ends_no_run(tmp_path: Path) -> None:
    heard: list[Event] = []
    record = RunRecord(Site(tmp_path), "deploy", Plan("deploy", "m", ()), heard.append)
    record._events.close()
    record._events = Path("/dev/full").open("a", encoding="utf-8")  # noqa: SIM115
    event = Event(0.0, "h1", "done", "image", "pull")
    with record:
        record(event)
    assert heard == [event]
    assert not (record.directory / EVENTS).read_text()
