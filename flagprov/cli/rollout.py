"""`flagprov rollout`"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from flagprov.cli import options, rolling
from flagprov.cli.changing import change, request, taken_up
from flagprov.cli.plan import show
from flagprov.cli.screen import Run, Screen


@click.command("rollout")
@options.inventory
@options.maybe_release
@options.limit
@options.sets
@click.option("--release-file", metavar="FILE", help="RELEASE as this file has it from now on.")
@options.force
@options.allow_disruption
@options.allow_reboot
@rolling.options
@rolling.surge
@options.save
@options.resume
@options.yes
@options.output()
@options.quiet
@click.pass_obj
def command(
    run: Run,
    /,
    inventory: str,
    release: str | None,
    limit: str | None,
    sets: tuple[str, ...],
    release_file: str | None,
    force: tuple[str, ...],
    allow_disruption: bool,
    allow_reboot: bool,
    surge: bool,
    save: Path | None,
    resume: bool,
    **rest: Any,
) -> int:
    """Change RELEASE over INVENTORY: staged everywhere, one canary per chip, then batches.

    Each changed replica has to answer, as quickly as before, and to stay ready for the soak time. What fails
    is put back as it was, the rest is not touched, and the exit code is 1.
    """
    from flagprov import pipeline
    from flagprov.preparation import prepare

    if release_file:
        release = defined_in(release_file, release)
    wanted = request(inventory, release, limit, sets, force, allow_disruption, allow_reboot)
    how = rolling.surging(rolling.chosen(**rest), surge)
    if (release is None) != resume:
        raise click.UsageError("a release is to be named, or --resume given")
    resumed = taken_up(wanted, "rollout") if resume else None
    if resumed:
        wanted, how = resumed.request, resumed.options
    if save:
        return show(Screen(run), "rollout", wanted, how, save)
    act = partial(pipeline.deploy, wanted, options=how, verb="rollout", resumed=resumed)
    return change(run, act, check=lambda: prepare(wanted))


def defined_in(file: str, release: str | None) -> str:
    """The file as a release's name, where it is the one that was named; raises UsageErrors."""
    from flagprov.catalog import load_release
    from flagprov.errors import UsageError

    path = str(Path(file).absolute())
    found = load_release(path).name
    if release and release != found:
        raise UsageError(
            f"{file} defines {found}, not {release}",
            remedy=f"its `name` is to be {release}; or roll out {found}",
        )
    return path
