"""Many hosts, an outcome for each."""

from __future__ import annotations

import threading

import pytest

from flagprov.errors import HostError, UsageError
from flagprov.models.fleet import Connection, Host
from flagprov.transport.fanout import fan_out

HOSTS = [Host(f"h{number}", Connection(f"h{number}")) for number in range(20)]


def test_order_is_that_of_the_hosts_whatever_ends_first() -> None:
    last_started = threading.Event()

    def work(host: Host) -> str:
        if host.name == "h19":
            last_started.set()
        elif host.name == "h0":
            assert last_started.wait(10)
        return host.name

    assert list(fan_out(HOSTS, work, 64).items()) == [(host.name, host.name) for host in HOSTS]


def test_never_more_at_once_than_wanted() -> None:
    lock, running, most = threading.Lock(), 0, 0
    barrier = threading.Barrier(4)

    def work(host: Host) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        barrier.wait(10)
        with lock:
            running -= 1

    fan_out(HOSTS, work, 4)
    assert most == 4


def test_errors_are_outcomes() -> None:
    def work(host: Host) -> str:
        if host.name == "h1":
            raise HostError("h1", "image", "no", remedy="do")
        if host.name == "h2":
            raise UsageError("newer", remedy="update")
        if host.name == "h3":
            raise ZeroDivisionError("oops")
        return "fine"

    found = fan_out(HOSTS, work, 4, step="look")
    first, second, third = found["h1"], found["h2"], found["h3"]
    assert isinstance(first, HostError)
    assert isinstance(second, HostError)
    assert isinstance(third, HostError)
    assert (first.step, second.step, second.remedy, third.step) == ("image", "look", "update", "look")
    assert third.message == "ZeroDivisionError: oops"
    assert "Traceback" in third.log
    assert [name for name, outcome in found.items() if outcome == "fine"] == [
        host.name for host in HOSTS if host.name not in ("h1", "h2", "h3")
    ]


def test_no_hosts() -> None:
    assert fan_out([], lambda host: host, 4) == {}


def test_interrupt_starts_no_further_host(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    gate = threading.Event()

    class Interrupted:
        def put(self, item: object) -> None:
            """Nobody reads it any more."""

        def get(self) -> None:
            raise KeyboardInterrupt

    import queue

    real = queue.SimpleQueue
    made: list[object] = []

    def make() -> object:
        made.append(real() if not made else Interrupted())
        return made[-1]

    monkeypatch.setattr("flagprov.transport.fanout.queue.SimpleQueue", make)

    def work(host: Host) -> None:
        started.append(host.name)
        gate.wait(10)

    with pytest.raises(KeyboardInterrupt):
        fan_out(HOSTS, work, 2)
    gate.set()
    assert len(started) <= 2
