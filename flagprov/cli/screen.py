"""What a verb has of its user: standard output, standard error, and somebody to ask or nobody."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

import click

from flagprov.errors import UsageError
from flagprov.report.text import Line, Span, Style, line, render

if TYPE_CHECKING:
    from flagprov.models.event import Event, EventKind
    from flagprov.models.plan import Plan
    from flagprov.report.progress import Progress


INTERRUPTED, CLOSED = 130, 141  # exit codes: 128 + SIGINT, 128 + SIGPIPE, as shells have it


class Closed(Exception):
    """Standard output was closed by its reader, such as `head`."""


@dataclass
class Run:
    """What the boundary must know of the command that runs."""

    verb: str = ""
    inventory: str = ""
    output: str = "text"
    yes: bool = False
    quiet: bool = False
    changes: bool = False  # hosts may have been changed


def width_of(stream: TextIO) -> int | None:
    """Columns of a terminal; None for a file or pipe, where nothing is wrapped."""
    return shutil.get_terminal_size().columns if is_terminal(stream) else None


def width_of_output() -> int | None:
    return width_of(sys.stdout)


def is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and not stream.closed and stream.isatty()


def has_colour(stream: TextIO) -> bool:
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def can_ask() -> bool:
    """Whether a person sees a question and can answer it."""
    return is_terminal(sys.stdin) and is_terminal(sys.stderr)


def require_consent(run: Run, check: Callable[[], object]) -> None:
    """Refuse at once what could not be asked about later; what `check` raises is said first."""
    if run.yes or (run.output != "json" and can_ask()):
        return
    check()
    why = "--output json asks nothing" if run.output == "json" else "there is no terminal to ask on"
    raise UsageError(why, remedy="Look at the plan (flagprov plan), then give --yes.")


def print_lines(lines: Iterable[Line]) -> None:
    """To standard output."""
    print_text(render(lines, width=width_of_output(), colour=has_colour(sys.stdout)))


def print_document(value: Mapping[str, Any]) -> None:
    """The one JSON document of this command."""
    from flagprov.report.json import document

    print_text(document(value) + "\n")


def print_text(text: str) -> None:
    """Raw text, which the caller has cleaned."""
    try:
        click.echo(text, nl=False, color=True)
    except BrokenPipeError as error:
        raise Closed from error


def complain(text: str, *, style: Style = "bad") -> None:
    """A message on standard error; the first word has the colour, further lines stand further in."""
    first, *rest = text.splitlines() or [""]
    word, space, tail = first.partition(" ")
    lines = [line(Span(word, style), space + tail), *(line(each.strip(), indent=2) for each in rest)]
    try:
        shown = render(lines, width=width_of(sys.stderr), colour=has_colour(sys.stderr))
        click.echo(shown, nl=False, err=True, color=True)
    except BrokenPipeError:
        return


class Screen:
    """Text or JSON on standard output, progress on standard error, and the question before changes."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._progress: Progress | None = None
        self._doing = ""

    @property
    def json(self) -> bool:
        return self.run.output == "json"

    def show(
        self, lines: Callable[[int | None], list[Line]], document: Callable[[], Mapping[str, Any]]
    ) -> None:
        """One of the two, as --output says; neither is computed for nothing."""
        if self.json:
            print_document(document())
        else:
            print_lines(lines(width_of_output()))

    @contextmanager
    def busy(self, doing: str) -> Iterator[Callable[[Event], None]]:
        """Takes events while something is done; `doing` names it until the first approval."""
        self._doing = doing
        with _progress(self.run.quiet) as progress:
            self._progress = progress
            progress(self._event("progress"))
            yield progress

    def _event(self, kind: EventKind) -> Event:
        from flagprov.models.event import Event

        return Event(time.time(), "", kind, "", self._doing)

    def approve(self, plan: Plan) -> bool:
        """Show the plan; ask, unless there is nothing to do or --yes said it before."""
        from flagprov.report.plan import has_changes, plan_lines

        if not has_changes(plan):
            return True
        assert self._progress is not None
        self._progress(self._event("done"))
        with self._progress.paused():
            if not self.json:
                print_lines([*plan_lines(plan, width=width_of_output()), line()])
            approved = self.run.yes or ask(f"{plan.verb}: do this?")
        self.run.changes = approved
        return approved


def ask(question: str) -> bool:
    """Yes or no; no unless it is said."""
    click.echo(f"{question} [y/N] ", nl=False, err=True)
    try:
        answer = sys.stdin.readline()
    except UnicodeDecodeError:
        return False
    if not answer:
        click.echo(err=True)
    return answer.strip().lower() in ("y", "yes")


def _progress(quiet: bool) -> Progress:
    from flagprov.report.progress import NoProgress, PlainProgress

    if quiet:
        return NoProgress()
    if is_terminal(sys.stderr) and os.environ.get("TERM") != "dumb":
        from rich.console import Console

        from flagprov.report.terminal import LiveProgress

        return LiveProgress(Console(stderr=True))
    return PlainProgress(_line_writer())


def _line_writer() -> Callable[[str], None]:
    """A writer that falls silent when nobody reads any more: the work on the hosts goes on."""
    silent = False

    def write(text: str) -> None:
        nonlocal silent
        if silent:
            return
        try:
            click.echo(text, err=True)
        except BrokenPipeError:
            silent = True

    return write
