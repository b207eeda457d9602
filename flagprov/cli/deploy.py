"""`flagprov deploy`"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import click

from flagprov.cli import options, rolling
from flagprov.cli.changing import change, request, taken_up
from flagprov.cli.screen import Run


@click.command("deploy")
@options.inventory
@options.maybe_release
@options.limit
@options.sets
@options.force
@options.allow_disruption
@options.allow_reboot
@click.option("--bundle", metavar="FILE", help="All there is of the release: nothing is pulled or fetched.")
@rolling.all_at_once
@options.resume
@options.yes
@options.output()
@options.quiet
@click.pass_obj
def command(
    run: Run,
    inventory: str,
    release: str | None,
    limit: str | None,
    sets: tuple[str, ...],
    force: tuple[str, ...],
    allow_disruption: bool,
    allow_reboot: bool,
    bundle: str | None,
    all_at_once: bool,
    resume: bool,
) -> int:
    """Bring RELEASE to the hosts of INVENTORY and prove that it serves.

    RELEASE is a name from `flagprov releases list`, the path of a release file of your own, or a bundle
    (`flagprov bundle`). Only what is missing is done: a second run finds no change. What serves already is
    changed as `rollout` does it, unless --all-at-once is given.
    """
    from flagprov import pipeline
    from flagprov.preparation import prepare

    if sum((release is not None, bundle is not None, resume)) != 1:
        raise click.UsageError("one of the three is wanted: RELEASE, --bundle FILE (it has one) or --resume")
    wanted = request(inventory, bundle or release, limit, sets, force, allow_disruption, allow_reboot)
    how = replace(pipeline.DEFAULT, at_once=all_at_once)
    resumed = taken_up(wanted, "deploy") if resume else None
    if resumed:
        wanted, how = resumed.request, resumed.options
    act = partial(pipeline.deploy, wanted, options=how, resumed=resumed)
    return change(run, act, check=lambda: prepare(wanted))
