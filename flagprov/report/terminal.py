"""Live progress in a terminal: a row per host with its stage, step and elapsed time."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from flagprov.models.event import Event
from flagprov.report.progress import HostRow, Tracker, what_of
from flagprov.report.text import clean, count, duration, natural

_MARKS = {"done": ("✓", "+", "green"), "failed": ("✗", "x", "red")}  # the second where there is ASCII only


class LiveProgress:
    """Redraws itself while steps run; failures and notes stay above it."""

    def __init__(self, console: Console, tracker: Tracker | None = None) -> None:
        self._console = console
        self._tracker = tracker or Tracker()
        self._lock = threading.Lock()
        self._ascii = not console.encoding.lower().startswith("utf")
        self._spinner = Spinner("line" if self._ascii else "dots")
        self._live = self._new()

    def _new(self) -> Live:
        return Live(
            get_renderable=self._draw, console=self._console, refresh_per_second=8, transient=True,
            redirect_stdout=False, redirect_stderr=False,
        )  # fmt: skip

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def __call__(self, event: Event) -> None:
        with self._lock:
            self._tracker.feed(event)
        if event.kind in ("failed", "note"):
            where = " ".join(part for part in (event.host, event.stage) if part)
            what = what_of(event.step, event.text)
            said = f"{where}: {what}" if where else what
            self._console.print(Text(clean(said), style="red" if event.kind == "failed" else ""))

    @contextmanager
    def paused(self) -> Iterator[None]:
        self._live.stop()
        try:
            yield
        finally:
            self._live = self._new()
            self._live.start()

    def _draw(self) -> RenderableType:
        with self._lock:
            rows = self._tracker.rows()
        room = max(self._console.height - 4, 3)
        shown = choose(rows, room)
        grid = Table.grid(padding=(0, 1))
        for name, ratio in (("mark", None), ("host", None), ("stage", None), ("step", 1), ("elapsed", None)):
            grid.add_column(name, no_wrap=True, overflow="ellipsis", ratio=ratio)
        grid.expand = True
        for row in shown:
            grid.add_row(*self._cells(row))
        hidden = len(rows) - len(shown)
        return Group(grid, Text(_summary(rows), style="dim")) if hidden else grid

    def _cells(self, row: HostRow) -> list[RenderableType]:
        nice, simple, style = _MARKS.get(row.state, (" ", " ", ""))
        done = Text(simple if self._ascii else nice, style=style)
        mark: RenderableType = self._spinner if row.since is not None else done
        elapsed = duration(self._tracker.elapsed(row.since)) if row.since is not None else ""
        return [mark, Text(clean(row.host)), Text(clean(row.stage), style="cyan"), Text(clean(row.what)),
                Text(elapsed, style="dim")]  # fmt: skip


def choose(rows: list[HostRow], room: int) -> list[HostRow]:
    """The rows that fit: failed ones first, then those that have been at it longest."""
    if len(rows) <= room:
        return sorted(rows, key=lambda row: natural(row.host))
    urgent = sorted(rows, key=lambda row: (row.state != "failed", row.since is None, row.since or 0.0))
    return sorted(urgent[:room], key=lambda row: natural(row.host))


def _summary(rows: list[HostRow]) -> str:
    """All hosts in one line, for fleets that are higher than the terminal."""
    running = Counter(row.stage for row in rows if row.since is not None)
    idle = sum(row.since is None and row.state != "failed" for row in rows)
    failed = sum(row.state == "failed" for row in rows)
    parts = [f"{number} in {stage or 'work'}" for stage, number in running.items()]
    parts += [f"{idle} waiting or done"] if idle else []
    parts += [f"{failed} failed"] if failed else []
    return f"{count(len(rows), 'host')}: {', '.join(parts)}"
