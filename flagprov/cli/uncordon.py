"""`flagprov uncordon`"""

from __future__ import annotations

import click

from flagprov.cli import options
from flagprov.cli.changing import change, request
from flagprov.cli.screen import Run, require_consent


@click.command("uncordon")
@options.inventory
@options.hosts
@options.yes
@options.output()
@options.quiet
@click.pass_obj
def command(run: Run, inventory: str, hosts: str, yes: bool, quiet: bool) -> int:
    """Let the hosts HOSTS of INVENTORY take part in changes again.

    What `drain` stopped is started by the next `flagprov deploy`.
    """
    from flagprov import maintenance
    from flagprov.fleet import load_fleet

    wanted = request(inventory, None, hosts)
    require_consent(run, yes, lambda: load_fleet(wanted.inventory, hosts))
    return change(
        run,
        lambda approve, on_event: maintenance.uncordon(wanted, approve=approve, on_event=on_event),
        yes=yes,
        quiet=quiet,
    )
