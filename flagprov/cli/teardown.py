"""`flagprov teardown`"""

from __future__ import annotations

from functools import partial

import click

from flagprov.cli import options
from flagprov.cli.changing import change, request
from flagprov.cli.screen import Run


@click.command("teardown")
@options.inventory
@options.maybe_release
@options.limit
@click.option("--weights", is_flag=True, help="The model's weights too, where flagprov brought them.")
@options.yes
@options.output()
@options.quiet
@click.pass_obj
def command(
    run: Run,
    inventory: str,
    release: str | None,
    limit: str | None,
    weights: bool,
) -> int:
    """Take flagprov's containers, units, keys and files away from the hosts of INVENTORY.

    All of them, or those of RELEASE. Drivers, the container engine and whatever is not flagprov's stay;
    weights too, unless --weights is given.
    """
    from flagprov import pipeline
    from flagprov.fleet import load_fleet

    wanted = request(inventory, release, limit)
    act = partial(pipeline.teardown, wanted, weights=weights)
    return change(run, act, check=lambda: load_fleet(wanted.inventory, limit))
