"""A cap is kept in small pieces."""

from __future__ import annotations

from itertools import pairwise

import pytest

from flagprov.host.transfer import frames, pace
from flagprov.host.transfer.frames import Link
from flagprov.host.transfer.pace import Pace


class Wire:
    def __init__(self) -> None:
        self.sent: list[tuple[float, int]] = []
        self.now = 100.0

    def settimeout(self, seconds: float) -> None:
        return

    def sendall(self, data: memoryview) -> None:
        self.sent.append((self.now, len(data)))

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize("rate", [64 << 10, 1 << 20, 100 << 20])
def test_no_silence_is_long_and_the_cap_is_kept(rate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire()
    monkeypatch.setattr(pace.time, "monotonic", lambda: wire.now)
    monkeypatch.setattr(pace.time, "sleep", wire.sleep)
    link = Link(wire, 1.0, Pace(rate))  # type: ignore[arg-type]
    link.say_chunk(0, b"\0" * 32, memoryview(bytes(1 << 20)))
    assert sum(size for _, size in wire.sent) == frames.HEAD.size + frames.CHUNK_HEAD.size + (1 << 20)
    times = [when for when, _ in wire.sent]
    assert max(after - before for before, after in pairwise(times)) <= 0.1
    assert times[-1] - times[0] == pytest.approx((1 << 20) / rate, rel=0.1, abs=0.1)


def test_without_a_cap_nothing_waits() -> None:
    assert Pace().piece(frames.SLICE) == frames.SLICE
    assert Pace(100).piece(frames.SLICE) == 6
