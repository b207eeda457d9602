"""`flagprov apply`"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from flagprov.cli import options
from flagprov.cli.changing import change
from flagprov.cli.screen import Run, require_consent


@click.command("apply")
@click.argument("file", type=click.Path(path_type=Path))
@options.yes
@options.output()
@options.quiet
@click.pass_obj
def command(run: Run, file: Path, yes: bool, quiet: bool) -> int:
    """Do what the plan in FILE says, which `plan --save` or `rollout --save` wrote.

    It is refused when a host is no longer as it was then; nothing is changed in that case.
    """
    from flagprov import pipeline, saved
    from flagprov.models.plan import Plan
    from flagprov.preparation import prepare

    plan = saved.load(file)
    run.inventory = str(plan.request.inventory)
    require_consent(run, yes, lambda: prepare(plan.request))

    def checked(approve: Callable[[Plan], bool]) -> Callable[[Plan], bool]:
        def approved(now: Plan) -> bool:
            plan.check(now)
            return approve(now)

        return approved

    return change(
        run,
        lambda approve, on_event: pipeline.deploy(
            plan.request,
            approve=checked(approve),
            on_event=on_event,
            options=plan.options,
            verb=plan.verb,
        ),
        yes=yes,
        quiet=quiet,
    )
