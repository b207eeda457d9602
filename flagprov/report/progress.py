"""Progress from events: who does what since when, and the plain way to show it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from flagprov.models.event import Event
from flagprov.report.text import clean, duration, names

ALIVE_S = 10.0  # a step that takes longer says that it is alive
TOGETHER = 3  # hosts that are waiting for the same thing have one line


class Progress(Protocol):
    """Takes events as they come, from any thread; `paused` while somebody is asked."""

    def __call__(self, event: Event, /) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...
    def paused(self) -> AbstractContextManager[None]: ...


@dataclass(slots=True)
class Step:
    """A step that has begun on a host."""

    host: str
    stage: str
    step: str
    text: str
    since: float
    said: float  # when a line last told of it

    @property
    def what(self) -> str:
        return what_of(self.step, self.text)


@dataclass(slots=True)
class HostRow:
    """A host as the live table shows it."""

    host: str
    stage: str = ""
    what: str = ""
    since: float | None = None  # None: nothing is under way
    state: str = ""  # "", done, failed


class Tracker:
    """What is under way on each host; `clock` says how long."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._running: dict[str, dict[tuple[str, str, str | None], Step]] = {}
        self._rows: dict[str, HostRow] = {}

    def feed(self, event: Event) -> float | None:
        """Take an event in; how long the step took, where it ended one."""
        running = self._running.setdefault(event.host, {})
        row = self._rows.setdefault(event.host, HostRow(event.host))
        key = (event.stage, event.step, event.replica)
        took, now = None, self._clock()
        if event.kind == "started" or (event.kind == "progress" and key not in running):
            running[key] = Step(event.host, event.stage, event.step, event.text, now, now)
        elif event.kind == "progress":
            running[key].text = event.text or running[key].text
        elif event.kind in ("done", "failed"):
            ended = running.pop(key, None)
            took = now - ended.since if ended else None
            row.stage, row.what, row.state = event.stage, what_of(event.step, event.text), event.kind
        return took

    def rows(self) -> list[HostRow]:
        """A row per host: what it does now, else what it ended last."""
        found = []
        for host, row in self._rows.items():
            running = list(self._running[host].values())
            if running and row.state != "failed":
                step = running[-1]
                row = HostRow(host, step.stage, step.what, step.since)
            found.append(row)
        return found

    def silent(self) -> list[list[Step]]:
        """Steps that are due for a sign of life; hosts that wait for the same thing together."""
        now = self._clock()
        alike: dict[tuple[str, str], list[Step]] = {}
        for running in self._running.values():
            for step in running.values():
                alike.setdefault((step.stage, step.what), []).append(step)
        found: list[list[Step]] = []
        for steps in alike.values():
            due = [step for step in steps if now - step.said >= ALIVE_S]
            if due:
                due = steps if len(steps) > TOGETHER else due
                found += [due] if len(due) > TOGETHER else [[step] for step in due]
                for step in due:
                    step.said = now
        return found

    def elapsed(self, since: float) -> float:
        return self._clock() - since


def local_time(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds))


class PlainProgress:
    """A line per step, and one every ten seconds about what still goes on."""

    def __init__(
        self,
        write: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        at: Callable[[float], str] = local_time,
    ) -> None:
        self._write, self._now, self._at = write, now, at
        self._tracker = Tracker(clock)
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._silent = False
        self._ticker = threading.Thread(target=self._tick_on, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._ticker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._ticker.join()

    def __call__(self, event: Event) -> None:
        with self._lock:
            took = self._tracker.feed(event)
            text = _text(event, took)
            if text:
                self._say(event.time, event.host, event.stage, text)

    @contextmanager
    def paused(self) -> Iterator[None]:
        self._silent = True
        try:
            yield
        finally:
            self._silent = False

    def tick(self) -> None:
        """Say what has been going on for long."""
        if self._silent:
            return
        with self._lock:
            for steps in self._tracker.silent():
                hosts = names(step.host for step in steps)
                longest = duration(max(self._tracker.elapsed(step.since) for step in steps))
                self._say(self._now(), hosts, steps[0].stage, f"still: {steps[0].what}, {longest}")

    def _tick_on(self) -> None:
        while not self._ended.wait(1.0):
            self.tick()

    def _say(self, when: float, hosts: str, stage: str, text: str) -> None:
        where = f"{hosts} {stage}".strip()
        self._write(clean(f"{self._at(when)} {where}: {text}" if where else f"{self._at(when)} {text}"))


def what_of(step: str, text: str) -> str:
    """Step and text of an event in one phrase, nothing said twice."""
    return text if step in text else f"{step}: {text}" if text else step


def _text(event: Event, took: float | None) -> str:
    """The line that an event is worth in plain output; empty for none."""
    what = what_of(event.step, event.text)
    match event.kind:
        case "started" | "note":
            return what
        case "failed":
            return f"failed: {what}"
        case "done" if event.host and (took is None or took >= 1):
            return f"{what}: done in {duration(took)}" if took is not None else f"{what}: done"
    return ""


class NoProgress:
    """For --quiet."""

    def __call__(self, event: Event) -> None:
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    @contextmanager
    def paused(self) -> Iterator[None]:
        yield
