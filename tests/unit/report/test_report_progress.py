from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from flagprov.models.event import Event, EventKind
from flagprov.report.progress import HostRow, NoProgress, PlainProgress, Tracker, local_time
from flagprov.report.terminal import LiveProgress, choose

PULL = "pull flagprov-lab/vllm-cpu:0.32.0"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def event(
    kind: EventKind, host: str = "lab1", step: str = PULL, text: str = "", stage: str = "image"
) -> Event:
    return Event(0.0, host, kind, stage, step, text)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def progress(clock: Clock, said: list[str]) -> PlainProgress:
    return PlainProgress(said.append, clock=clock, now=lambda: 0.0, at=lambda _: "12:00:01")


def test_a_line_for_each_step_and_its_time(progress: PlainProgress, clock: Clock, said: list[str]) -> None:
    progress(event("started", text="none of its digests is on the host"))
    clock.now += 34
    progress(event("done"))
    assert said == [
        f"12:00:01 lab1 image: {PULL}: none of its digests is on the host",
        f"12:00:01 lab1 image: {PULL}: done in 34 s",
    ]


def test_what_no_host_does_is_said_only_when_it_takes_long(
    progress: PlainProgress, clock: Clock, said: list[str]
) -> None:
    progress(event("progress", host="", step="looking at the hosts", stage=""))
    clock.now += 20
    progress.tick()
    progress(event("done", host="", step="looking at the hosts", stage=""))
    assert said == ["12:00:01 still: looking at the hosts, 20 s"]


def test_short_steps_have_one_line(progress: PlainProgress, clock: Clock, said: list[str]) -> None:
    progress(event("started"))
    clock.now += 0.5
    progress(event("done"))
    assert len(said) == 1


def test_failures_notes_and_steps_without_a_start(progress: PlainProgress, said: list[str]) -> None:
    progress(event("failed", text="manifest unknown"))
    progress(event("note", host="", step="", text="2 hosts are ready", stage=""))
    progress(event("done", step="proof"))
    assert said == [
        f"12:00:01 lab1 image: failed: {PULL}: manifest unknown",
        "12:00:01 2 hosts are ready",
        "12:00:01 lab1 image: proof: done",
    ]


def test_a_long_step_says_that_it_is_alive(progress: PlainProgress, clock: Clock, said: list[str]) -> None:
    progress(event("started"))
    clock.now += 9
    progress.tick()
    assert len(said) == 1
    progress(event("progress", text="pulling, 43 %"))
    assert len(said) == 1  # progress alone is no line: there may be hundreds
    clock.now += 11
    progress.tick()
    assert said[1:] == [f"12:00:01 lab1 image: still: {PULL}: pulling, 43 %, 20 s"]
    progress(event("done"))
    progress.tick()
    assert len(said) == 3


def test_a_sign_of_life_every_ten_seconds(progress: PlainProgress, clock: Clock, said: list[str]) -> None:
    progress(event("started"))
    clock.now += 5
    progress(event("started", host="lab2"))
    for _ in range(31):
        clock.now += 1
        progress.tick()
    assert [line.split(", ")[-1] for line in said if "lab1" in line][1:] == ["10 s", "20 s", "30 s"]
    assert [line.split(", ")[-1] for line in said if "lab2" in line][1:] == ["10 s", "20 s", "30 s"]


def test_many_hosts_that_wait_for_the_same_have_one_line(
    progress: PlainProgress, clock: Clock, said: list[str]
) -> None:
    for number in range(200):
        progress(event("started", host=f"lab{number}"))
    del said[:]
    clock.now += 60
    progress.tick()
    progress.tick()
    assert said == [f"12:00:01 lab0..lab199 image: still: {PULL}, 1 min"]


def test_nothing_is_said_while_somebody_is_asked(
    progress: PlainProgress, clock: Clock, said: list[str]
) -> None:
    progress(event("started"))
    clock.now += 60
    with progress.paused():
        progress.tick()
    assert len(said) == 1
    progress.tick()
    assert len(said) == 2


def test_a_host_cannot_play_tricks_on_the_terminal(progress: PlainProgress, said: list[str]) -> None:
    progress(event("started", step="\x1b[2Jx\ny"))
    assert said == ["12:00:01 lab1 image: x y"]


def test_the_ticker_ends_with_the_work(said: list[str]) -> None:
    with PlainProgress(said.append) as progress:
        assert progress._ticker.is_alive()
    assert not progress._ticker.is_alive()


def test_no_progress() -> None:
    with NoProgress() as nothing, nothing.paused():
        nothing(event("started"))


def test_local_time() -> None:
    assert local_time(0.0)[2::3] == "::"


def test_rows_show_what_goes_on_now(clock: Clock) -> None:
    tracker = Tracker(clock)
    tracker.feed(event("started", step="a"))
    tracker.feed(event("done", step="a"))
    assert tracker.rows() == [HostRow("lab1", "image", "a", None, "done")]
    tracker.feed(event("started", step="b", stage="serve"))
    assert tracker.rows() == [HostRow("lab1", "serve", "b", 100.0)]
    tracker.feed(event("failed", step="b", stage="serve", text="it died"))
    tracker.feed(event("started", step="c"))
    assert tracker.rows() == [HostRow("lab1", "serve", "b: it died", None, "failed")]


def test_the_rows_that_matter_are_chosen() -> None:
    rows = [HostRow(f"lab{n}", since=float(200 - n)) for n in range(200)]
    rows[7] = HostRow("lab7", state="failed")
    assert [row.host for row in choose(rows, 3)] == ["lab7", "lab198", "lab199"]
    assert choose(rows[:3], 3) == rows[:3]


@pytest.fixture
def drawn(clock: Clock) -> Callable[..., str]:
    def draw(*events: Event, width: int = 80, height: int = 25) -> str:
        screen = io.StringIO()
        console = Console(file=screen, width=width, height=height, force_terminal=True, color_system=None)
        live = LiveProgress(console, Tracker(clock))
        for each in events:
            live(each)
        clock.now += 12
        console.print(live._draw())
        return screen.getvalue()

    return draw


def test_live_table(drawn: Callable[..., str]) -> None:
    shown = drawn(event("started"), event("started", host="lab2", step="start", stage="serve"))
    first, second = shown.splitlines()
    assert first.split()[1:] == ["lab1", "image", "pull", "flagprov-lab/vllm-cpu:0.32.0", "12", "s"]
    assert second.split()[1:3] == ["lab2", "serve"]


def test_live_table_in_a_narrow_terminal(drawn: Callable[..., str]) -> None:
    shown = drawn(event("started", text="x" * 200), width=40)
    assert len(shown.splitlines()) == 1
    assert "12 s" in shown


def test_live_table_of_a_large_fleet(drawn: Callable[..., str]) -> None:
    events = [event("started", host=f"lab{n}") for n in range(200)]
    shown = drawn(*events, event("failed", host="lab7"), height=14)
    assert len(shown.splitlines()) == 12  # the failure above, ten rows, the summary
    assert "200 hosts: 199 in image, 1 failed" in shown


def test_live_output_takes_no_markup_and_no_escapes(drawn: Callable[..., str]) -> None:
    shown = drawn(event("note", step="", text="[red]x[/red]\x1b[2J"), event("started", step="[b]y[/b]\x07"))
    assert "[red]x[/red]" in shown
    assert "[b]y[/b]" in shown
    assert "\x1b[2J" not in shown
    assert "\x07" not in shown


def test_live_stops_while_somebody_is_asked() -> None:
    console = Console(file=io.StringIO(), width=80, height=25, force_terminal=True)
    with LiveProgress(console) as live:
        assert live._live.is_started
        with live.paused():
            assert not live._live.is_started
        assert live._live.is_started
    assert not live._live.is_started
