"""`flagprov cordon`"""

from __future__ import annotations

import click

from flagprov.cli import options
from flagprov.cli.changing import change, request
from flagprov.cli.screen import Run, require_consent


@click.command("cordon")
@options.inventory
@options.hosts
@click.option("--reason", metavar="TEXT", default="", help="For those who wonder later.")
@options.yes
@options.output()
@options.quiet
@click.pass_obj
def command(run: Run, inventory: str, hosts: str, reason: str, yes: bool, quiet: bool) -> int:
    """Keep changes away from the hosts HOSTS of INVENTORY; what serves there goes on.

    `deploy` and `rollout` leave them out, and count them, until `flagprov uncordon`.
    """
    from flagprov import maintenance
    from flagprov.fleet import load_fleet

    wanted = request(inventory, None, hosts)
    require_consent(run, yes, lambda: load_fleet(wanted.inventory, hosts))
    return change(
        run,
        lambda approve, on_event: maintenance.cordon(
            wanted, reason=reason, approve=approve, on_event=on_event
        ),
        yes=yes,
        quiet=quiet,
    )
