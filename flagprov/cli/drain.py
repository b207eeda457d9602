"""`flagprov drain`"""

from __future__ import annotations

from functools import partial

import click

from flagprov.cli import options
from flagprov.cli.changing import change, request
from flagprov.cli.screen import Run


@click.command("drain")
@options.inventory
@options.hosts
@options.reason
@options.yes
@options.output()
@options.quiet
@click.pass_obj
def command(run: Run, inventory: str, hosts: str, reason: str) -> int:
    """Stop what serves on the hosts HOSTS of INVENTORY, and keep changes away from them.

    What has been asked of an engine is answered first. For work on a host: `flagprov uncordon` and
    `flagprov deploy` bring it back.
    """
    from flagprov import maintenance
    from flagprov.fleet import load_fleet

    wanted = request(inventory, None, hosts)
    act = partial(maintenance.cordon, wanted, reason=reason, drain=True)
    return change(run, act, check=lambda: load_fleet(wanted.inventory, hosts))
