"""`flagprov deploy`"""

from __future__ import annotations

import click

from flagprov.cli import options
from flagprov.cli.changing import change, request
from flagprov.cli.screen import Run, require_consent


@click.command("deploy")
@options.inventory
@options.release
@options.limit
@options.sets
@options.force
@options.allow_disruption
@options.allow_reboot
@options.yes
@options.output()
@options.quiet
@click.pass_obj
def command(
    run: Run,
    inventory: str,
    release: str,
    limit: str | None,
    sets: tuple[str, ...],
    force: tuple[str, ...],
    allow_disruption: bool,
    allow_reboot: bool,
    yes: bool,
    quiet: bool,
) -> int:
    """Bring RELEASE to the hosts of INVENTORY and prove that it serves.

    RELEASE is a name from `flagprov releases list`, or the path of a release file of your own. Only what
    is missing is done: a second run finds no change.
    """
    from flagprov import pipeline
    from flagprov.preparation import prepare

    wanted = request(inventory, release, limit, sets, force, allow_disruption, allow_reboot)
    require_consent(run, yes, lambda: prepare(wanted))
    return change(
        run, lambda approve, on_event: pipeline.deploy(wanted, approve=approve, on_event=on_event),
        yes=yes, quiet=quiet,
    )  # fmt: skip
