"""The way of all verbs that change hosts: look, ask, do, report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from flagprov.cli.screen import Run, Screen, complain, require_consent

if TYPE_CHECKING:
    from flagprov.models.event import Event
    from flagprov.models.outcome import Outcome
    from flagprov.models.plan import Plan
    from flagprov.models.request import Request
    from flagprov.saved import SavedPlan

    class Act(Protocol):
        def __call__(
            self, *, approve: Callable[[Plan], bool], on_event: Callable[[Event], None]
        ) -> Outcome | None: ...


def request(
    inventory: str,
    release: str | None = None,
    limit: str | None = None,
    sets: tuple[str, ...] = (),
    force: tuple[str, ...] = (),
    allow_disruption: bool = False,
    allow_reboot: bool = False,
) -> Request:
    from flagprov.models.request import Request

    return Request(Path(inventory), release, limit, sets, force, allow_disruption, allow_reboot)


def taken_up(wanted: Request, verb: str) -> SavedPlan:
    """What the last run asked for that did not come to its end; what it has done is not done again."""
    from flagprov import saved
    from flagprov.models.fleet import Fleet

    run = saved.unfinished(Fleet(wanted.inventory, ()), verb)
    complain(f"taking up {run.path.parent.name}", style="")
    return run


def change(run: Run, act: Act, *, check: Callable[[], object]) -> int:
    """Exit code of `act`, after its report; `check` has the first word where nobody can be asked."""
    require_consent(run, check)
    screen = Screen(run)
    with screen.busy("looking at the hosts") as progress:
        outcome = act(approve=screen.approve, on_event=progress)
    if outcome is None:
        complain("nothing was changed", style="warn")
        return 1
    return report(screen, outcome)


def report(screen: Screen, outcome: Outcome) -> int:
    from flagprov.report.json import of_outcome
    from flagprov.report.outcome import next_lines, outcome_lines

    screen.show(
        lambda width: [*outcome_lines(outcome, width=width), *next_lines(outcome, screen.run.inventory)],
        lambda: of_outcome(outcome),
    )
    return 0 if outcome.succeeded else 1
