"""`flagprov uncordon`"""

from __future__ import annotations

from functools import partial

import click

from flagprov.cli import options
from flagprov.cli.changing import change, request
from flagprov.cli.screen import Run


@click.command("uncordon")
@options.inventory
@options.hosts
@options.yes
@options.output()
@options.quiet
@click.pass_obj
def command(run: Run, inventory: str, hosts: str) -> int:
    """Let the hosts HOSTS of INVENTORY take part in changes again.

    What `drain` stopped is started by the next `flagprov deploy`.
    """
    from flagprov import maintenance
    from flagprov.fleet import load_fleet

    wanted = request(inventory, None, hosts)
    act = partial(maintenance.uncordon, wanted)
    return change(run, act, check=lambda: load_fleet(wanted.inventory, hosts))
