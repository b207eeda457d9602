"""`flagprov facts`"""

from __future__ import annotations

import click

from flagprov.cli import options
from flagprov.cli.changing import request
from flagprov.cli.screen import Run, Screen


@click.command("facts")
@options.inventory
@options.limit
@options.output()
@options.quiet
@click.pass_obj
def command(run: Run, inventory: str, limit: str | None) -> int:
    """Show what the hosts of INVENTORY are: system, devices, drivers, engine, mounts, clock, network.

    What cannot be known is said to be unknown, with the reason. Exit code 1: a host did not answer.
    """
    from flagprov.doctor import verbs
    from flagprov.errors import HostError
    from flagprov.report.facts import facts_lines, of_facts

    screen = Screen(run)
    with screen.busy("asking the hosts"):
        found = verbs.facts(request(inventory, limit=limit))
    screen.show(
        lambda width: facts_lines(found.answers, found.words(), width=width),
        lambda: of_facts(found.answers, found.chips),
    )
    return 1 if any(isinstance(answer, HostError) for answer in found.answers.values()) else 0
