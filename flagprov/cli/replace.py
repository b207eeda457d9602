"""`flagprov replace`"""

from __future__ import annotations

from functools import partial

import click

from flagprov.cli import options
from flagprov.cli.changing import change, request
from flagprov.cli.screen import Run


@click.command("replace")
@options.inventory
@click.argument("old", callback=options.said)
@click.argument("new", callback=options.said)
@options.maybe_release
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
    old: str,
    new: str,
    release: str | None,
    sets: tuple[str, ...],
    force: tuple[str, ...],
    allow_disruption: bool,
    allow_reboot: bool,
) -> int:
    """Let the host NEW, a spare of INVENTORY, take over what OLD serves: replicas, or its rank of one.

    Names and ports stay. OLD may be dead; if it answers, it is stopped and cordoned. RELEASE is needed
    where OLD has replicas of several, or of a release file of your own. A host that was set up anew under
    its old name is no other host: `flagprov trust --replace`, then `flagprov deploy`.
    """
    from flagprov import replacing
    from flagprov.fleet import load_fleet

    wanted = request(inventory, release, None, sets, force, allow_disruption, allow_reboot)
    act = partial(replacing.replace, wanted, old, new)
    return change(run, act, check=lambda: load_fleet(wanted.inventory))
