"""`flagprov apply`"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flagprov.cli import options
from flagprov.cli.changing import change
from flagprov.cli.screen import Run

if TYPE_CHECKING:
    from flagprov.models.event import Event
    from flagprov.models.outcome import Outcome
    from flagprov.models.plan import Plan


@click.command("apply")
@click.argument("file", type=click.Path(path_type=Path))
@options.yes
@options.output()
@options.quiet
@click.pass_obj
def command(run: Run, file: Path) -> int:
    """Do what the plan in FILE says, which `plan --save` or `rollout --save` wrote.

    It is refused when a host is no longer as it was then; nothing is changed in that case.
    """
    from flagprov import pipeline, saved
    from flagprov.preparation import prepare

    plan = saved.load(file)
    run.inventory = str(plan.request.inventory)

    def act(*, approve: Callable[[Plan], bool], on_event: Callable[[Event], None]) -> Outcome | None:
        def approved(now: Plan) -> bool:
            plan.check(now)
            return approve(now)

        return pipeline.deploy(
            plan.request, approve=approved, on_event=on_event, options=plan.options, verb=plan.verb
        )

    return change(run, act, check=lambda: prepare(plan.request))
