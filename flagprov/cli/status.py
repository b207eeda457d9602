"""`flagprov status`"""

from __future__ import annotations

import click

from flagprov.cli import options
from flagprov.cli.changing import request
from flagprov.cli.screen import Run, Screen


@click.command("status")
@options.inventory
@options.maybe_release
@options.limit
@options.output()
@options.quiet
@click.pass_obj
def command(run: Run, inventory: str, release: str | None, limit: str | None) -> int:
    """Show the replicas on the hosts of INVENTORY, all of them or those of RELEASE.

    Exit code 1: a host did not answer, a replica is degraded, hung, failed, unreachable or absent, or a
    gateway does not serve or had to put a replica out.
    """
    from flagprov import asking
    from flagprov.report.json import of_status
    from flagprov.report.status import is_well, status_lines

    screen = Screen(run)
    with screen.busy("asking the hosts"):
        outcome = asking.status(request(inventory, release, limit))
    screen.show(lambda width: status_lines(outcome, width=width), lambda: of_status(outcome))
    return 0 if is_well(outcome) else 1
