"""`flagprov prune`"""

from __future__ import annotations

from functools import partial

import click

from flagprov.cli import options
from flagprov.cli.changing import change, request
from flagprov.cli.screen import Run


@click.command("prune")
@options.inventory
@options.limit
@click.option(
    "--keep",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    metavar="N",
    help="Deployments of each replica whose image, weights and configuration stay.",
)
@options.yes
@options.output()
@options.quiet
@click.pass_obj
def command(run: Run, inventory: str, limit: str | None, keep: int) -> int:
    """Remove images, weights, configurations and caches that nothing on INVENTORY needs any more.

    Only what flagprov brought: images that it deployed, weights that its manifests list. What a container
    has or is to run, what the last deployments need to come back, and what lies on a share stays. Here,
    downloads and images go that no lock and no deployment names.
    """
    from flagprov import pipeline
    from flagprov.fleet import load_fleet

    wanted = request(inventory, None, limit)
    act = partial(pipeline.prune, wanted, keep=keep)
    return change(run, act, check=lambda: load_fleet(wanted.inventory, limit))
