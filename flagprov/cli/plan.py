"""`flagprov plan`"""

from __future__ import annotations

import click

from flagprov.cli import options
from flagprov.cli.changing import request
from flagprov.cli.screen import Run, Screen

CHANGES = 3  # exit code


@click.command("plan")
@options.inventory
@options.release
@options.limit
@options.sets
@options.force
@options.output()
@options.quiet
@click.pass_obj
def command(
    run: Run,
    inventory: str,
    release: str,
    limit: str | None,
    sets: tuple[str, ...],
    force: tuple[str, ...],
    quiet: bool,
) -> int:
    """Show what `deploy` would do to the hosts of INVENTORY, each step with its reason; change nothing.

    Exit code 0: no change; 3: changes; 1: some host was left out.
    """
    from flagprov import pipeline
    from flagprov.report.json import of_plan
    from flagprov.report.plan import has_changes, plan_lines

    screen = Screen(run, quiet=quiet)
    with screen.busy("looking at the hosts") as progress:
        found = pipeline.plan(request(inventory, release, limit, sets, force), progress)
    screen.show(lambda width: plan_lines(found, width=width), lambda: of_plan(found))
    if found.left_out:
        return 1
    return CHANGES if has_changes(found) else 0
