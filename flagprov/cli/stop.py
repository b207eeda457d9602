"""`flagprov stop`"""

from __future__ import annotations

from functools import partial

import click

from flagprov.cli import options
from flagprov.cli.changing import change, request
from flagprov.cli.screen import Run


@click.command("stop")
@options.inventory
@options.maybe_release
@options.limit
@options.yes
@options.output()
@options.quiet
@click.pass_obj
def command(run: Run, inventory: str, release: str | None, limit: str | None) -> int:
    """Stop the replicas on the hosts of INVENTORY, all of them or those of RELEASE.

    They stay stopped over a reboot; `flagprov deploy` starts them again.
    """
    from flagprov import pipeline
    from flagprov.fleet import load_fleet

    wanted = request(inventory, release, limit)
    act = partial(pipeline.stop, wanted)
    return change(run, act, check=lambda: load_fleet(wanted.inventory, limit))
