"""`flagprov cordon`"""

from __future__ import annotations

from functools import partial

import click

from flagprov.cli import options
from flagprov.cli.changing import change, request
from flagprov.cli.screen import Run


@click.command("cordon")
@options.inventory
@options.hosts
@options.reason
@options.yes
@options.output()
@options.quiet
@click.pass_obj
def command(run: Run, inventory: str, hosts: str, reason: str) -> int:
    """Keep changes away from the hosts HOSTS of INVENTORY; what serves there goes on.

    `deploy` and `rollout` leave them out, and count them, until `flagprov uncordon`.
    """
    from flagprov import maintenance
    from flagprov.fleet import load_fleet

    wanted = request(inventory, None, hosts)
    act = partial(maintenance.cordon, wanted, reason=reason)
    return change(run, act, check=lambda: load_fleet(wanted.inventory, hosts))
