"""`flagprov plan`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from flagprov.cli import options
from flagprov.cli.changing import request
from flagprov.cli.screen import Run, Screen

if TYPE_CHECKING:
    from flagprov.models.request import Request
    from flagprov.rollout.options import Options

CHANGES = 3  # exit code


@click.command("plan")
@options.inventory
@options.release
@options.limit
@options.sets
@options.force
@options.allow_disruption
@options.allow_reboot
@options.save
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
    allow_disruption: bool,
    allow_reboot: bool,
    save: Path | None,
) -> int:
    """Show what `deploy` would do to the hosts of INVENTORY, each step with its reason; change nothing.

    Exit code 0: no change; 3: changes; 1: some host was left out.
    """
    from flagprov import pipeline

    wanted = request(inventory, release, limit, sets, force, allow_disruption, allow_reboot)
    return show(Screen(run), "deploy", wanted, pipeline.DEFAULT, save)


def show(screen: Screen, verb: str, wanted: Request, how: Options, save: Path | None) -> int:
    """The plan on standard output, and in a file where one is named."""
    from flagprov import pipeline
    from flagprov.report.json import of_plan
    from flagprov.report.plan import has_changes, plan_lines

    with screen.busy("looking at the hosts") as progress:
        found = pipeline.plan(wanted, progress, how, verb)
    if save:
        from flagprov import saved

        saved.save(save, verb, wanted, how, found)
    screen.show(lambda width: plan_lines(found, width=width), lambda: of_plan(found))
    if found.left_out:
        return 1
    return CHANGES if has_changes(found) else 0
