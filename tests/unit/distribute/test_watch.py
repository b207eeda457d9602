"""Nobody waits for hosts that died half-way."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from flagprov.distribute import watch as module
from flagprov.distribute.watch import Watch
from flagprov.errors import UnreachableError


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def done(watch: Watch, name: str) -> None:
    session: Any = SimpleNamespace(host=SimpleNamespace(name=name))
    with watch.host(session):
        pass


def test_a_silent_host_is_given_up_when_all_others_are_done(clock: list[float]) -> None:
    watch = Watch(["h1", "h2"])
    watch.heard("h1", 1, 9)
    clock[0] += 20
    watch.heard("h2", 1, 9)
    assert watch.dead() == []  # the other one still goes on: nobody waits for h1 alone
    done(watch, "h2")
    assert watch.dead() == ["h1"]
    watch.heard("h1", 1, 9)
    assert watch.dead() == []


def test_why_a_silent_host_was_hung_up_on(clock: list[float]) -> None:
    watch = Watch(["h1"])
    lost = UnreachableError("h1", "transfer", "the connection was lost during transfer: connection lost")
    assert watch.explained(lost) is lost
    watch.heard("h1", 1, 9)
    clock[0] += 20
    with watch.host(SimpleNamespace(host=SimpleNamespace(name="h1"), close=lambda: None)):  # type: ignore[arg-type]
        watch.give_up()
    assert watch.explained(lost).message == "it lacks files and has said nothing for 15 s"
    assert watch.explained(lost).remedy


def test_a_host_that_has_everything_may_take_its_time(clock: list[float]) -> None:
    watch = Watch(["h1"])
    watch.heard("h1", 1, 9)
    watch.heard("h1", 9, 9)
    clock[0] += 600
    assert watch.dead() == []


def test_a_host_that_has_not_begun_may_take_its_time(clock: list[float]) -> None:
    watch = Watch(["h1"])
    clock[0] += 600
    assert watch.dead() == []
    done(watch, "h1")
    assert watch.dead() == []


DAY = 86400


@pytest.mark.parametrize(
    ("others", "second", "left", "slow"),
    [
        (True, 1000, 1000 * DAY + 1, True),  # bytes that come each second, and that are still to come
        (True, 1000, 1000 * DAY - 1, False),
        (True, 0, 1, False),  # it says itself that nothing comes
        (False, 1000, 1000 * DAY + 1, False),  # nobody waits for it alone
    ],
)
def test_nobody_waits_for_days_for_one_host(
    clock: list[float], others: bool, second: int, left: int, slow: bool
) -> None:
    watch = Watch(["source", "h1", "h2"])
    done(watch, "source")
    total = 300 * second + left
    watch.heard("h1", 0, total)
    watch.heard("h2", total if others else 0, total)
    if others:
        done(watch, "h2")
    closed: list[str] = []
    session: Any = SimpleNamespace(host=SimpleNamespace(name="h1"), close=lambda: closed.append("h1"))
    with watch.host(session):
        for elapsed in range(0, 301, 10):
            assert not closed
            clock[0] = 100.0 + elapsed
            watch.heard("h1", elapsed * second, total)
            if not others:
                watch.heard("h2", elapsed * second, total)
            watch.give_up()
        assert closed == (["h1"] if slow else [])
    if slow:
        lost = UnreachableError("h1", "transfer", "the connection was lost during transfer")
        told = watch.explained(lost)
        assert "all others have theirs, it would need 24 h more" in told.message
        assert "--limit h1" in told.remedy
