"""`flagprov verify`"""

from __future__ import annotations

import click

from flagprov.cli import options
from flagprov.cli.changing import report, request
from flagprov.cli.screen import Run, Screen


@click.command("verify")
@options.inventory
@options.maybe_release
@click.option("--deep", is_flag=True, help="Read and hash every byte of the weights: minutes for large ones.")
@options.limit
@options.output()
@options.quiet
@click.pass_obj
def command(run: Run, inventory: str, release: str | None, deep: bool, limit: str | None) -> int:
    """Prove that the replicas on INVENTORY, all of them or those of RELEASE, serve what was deployed.

    Every replica answers a completion, nothing on its host differs from its last deployment, and its weights
    are whole. Changes nothing. Exit code 1: something is wrong, or a host did not answer.
    """
    from flagprov.verify import proof

    screen = Screen(run)
    with screen.busy("asking the hosts") as progress:
        outcome = proof.verify(request(inventory, release, limit), deep=deep, on_event=progress)
    return report(screen, outcome)
