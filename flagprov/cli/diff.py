"""`flagprov diff`"""

from __future__ import annotations

import click

from flagprov.cli import options
from flagprov.cli.changing import request
from flagprov.cli.plan import CHANGES
from flagprov.cli.screen import Run, Screen


@click.command("diff")
@options.inventory
@options.maybe_release
@options.limit
@options.output()
@options.quiet
@click.pass_obj
def command(run: Run, inventory: str, release: str | None, limit: str | None) -> int:
    """Show how the hosts of INVENTORY differ from what was deployed on them last; change nothing.

    Exit code 0: no drift; 3: drift; 1: some host was left out.
    """
    from flagprov.report.json import of_plan
    from flagprov.report.plan import has_changes, plan_lines
    from flagprov.rollout import back

    screen = Screen(run)
    with screen.busy("looking at the hosts"):
        found = back.drift(request(inventory, release, limit))
    screen.show(lambda width: plan_lines(found, width=width), lambda: of_plan(found))
    if found.left_out:
        return 1
    return CHANGES if has_changes(found) else 0
