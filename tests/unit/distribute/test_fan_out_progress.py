"""How far all hosts of a transfer are together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flagprov.distribute.content import content_of
from flagprov.distribute.fan_out import Here, Target, Transfer
from flagprov.models.event import Event
from flagprov.models.fleet import Connection, Host

MIB = 1 << 20


def transfer(events: list[Event]) -> Transfer:
    content = content_of([("a.bin", 100 * MIB, "0" * 64)])
    targets = [Target(Host(name, Connection("192.0.2.1")), "/srv/model") for name in ("h1", "h2")]
    nobody: Any = None
    return Transfer(nobody, nobody, content, Here(Path("/srv/source")), targets, events.append)


def test_bytes_rate_and_time_left_of_all_hosts() -> None:
    events: list[Event] = []
    started = transfer(events)
    started._heard("h1", {"bytes": 50 * MIB, "rate": 10 * MIB})
    started._heard("h1", {"note": "nothing new"})
    (event,) = events
    assert event.text == "50 of 200 MiB on 2 hosts, 10 MiB/s, 15 s left"
    assert (event.host, event.kind) == ("", "progress")
    assert event.data == {"bytes": 50 * MIB, "total": 200 * MIB, "rate": 10 * MIB, "eta": 15.0}


def test_nobody_waits_for_what_a_lost_host_has_not_got() -> None:
    events: list[Event] = []
    started = transfer(events)
    started._heard("h1", {"bytes": 50 * MIB, "rate": 10 * MIB})
    started._heard("h2", {"bytes": 20 * MIB, "rate": 10 * MIB})
    started._missed("h2")
    assert events[-1].text == "50 of 100 MiB on 1 host, 10 MiB/s, 5 s left"
    started._heard("h1", {"bytes": 100 * MIB, "rate": 0})
    assert (events[-1].kind, events[-1].text) == ("done", "100 of 100 MiB on 1 host, 0 MiB/s")
